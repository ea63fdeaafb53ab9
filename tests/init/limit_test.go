package inits

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// fewest is how many processes and threads hotinit needs beside the app's, as
// the README has it. It had 16 at most in thousands of starts.
const fewest = 20

// within starts hotinit where there may be no more than so many processes and
// threads, its own included, as docker run --pids-limit has it.
func within(t *testing.T, limit int, words ...string) *box.Box {
	t.Helper()
	dir := processLimit(t)
	if err := os.WriteFile(filepath.Join(dir, "pids.max"), []byte(itoa(limit)), 0); err != nil {
		t.Fatal(err)
	}
	// 0 is the process that writes it, cgroups(7).
	script := `echo 0 >"$0" && exec "$@"`
	args := append([]string{"-c", script, filepath.Join(dir, "cgroup.procs"), box.Hotinit}, words...)
	return run(t, box.Options{Binary: command(t, "sh"), Name: "sh", Args: args})
}

// sound is that Go's runtime has ended neither process for want of a thread.
func sound(t *testing.T, b *box.Box) {
	t.Helper()
	if b.Output.Count(regexp.MustCompile("newosproc|failed to create new OS thread|^fatal error")) > 0 {
		t.Errorf("no thread was to be had:\n%s", b.Output)
	}
}

func TestItWorksWithTheFewestProcesses(t *testing.T) {
	for range 5 {
		b := within(t, fewest+2, "--interval", "50ms", "--", probe(t), "signals", "15")
		b.Line("^ready$")
		b.Signal(unix.SIGHUP)
		b.Line("generation 2 is ready")
		b.Line("generation 1 ended|^got 15$")
		handles(b, 2)
		stop(t, b, 0)
		sound(t, b)
	}
}

// The app takes each process that there may be, and each again that ends.
func TestAForkBombHarmsNobodyButItself(t *testing.T) {
	for _, limit := range []int{fewest + 10, fewest + 40} {
		b := within(t, limit, "--", probe(t), "bomb")
		b.Line("^full$")
		b.Signal(unix.SIGHUP)
		b.Line(`generation 2 cannot be started yet: .*limit of processes`)
		for range 20 {
			// Those that end make room, for the app or for hotinit.
			killed := 0
			for _, p := range b.Processes() {
				if killed < 3 && p.Parent == b.PID() && len(p.Args) > 1 && p.Args[1] == "bomb" && !leads(p.PID) {
					b.SignalTo(p.PID, unix.SIGKILL)
					killed++
				}
			}
			b.Signal(unix.SIGHUP)
			b.Signal(unix.SIGUSR1)
			got(b, 10)
			b.Until("no zombie is left", func() bool {
				for _, p := range b.Processes() {
					if p.Zombie() {
						return false
					}
				}
				return true
			})
		}
		b.Signal(unix.SIGTERM)
		ended(t, b, 7)
		sound(t, b)
		for n := 2; n < 50; n++ {
			if count := b.Output.Count(regexp.MustCompile("generation " + itoa(n) + " cannot be started yet")); count > 1 {
				t.Errorf("of generation %d it is said %d times:\n%s", n, count, b.Output)
			}
		}
	}
}

// leads tells whether a process is the main one of a generation, which leads its
// group.
func leads(pid int) bool { group, err := unix.Getpgid(pid); return err != nil || group == pid }

// Where binfmt_misc loses argv[0] (an emulator without the flag P), a handoff does not
// bear its name. Without a look at what it was handed, it would be an init of its own and
// start a handoff, which would be an init, and so on without end.
func TestAHandoffWithoutItsNameStartsNothing(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	defer theirs.Close()
	c := exec.Command(box.Hotinit, "hotinit", "--", "sh", "-c", "echo started")
	c.ExtraFiles = []*os.File{theirs} // descriptor 3
	out, err := c.CombinedOutput()
	if c.ProcessState.ExitCode() != 125 || !strings.Contains(string(out), "binfmt_misc does not pass on argv[0]") {
		t.Errorf("%v: %s", err, out)
	}
}
