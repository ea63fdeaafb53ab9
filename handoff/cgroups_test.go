package handoff

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/cgroup"
	"github.com/hotinit/hotinit/internal/cgroup/cgrouptest"
	"github.com/hotinit/hotinit/internal/settings"
	"github.com/hotinit/hotinit/internal/spawn"
)

// withCgroups makes cgroups in a cgroup of the test's own.
func withCgroups(t *testing.T) *cgroups {
	t.Helper()
	root, err := cgrouptest.Hierarchy()
	if err != nil {
		t.Skip("needs cgroup2 and root:", err)
	}
	name := fmt.Sprintf("test-handoff-%d-%s", os.Getpid(), t.Name())
	dir, err := cgroup.Make(root, name)
	if err != nil {
		t.Skip("cgroups cannot be made here:", err)
	}
	t.Cleanup(func() {
		if err := cgroup.Remove(root, name); err != nil {
			t.Errorf("cannot remove %s: %v", name, err)
		}
		unix.Close(dir)
		unix.Close(root)
	})
	return &cgroups{common: &common{plan: &plan{cfg: &settings.Config{}}}, dir: dir, prefix: "hotinit-1-0-"}
}

// outside starts a process that is in no generation's cgroup, as where the
// kernel has no CLONE_INTO_CGROUP.
func outside(t *testing.T) (spawn.Child, *exec.Cmd) {
	t.Helper()
	c := exec.Command("sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	return spawn.Child{PID: c.Process.Pid, PIDFD: -1}, c
}

func TestAProcessThatWasNotStartedInItsCgroupIsMoved(t *testing.T) {
	s := withCgroups(t)
	child, c := outside(t)
	dir := s.make(3)
	s.enter(3, dir, child)
	unix.Close(dir)
	if got := s.members(3); !slices.Equal(got, []int{child.PID}) {
		t.Errorf("in it are %v, want %d", got, child.PID)
	}
	s.remove(3) // it stays
	s.kill(2)
	s.kill(3)
	_ = c.Process.Kill() // where there is no cgroup.kill
	_ = c.Wait()
	s.remove(3)
	if got := cgroup.Names(s.dir, ""); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

func TestACgroupThatAnotherHotinitRemovedIsMadeOnceMore(t *testing.T) {
	s := withCgroups(t)
	child, _ := outside(t)
	dir := s.make(3)
	defer unix.Close(dir)
	s.remove(3)
	s.enter(3, dir, child)
	if got := s.members(3); !slices.Equal(got, []int{child.PID}) {
		t.Errorf("in it are %v, want %d", got, child.PID)
	}
}

func TestWithoutCgroupsNobodyIsInOne(t *testing.T) {
	s := &cgroups{common: &common{plan: &plan{cfg: &settings.Config{}}}, dir: -1}
	if dir := s.make(1); dir != -1 {
		t.Errorf("the directory is %d", dir)
	}
	s.enter(1, -1, spawn.Child{PID: os.Getpid()})
	s.kill(1)
	s.remove(1)
	if got := s.members(1); got != nil {
		t.Errorf("in it are %v", got)
	}
}
