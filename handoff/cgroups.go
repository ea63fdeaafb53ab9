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

// cgroups are where each generation gets a cgroup of its own. Whether one has
// is told by its name being there, so nothing of it is in the record.
type cgroups struct {
	dir    int    // the folder of hotinit's own, -1 where none may be made
	prefix string // of the names; the generation's number follows
}

// findCgroups takes what the handoff before had, or else finds out whether
// there can be any. Where there cannot, nothing is lost but what left its
// group, its parent and its environment.
func (s *supervisor) findCgroups(resumed bool) {
	c := &s.cgroups
	c.dir = -1
	for name := range s.link.kept {
		if prefix, ok := strings.CutPrefix(name, message.Cgroup); ok {
			c.dir, c.prefix = s.link.take(name), prefix
			return
		}
	}
	if resumed {
		return
	}
	var err error
	switch s.cfg.Cgroup {
	case settings.CgroupOff:
		return
	case settings.CgroupOn:
		c.dir, err = cgroup.OwnAnywhere()
	default:
		if s.contract.Plain && !s.cfg.Watch && s.cfg.ReloadSignal == 0 {
			return // a plain init, under the name of one: nothing is swapped
		}
		c.dir, err = cgroup.Own(os.Getppid() == 1)
	}
	if err != nil {
		s.withoutCgroup("generations have no cgroups of their own", err)
		return
	}
	// Those that a killed hotinit has left. One that another is just making may
	// be among them: it makes it once more.
	cgroup.RemoveAll(c.dir, cgroup.Prefix)
	// Another hotinit may be in the same cgroup, and PID 1 of a namespace too.
	c.prefix = fmt.Sprintf("%s%d-%08x-", cgroup.Prefix, os.Getppid(), uint32(time.Now().UnixNano()))
	// Before there is any: init removes them in the end, and the next handoff
	// finds them.
	if err := s.link.keep(message.Cgroup+c.prefix, c.dir); err != nil {
		say.Line("%v", err)
	}
}

func (s *supervisor) withoutCgroup(what string, err error) {
	if s.cfg.Cgroup == settings.CgroupOn {
		say.Line("%s, though --cgroup on asks for them: %v; they are told by group, parent and environment", what, err)
	} else if s.cfg.Verbosity > 1 {
		say.Line("%s: %v", what, err)
	}
}

func (c *cgroups) name(n int) string { return c.prefix + strconv.Itoa(n) }

// makeCgroup returns the folder of a generation's new cgroup, -1 for none.
func (s *supervisor) makeCgroup(n int) int {
	c := &s.cgroups
	if c.dir < 0 {
		return -1
	}
	dir, err := cgroup.Make(c.dir, c.name(n))
	if err != nil {
		s.withoutCgroup(fmt.Sprintf("generation %d has no cgroup", n), err)
		return -1
	}
	return dir
}

// enterCgroup has a generation's main process be in its cgroup, where it was
// not started there. It has executed nothing yet, so it has no children.
func (s *supervisor) enterCgroup(n, dir int, child spawn.Child) {
	if dir < 0 || child.InCgroup {
		return
	}
	err := cgroup.Enter(dir, child.PID)
	if err == unix.ENOENT || err == unix.ENODEV {
		// Another hotinit took it for one that was left behind.
		if again := s.makeCgroup(n); again >= 0 {
			err = cgroup.Enter(again, child.PID)
			unix.Close(again)
		}
	}
	if err != nil {
		s.withoutCgroup(fmt.Sprintf("generation %d has no cgroup", n), err)
		s.removeCgroup(n)
	}
}

// inCgroup returns the processes in a generation's cgroup.
func (s *supervisor) inCgroup(n int) []int {
	c := &s.cgroups
	if c.dir < 0 {
		return nil
	}
	var pids []int
	for _, pid := range cgroup.Members(c.dir, c.name(n)) {
		// Linux before 5.2 lists zombies, too.
		if st, err := proc.Read(pid); err == nil && st.Alive() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// killCgroup kills all that is in a generation's cgroup.
func (s *supervisor) killCgroup(n int) {
	if c := &s.cgroups; c.dir >= 0 {
		_ = cgroup.Kill(c.dir, c.name(n))
	}
}

// removeCgroup removes a generation's cgroup, unless something is in it: then
// init does in the end.
func (s *supervisor) removeCgroup(n int) {
	c := &s.cgroups
	if c.dir < 0 {
		return
	}
	if err := cgroup.Remove(c.dir, c.name(n)); err != nil && s.cfg.Verbosity > 1 {
		say.Line("cannot remove the cgroup of generation %d yet: %v", n, err)
	}
}
