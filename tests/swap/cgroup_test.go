package swap

import (
	"fmt"
	"github.com/hotinit/hotinit/internal/testkit/site"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/cgroup"
	"github.com/hotinit/hotinit/internal/cgroup/cgrouptest"
	"github.com/hotinit/hotinit/internal/testkit/box"
)

// traceless is an app that leaves a process which has left its group, its
// session, its parent and its environment, and does not go when it is told to.
// The number of its generation is in its words.
const traceless = `
(setsid env -i sh -c "trap '' TERM; exec sleep 9000$HOTINIT_GENERATION" &)
echo "generation $HOTINIT_GENERATION begun"
exec sleep 1000`

// cage is a cgroup that stands in for a container's.
type cage struct {
	t         *testing.T
	hierarchy int // the directory of all cgroups
	dir       int // its own
	name      string
}

var cages atomic.Int64

// newCage makes a cgroup, and removes it when the test has ended.
func newCage(t *testing.T) *cage {
	t.Helper()
	c := &cage{t: t, name: fmt.Sprintf("test-hotinit-%d-%d", os.Getpid(), cages.Add(1))}
	var err error
	if c.hierarchy, err = cgrouptest.Hierarchy(); err == nil {
		c.dir, err = cgroup.Make(c.hierarchy, c.name)
	}
	box.Need(t, "cgroup2", err)
	t.Cleanup(func() {
		if err := cgroup.Remove(c.hierarchy, c.name); err != nil {
			t.Errorf("cannot remove the cgroup %s: %v", c.name, err)
		}
		unix.Close(c.dir)
		unix.Close(c.hierarchy)
	})
	return c
}

// cgroups returns those that hotinit has made in the cage, in order.
func (c *cage) cgroups() []string {
	names := cgroup.Names(c.dir, cgroup.Prefix)
	slices.Sort(names)
	return names
}

// ways are how a container can see its own cgroup.
var ways = map[string]struct {
	before string
	flags  uintptr
}{
	"docker run --privileged":          {"mount -t cgroup2 none /sys/fs/cgroup", unix.CLONE_NEWCGROUP},
	"--cgroupns host":                  {"mount -t cgroup2 none /sys/fs/cgroup", 0},
	"-v /sys/fs/cgroup:/sys/fs/cgroup": {"mount -t cgroup2 none /sys/fs/cgroup && with='unshare --cgroup'", 0},
	"beside v1": {"mount -t tmpfs none /sys/fs/cgroup && mkdir /sys/fs/cgroup/unified && " +
		"mount -t cgroup2 none /sys/fs/cgroup/unified", unix.CLONE_NEWCGROUP},
}

// caged opens a site in a cage.
func caged(t *testing.T, way string, o site.Options) (*site.Site, *cage) {
	t.Helper()
	c := newCage(t)
	return c.open(way, o), c
}

func (c *cage) open(way string, o site.Options) *site.Site {
	c.t.Helper()
	o.Before = ways[way].before
	if strings.Contains(o.Before, "unshare") {
		site.Need(c.t, "unshare")
	}
	o.Attr = func(a *syscall.SysProcAttr) {
		a.UseCgroupFD, a.CgroupFD = true, c.dir
		a.Cloneflags |= ways[way].flags
	}
	return site.Open(c.t, o)
}

// sleeper returns the process that a generation of traceless has left.
func sleeper(s *site.Site, generation int) (found box.Process, ok bool) {
	s.T.Helper()
	for _, p := range s.Processes() {
		if len(p.Args) == 2 && p.Args[0] == "sleep" && p.Args[1] == fmt.Sprint(90000+generation) && !p.Zombie() {
			return p, true
		}
	}
	return found, false
}

func leaves(s *site.Site, generation int) box.Process {
	s.T.Helper()
	var p box.Process
	s.Until(fmt.Sprintf("generation %d leaves a process", generation), func() (ok bool) {
		p, ok = sleeper(s, generation)
		return ok
	})
	return p
}

// gone waits until a generation is, and checks that the other's process is not.
func gone(s *site.Site, generation int, other box.Process) {
	s.T.Helper()
	s.Until(fmt.Sprintf("generation %d is gone", generation), func() bool { return s.Generation(generation) == nil })
	if p, ok := sleeper(s, generation); ok {
		s.T.Errorf("generation %d is gone and %v is not:\n%s", generation, p, s.Output)
	}
	if p, ok := s.Find(other.Inside); !ok || p.PID != other.PID || p.Zombie() {
		s.T.Errorf("process %v of the newer generation is gone:\n%s", other, s.Output)
	}
}

func TestWhatLeftWithoutATraceGoesWithItsGeneration(t *testing.T) {
	for way := range ways {
		t.Run(way, func(t *testing.T) {
			s, c := caged(t, way, site.Options{Script: traceless, Flags: []string{"--interval", "100ms", "--drain-timeout", "200ms", "--stop-timeout", "500ms"}})
			leaves(s, 1)
			s.Becomes(1, "current")
			if got := c.cgroups(); len(got) != 1 || !strings.HasSuffix(got[0], "-1") {
				t.Errorf("the cgroups are %q", got)
			}
			s.Signal(unix.SIGHUP)
			other := leaves(s, 2)
			gone(s, 1, other)
			if got := c.cgroups(); len(got) != 1 || !strings.HasSuffix(got[0], "-2") {
				t.Errorf("the cgroups are %q", got)
			}
			s.Stop(143)
			if got := c.cgroups(); len(got) != 0 {
				t.Errorf("left: %q", got)
			}
		})
	}
}

func TestTheNextHandoffFindsWhatLeftWithoutATrace(t *testing.T) {
	s, c := caged(t, "docker run --privileged", site.Options{Script: traceless, Flags: []string{"--interval", "100ms", "--drain-timeout", "3s", "--stop-timeout", "500ms"}})
	leaves(s, 1)
	s.Becomes(1, "current")
	s.KillHandoff()
	s.Becomes(1, "current")
	s.Signal(unix.SIGHUP)
	other := leaves(s, 2)
	s.Becomes(1, "lingering")
	s.KillHandoff()
	gone(s, 1, other)
	if got := c.cgroups(); len(got) != 1 || !strings.HasSuffix(got[0], "-2") {
		t.Errorf("the cgroups are %q", got)
	}
	s.Stop(143)
	if got := c.cgroups(); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

func TestTwoInOneCgroupDoNotMeet(t *testing.T) {
	c := newCage(t)
	o := site.Options{Script: traceless, Flags: []string{"--interval", "100ms", "--drain-timeout", "200ms", "--stop-timeout", "500ms"}}
	one := c.open("docker run --privileged", o)
	o.Beside = true
	two := c.open("docker run --privileged", o)
	stays := leaves(two, 1)
	two.Becomes(1, "current")
	leaves(one, 1)
	one.Becomes(1, "current")
	if got := c.cgroups(); len(got) != 2 {
		t.Errorf("the cgroups are %q", got)
	}
	one.Signal(unix.SIGHUP)
	gone(one, 1, leaves(one, 2))
	one.Stop(143)
	if p, ok := two.Find(stays.Inside); !ok || p.PID != stays.PID {
		t.Errorf("process %v of the other is gone", stays)
	}
	if got := c.cgroups(); len(got) != 1 {
		t.Errorf("the cgroups are %q", got)
	}
	two.Stop(143)
}

func TestCgroupsThatAKilledHotinitLeftAreRemoved(t *testing.T) {
	c := newCage(t)
	left, err := cgroup.Make(c.dir, cgroup.Prefix+"1-0000aaaa-7")
	if err == nil {
		err = unix.Mkdirat(left, "below", 0o755)
		unix.Close(left)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := c.open("docker run --privileged", site.Options{Script: traceless, Flags: []string{"--stop-timeout", "500ms"}})
	leaves(s, 1)
	if got := c.cgroups(); len(got) != 1 || strings.Contains(got[0], "aaaa") {
		t.Errorf("the cgroups are %q", got)
	}
	s.Stop(143)
}

// A container without privileges sees its cgroup, and may not write.
func TestWhereNoCgroupCanBeMadeNothingElseIsLost(t *testing.T) {
	for _, when := range []string{"auto", "on"} {
		t.Run(when, func(t *testing.T) {
			c := newCage(t)
			s := site.Open(t, site.Options{Script: traceless, Flags: []string{"--interval", "100ms", "--stop-timeout", "500ms", "--cgroup", when},
				Before: "mount -t cgroup2 none /sys/fs/cgroup && mount -o remount,bind,ro /sys/fs/cgroup",
				Attr: func(a *syscall.SysProcAttr) {
					a.UseCgroupFD, a.CgroupFD = true, c.dir
					a.Cloneflags |= unix.CLONE_NEWCGROUP
				}})
			leaves(s, 1)
			s.Becomes(1, "current")
			if when == "on" {
				s.Line(`generations have no cgroups of their own, though --cgroup on asks for them: /sys/fs/cgroup.* is mounted read-only`)
			} else {
				s.Never("cgroup")
			}
			s.Signal(unix.SIGHUP)
			leaves(s, 2)
			s.Until("generation 1 is gone", func() bool { return s.Generation(1) == nil })
			if _, ok := sleeper(s, 1); !ok {
				t.Error("the process without a trace is gone: this test tests nothing")
			}
			if got := c.cgroups(); len(got) != 0 {
				t.Errorf("the cgroups are %q", got)
			}
			s.Stop(143)
		})
	}
}

// Outside of a container a cgroup is somebody's, systemd's for one, and only
// what is marked so is hotinit's.
func TestOutsideOfAContainerOnlyADelegatedCgroupIsUsed(t *testing.T) {
	for _, delegated := range []bool{false, true} {
		t.Run(fmt.Sprint(delegated), func(t *testing.T) {
			c := newCage(t)
			if delegated {
				box.Need(t, "xattr", unix.Fsetxattr(c.dir, "trusted.delegate", []byte("1"), 0))
			}
			s := site.Open(t, site.Options{Script: "echo begun; exec sleep 1000", Sub: true, Before: ways["--cgroupns host"].before,
				Attr: func(a *syscall.SysProcAttr) {
					a.UseCgroupFD, a.CgroupFD = true, c.dir
					a.Unshareflags |= unix.CLONE_NEWNS
				}})
			s.Line("^begun$")
			if got := c.cgroups(); (len(got) == 1) != delegated {
				t.Errorf("the cgroups are %q", got)
			}
			s.Stop(143)
			if got := c.cgroups(); len(got) != 0 {
				t.Errorf("left: %q", got)
			}
		})
	}
}
