package inits

import (
	"os"
	"path/filepath"
	"regexp"
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
