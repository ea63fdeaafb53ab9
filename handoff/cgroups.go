package handoff

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/cgroup"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/proc"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/settings"
	"github.com/hotinit/hotinit/internal/spawn"
)

// cgroups makes a cgroup for each generation of a program. A generation has one
// if its name is there, so the record says nothing about cgroups.
type cgroups struct {
	*common
	dir    int    // the directory of hotinit's own cgroup, -1 where none can be made
	prefix string // of the names; the generation's number follows
}

// find takes over what the last handoff used, or finds out whether cgroups can
// be made. Without them, only a process that left its process group, its parent
// and its environment is lost.
func (c *cgroups) find(resumed bool) {
	c.dir = -1
	mode := c.cfg.Cgroup
	if mode == settings.CgroupOff {
		return
	}
	if mode == settings.CgroupAuto && c.contract.Plain && !c.cfg.Watch && c.cfg.ReloadSignal == 0 {
		return // a plain init, under the name of one: nothing is swapped
	}
	t, err := c.trees.find(c.link, mode, resumed)
	if err != nil {
		c.without("generations have no cgroups of their own", err)
		return
	}
	c.dir, c.prefix = t.dir, t.prefix+c.name+"-"
}

// cgroupTrees are the directories in which hotinit makes cgroups, for all programs:
// where that hides no limit, and anywhere.
type cgroupTrees map[settings.Cgroup]*cgroupTree

type cgroupTree struct {
	dir    int // -1 where none can be made
	prefix string
	err    error
}

// anywhere ends the prefix of the cgroups that may hide a limit.
const anywhere = "on-"

func (t cgroupTrees) find(l *link, mode settings.Cgroup, resumed bool) (*cgroupTree, error) {
	if tree := t[mode]; tree != nil {
		return tree, tree.err
	}
	tree := &cgroupTree{dir: -1}
	t[mode] = tree
	for name := range l.kept {
		prefix, ok := strings.CutPrefix(name, message.Cgroup)
		if ok && strings.HasSuffix(prefix, anywhere) == (mode == settings.CgroupOn) {
			tree.dir, tree.prefix = l.take(name), prefix
			return tree, nil
		}
	}
	if resumed {
		return tree, nil
	}
	if mode == settings.CgroupOn {
		tree.dir, tree.err = cgroup.OwnAnywhere()
	} else {
		tree.dir, tree.err = cgroup.Own(os.Getppid() == 1)
	}
	if tree.err != nil {
		return tree, tree.err
	}
	// A killed hotinit leaves its cgroups behind. If another hotinit is just
	// making one, this may remove it; the other one then makes it again.
	cgroup.RemoveAll(tree.dir, cgroup.Prefix)
	// The PID is not enough: another hotinit in the same cgroup may be PID 1 of
	// its namespace, too.
	tree.prefix = fmt.Sprintf("%s%d-%08x-", cgroup.Prefix, os.Getppid(), uint32(time.Now().UnixNano()))
	if mode == settings.CgroupOn {
		tree.prefix += anywhere
	}
	// Init must know the prefix before there is a cgroup: it removes them at the
	// end, and the next handoff finds them by it.
	if err := l.keep(message.Cgroup+tree.prefix, tree.dir); err != nil {
		say.Line("%v", err)
	}
	return tree, nil
}

func (c *cgroups) without(what string, err error) {
	if c.cfg.Cgroup == settings.CgroupOn {
		c.line("%s, though --cgroup on asks for them: %v; their processes are identified by process group, parent and environment", what, err)
	} else {
		c.detail("%s: %v", what, err)
	}
}

func (c *cgroups) nameOf(n int) string { return c.prefix + strconv.Itoa(n) }

// make returns the directory of a generation's new cgroup, -1 for none.
func (c *cgroups) make(n int) int {
	if c.dir < 0 {
		return -1
	}
	dir, err := cgroup.Make(c.dir, c.nameOf(n))
	if err != nil {
		c.without(fmt.Sprintf("generation %d has no cgroup", n), err)
		return -1
	}
	return dir
}

// enter moves a generation's main process into its cgroup, if it was not started
// there. It has not executed anything yet, so it has no children.
func (c *cgroups) enter(n, dir int, child spawn.Child) {
	if dir < 0 || child.InCgroup {
		return
	}
	err := cgroup.Enter(dir, child.PID)
	if err == unix.ENOENT || err == unix.ENODEV {
		// Another hotinit removed it, as left behind.
		if again := c.make(n); again >= 0 {
			err = cgroup.Enter(again, child.PID)
			unix.Close(again)
		}
	}
	if err != nil {
		c.without(fmt.Sprintf("generation %d has no cgroup", n), err)
		c.remove(n)
	}
}

// members returns the processes in a generation's cgroup.
func (c *cgroups) members(n int) []int {
	if c.dir < 0 {
		return nil
	}
	var pids []int
	for _, pid := range cgroup.Members(c.dir, c.nameOf(n)) {
		// Linux before 5.2 lists zombies, too.
		if st, err := proc.Read(pid); err == nil && st.Alive() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// kill kills all that is in a generation's cgroup.
func (c *cgroups) kill(n int) {
	if c.dir >= 0 {
		_ = cgroup.Kill(c.dir, c.nameOf(n))
	}
}

// remove removes a generation's cgroup. One that still has a process in it stays,
// and init removes it at the end.
func (c *cgroups) remove(n int) {
	if c.dir < 0 {
		return
	}
	if err := cgroup.Remove(c.dir, c.nameOf(n)); err != nil && c.cfg.Verbosity > 1 {
		c.line("cannot remove the cgroup of generation %d yet: %v", n, err)
	}
}
