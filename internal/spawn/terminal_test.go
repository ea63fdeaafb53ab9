package spawn

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal opens the slave of a new pseudoterminal, see pty(7).
func terminal(t *testing.T) int {
	t.Helper()
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("there are no pseudoterminals here:", err)
	}
	t.Cleanup(func() { _ = unix.Close(master) })
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := unix.Open("/dev/pts/"+strconv.Itoa(n), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(slave) })
	return slave
}

func TestForegroundGivesTheNewSessionTheTerminal(t *testing.T) {
	s := spec(t, "")
	// Its group and the terminal's foreground group, see proc_pid_stat(5).
	s.Path, s.Argv = "/bin/sh", []string{"sh", "-c", "cut -d' ' -f5,8 /proc/$$/stat"}
	s.Files[0], s.Setsid, s.Foreground = terminal(t), true, 0
	out, child := output(t, s)
	if pid := strconv.Itoa(child.PID); strings.TrimSpace(out) != pid+" "+pid {
		t.Errorf("%q, not twice %s", out, pid)
	}
}

func TestForkedIsCalledBeforeTheProgramIsExecuted(t *testing.T) {
	s := spec(t, "")
	s.Path, s.Argv = "/bin/true", []string{"true"}
	var forked Child
	var exe string
	s.Forked = func(c Child) {
		forked = c
		exe, _ = os.Readlink("/proc/" + strconv.Itoa(c.PID) + "/exe")
	}
	c := start(t, s)
	if exe != self(t) || forked != c {
		t.Errorf("it was %q then; %v, %v", exe, forked, c)
	}
	if ws := wait(t, c); ws != 0 {
		t.Errorf("%#x", ws)
	}
}
