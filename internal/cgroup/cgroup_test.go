package cgroup

import (
	"fmt"
	"os/exec"
	"slices"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/cgroup/cgrouptest"
)

var made atomic.Int64

// start returns the directory of a cgroup of the test's own.
func start(t *testing.T) int {
	t.Helper()
	root, err := cgrouptest.Hierarchy()
	if err != nil {
		t.Skip("needs cgroup2 and root:", err)
	}
	name := fmt.Sprintf("test-cgroup-%d-%d", unix.Getpid(), made.Add(1))
	dir, err := Make(root, name)
	if err != nil {
		t.Skip("cgroups cannot be made here:", err)
	}
	t.Cleanup(func() {
		if err := Remove(root, name); err != nil {
			t.Errorf("cannot remove %s: %v", name, err)
		}
		unix.Close(dir)
		unix.Close(root)
	})
	return dir
}

// making makes a cgroup, and returns its directory.
func making(t *testing.T, parent int, name string) int {
	t.Helper()
	dir, err := Make(parent, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(dir) })
	return dir
}

// sleeper starts a process in a cgroup. It has ended when the test has.
func sleeper(t *testing.T, dir int) *exec.Cmd {
	t.Helper()
	c := exec.Command("sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	if err := Enter(dir, c.Process.Pid); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestMembersAreThoseBelowToo(t *testing.T) {
	root := start(t)
	one := making(t, root, "one")
	below := making(t, making(t, one, "a"), "b")
	other := making(t, root, "other")
	want := []int{sleeper(t, one).Process.Pid, sleeper(t, below).Process.Pid}
	sleeper(t, other)
	got := Members(root, "one")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := Members(root, "none"); got != nil {
		t.Errorf("one that is not there has %v", got)
	}
}

func TestKillKillsThoseBelowToo(t *testing.T) {
	root := start(t)
	one := making(t, root, "one")
	killed := []*exec.Cmd{sleeper(t, one), sleeper(t, making(t, one, "a"))}
	stays := sleeper(t, making(t, root, "other"))
	if err := Kill(root, "one"); err == unix.ENOENT {
		t.Skip("this kernel has no cgroup.kill")
	} else if err != nil {
		t.Fatal(err)
	}
	for _, c := range killed {
		if c.Wait(); c.ProcessState.String() != "signal: killed" {
			t.Errorf("one of them ended so: %v", c.ProcessState)
		}
	}
	if err := stays.Process.Signal(unix.Signal(0)); err != nil || len(Members(root, "other")) != 1 {
		t.Errorf("the other was killed too: %v", err)
	}
}

func TestRemoveRemovesThoseBelowFirst(t *testing.T) {
	root := start(t)
	one := making(t, root, "one")
	making(t, making(t, one, "a"), "b")
	making(t, one, "c")
	if err := Remove(root, "one"); err != nil {
		t.Error(err)
	}
	if err := Remove(root, "one"); err != nil {
		t.Error("one that is gone:", err)
	}
	if got := Names(root, ""); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

// What is in use stays as a whole: also what the app has made and not used yet.
func TestRemoveLeavesWhatIsInUse(t *testing.T) {
	root := start(t)
	one := making(t, root, "one")
	making(t, one, "a")
	c := sleeper(t, making(t, one, "b"))
	if err := Remove(root, "one"); err != unix.EBUSY {
		t.Errorf("%v, want EBUSY", err)
	}
	got := Names(one, "")
	slices.Sort(got)
	if !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("left: %q", got)
	}
	_ = c.Process.Kill()
	_ = c.Wait()
	if err := Remove(root, "one"); err != nil {
		t.Error(err)
	}
}

func TestRemoveAllGoesByTheName(t *testing.T) {
	root := start(t)
	for i := range 300 { // more than one getdents64(2) has
		if err := unix.Mkdirat(root, fmt.Sprintf("ours-%d", i), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	making(t, root, "theirs-1")
	RemoveAll(root, "ours-")
	if got := Names(root, ""); !slices.Equal(got, []string{"theirs-1"}) {
		t.Errorf("left: %q", got)
	}
}

func TestMakeTakesWhatIsThere(t *testing.T) {
	root := start(t)
	making(t, root, "one")
	making(t, root, "one")
	if _, err := Make(root, "none/one"); err != unix.ENOENT {
		t.Errorf("%v, want ENOENT", err)
	}
}
