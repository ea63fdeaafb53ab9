package reaper

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/spawn"
)

const role = "REAPER_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "orphans":
		orphans()
	}
}

// shell starts a shell command as a child of the test, in a group of its own.
func shell(t *testing.T, command string) spawn.Child {
	t.Helper()
	c, err := spawn.Start(&spawn.Spec{
		Path: "/bin/sh", FD: -1, Argv: []string{"sh", "-c", command}, Env: os.Environ(), Files: []int{0, 1, 2},
		Setpgid: true, Umask: -1, Foreground: -1, Cgroup: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// stranger starts a command as the child of a shell that waits for it, or that
// never does. It returns the command's PID, and what ends the parent.
func stranger(t *testing.T, command string, collected bool) (pid int, end func()) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	then := "wait; exec sleep 60"
	if !collected {
		then = "exec sleep 60"
	}
	c, err := spawn.Start(&spawn.Spec{
		Path: "/bin/sh", FD: -1, Argv: []string{"sh", "-c", "(" + command + ") >/dev/null & echo $!; exec >/dev/null; " + then},
		Env: os.Environ(), Files: []int{0, p[1], 2}, Setpgid: true, Umask: -1, Foreground: -1, Cgroup: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(p[1])
	b := make([]byte, 64)
	n, _ := unix.Read(p[0], b)
	_ = unix.Close(p[0])
	if pid, err = strconv.Atoi(strings.TrimSpace(string(b[:max(n, 0)]))); err != nil {
		t.Fatal("the shell told no PID:", err)
	}
	parent := Own(c.PID, c.PIDFD)
	return pid, func() {
		_ = parent.SignalGroup(c.PID, unix.SIGKILL)
		parent.Wait()
		parent.Close()
	}
}

// fallback runs a test as it is, and as on a kernel without pidfds.
func fallback(t *testing.T, f func(*testing.T)) {
	t.Run("pidfd", f)
	t.Run("without", func(t *testing.T) {
		forceNoPIDFD = true
		defer func() { forceNoPIDFD = false }()
		f(t)
	})
}

// own makes a Process of a child, without its pidfd where that is forced.
func own(c spawn.Child) *Process { return Own(c.PID, given(c)) }

func given(c spawn.Child) int {
	if !forceNoPIDFD {
		return c.PIDFD
	}
	_ = unix.Close(c.PIDFD)
	return -1
}

// needExitInfo skips the test unless the kernel knows PIDFD_INFO_EXIT.
func needExitInfo(t *testing.T) {
	t.Helper()
	c := shell(t, "exit 9")
	p := Own(c.PID, c.PIDFD)
	p.Wait()
	p.Release()
	defer p.Close()
	if exit, seen := p.lookForeign(); seen != over || !exit.Known {
		t.Skip("this kernel does not tell the status of other processes' children")
	}
}
