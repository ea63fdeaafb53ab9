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
	for name := range c.link.kept {
		if prefix, ok := strings.CutPrefix(name, message.Cgroup); ok && strings.HasSuffix(prefix, "-"+c.name+"-") {
			c.dir, c.prefix = c.link.take(name), prefix
			return
		}
	}
	if resumed {
		return
	}
	var err error
	switch c.cfg.Cgroup {
	case settings.CgroupOff:
		return
	case settings.CgroupOn:
		c.dir, err = cgroup.OwnAnywhere()
	default:
		if c.contract.Plain && !c.cfg.Watch && c.cfg.ReloadSignal == 0 {
			return // a plain init, under the name of one: nothing is swapped
		}
		c.dir, err = cgroup.Own(os.Getppid() == 1)
	}
	if err != nil {
		c.without("generations have no cgroups of their own", err)
		return
	}
	// A killed hotinit leaves its cgroups behind. If another hotinit is just
	// making one, this may remove it; the other one then makes it again.
	cgroup.RemoveAll(c.dir, cgroup.Prefix)
	// The PID is not enough: another hotinit in the same cgroup may be PID 1 of
	// its namespace, too.
	c.prefix = fmt.Sprintf("%s%d-%08x-%s-", cgroup.Prefix, os.Getppid(), uint32(time.Now().UnixNano()), c.name)
	// Init must know the prefix before there is a cgroup: it removes them at the
	// end, and the next handoff finds them by it.
	if err := c.link.keep(message.Cgroup+c.prefix, c.dir); err != nil {
		say.Line("%v", err)
	}
}

func (c *cgroups) without(what string, err error) {
	if c.cfg.Cgroup == settings.CgroupOn {
		say.Line("%s, though --cgroup on asks for them: %v; their processes are identified by process group, parent and environment", what, err)
	} else {
		say.Detail("%s: %v", what, err)
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
		say.Line("cannot remove the cgroup of generation %d yet: %v", n, err)
	}
}
