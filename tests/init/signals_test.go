package inits

import (
	"fmt"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// catchable are the signals that an init can relay.
func catchable() (signals []int) {
	for n := 1; n <= 64; n++ {
		switch unix.Signal(n) {
		case unix.SIGKILL, unix.SIGSTOP: // cannot be caught
		case unix.SIGCHLD: // an init's own: its children end
		default:
			signals = append(signals, n)
		}
	}
	return signals
}

func TestEverySignalReachesTheApp(t *testing.T) {
	compare(t, "tini catatonit", func(t *testing.T, start func(*testing.T, ...string) *box.Box) {
		words := []string{"--", probe(t), "signals"}
		other := strings.Contains(t.Name(), "/tini") || strings.Contains(t.Name(), "/catatonit")
		if !other {
			words = append([]string{"--reload-signal", "none"}, words...)
		}
		b := start(t, words...)
		b.Line("^ready$")
		for _, n := range catchable() {
			switch unix.Signal(n) {
			case unix.SIGTERM, unix.SIGINT, unix.SIGQUIT: // they stop hotinit: the next test
				continue
			case unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGSYS,
				unix.SIGTTIN, unix.SIGTTOU, unix.SIGTSTP, 32, 33:
				// tini and catatonit leave out those that tell of errors of
				// their own, and their C library has 32 and 33.
				if other {
					continue
				}
			}
			b.Signal(unix.Signal(n))
			got(b, n)
		}
	})
}

func TestASignalThatStopsReachesTheAppAndMayBeTheStopSignal(t *testing.T) {
	for _, n := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGQUIT} {
		t.Run(unix.SignalName(n), func(t *testing.T) {
			compare(t, "tini dumb-init catatonit", func(t *testing.T, start func(*testing.T, ...string) *box.Box) {
				b := start(t, "--", probe(t), "signals", strconv.Itoa(int(n)))
				b.Line("^ready$")
				b.Signal(n)
				got(b, int(n))
				ended(t, b, 0)
			})
		})
	}
}

func TestHUPIsRelayedWhereItAsksForNoSwap(t *testing.T) {
	compare(t, "tini dumb-init catatonit", func(t *testing.T, start func(*testing.T, ...string) *box.Box) {
		words := []string{"--", probe(t), "signals", "15"}
		if strings.HasSuffix(t.Name(), "/hotinit") {
			words = append([]string{"--reload-signal=none"}, words...)
		}
		b := start(t, words...)
		b.Line("^ready$")
		b.Signal(unix.SIGHUP)
		got(b, 1)
		stop(t, b, 0)
	})
}

// Pending real-time signals are taken lowest first, and the same one as often
// as it was sent, signal(7): sent in that order, they have to arrive in it.
func TestSignalsInARowArriveAllAndInOrder(t *testing.T) {
	compare(t, "tini", func(t *testing.T, start func(*testing.T, ...string) *box.Box) {
		b := start(t, "--", probe(t), "signals", "15")
		b.Line("^ready$")
		var want []string
		for n := 35; n <= 64; n++ {
			for range 3 {
				b.Signal(unix.Signal(n))
				want = append(want, fmt.Sprintf("got %d", n))
			}
		}
		got(b, 64)
		got(b, 64)
		got(b, 64)
		stop(t, b, 0)
		lines := slices.DeleteFunc(b.Output.All(), func(line string) bool { return line == "ready" || line == "got 15" })
		if !slices.Equal(lines, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, " "), strings.Join(want, " "))
		}
	})
}

// Go's runtime interrupts its threads by SIGURG; two thousand orphans make it
// collect garbage and switch a lot.
func TestNoSIGURGOfTheRuntimeReachesTheApp(t *testing.T) {
	b := start(t, "--", command(t, "sh"), "-c", box.App+" -orphans 6000 -exit 0; exec "+probe(t)+" signals 15")
	b.Line("^ready$")
	stop(t, b, 0)
	if n := b.Output.Count(regexp.MustCompile(`^got 23`)); n != 0 {
		t.Errorf("%d SIGURG that nobody sent arrived", n)
	}
}

// firstInstant starts hotinit, not as PID 1 (there an ordinary signal would
// kill it), stops it after its first system call, and lets it go on once the
// signals are there.
func firstInstant(t *testing.T, words []string, signals ...int) (output string, status syscall.WaitStatus) {
	t.Helper()
	runtime.LockOSThread() // all ptrace(2) requests come from one thread
	defer runtime.UnlockOSThread()
	var out strings.Builder
	c := exec.Command(words[0], words[1:]...)
	c.Stdout, c.Stderr = &out, &out
	c.Env = box.Environment()
	c.SysProcAttr = &unix.SysProcAttr{Ptrace: true, Setsid: true}
	if err := c.Start(); err != nil {
		t.Skip("processes cannot be traced here:", err)
	}
	pid := c.Process.Pid
	t.Cleanup(func() { unix.Kill(-pid, unix.SIGKILL) })
	stopped := func() {
		t.Helper()
		var ws unix.WaitStatus
		if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil || !ws.Stopped() {
			t.Fatal("it did not stop:", err, ws)
		}
	}
	stopped() // by execve
	for range 2 {
		if err := unix.PtraceSyscall(pid, 0); err != nil {
			t.Fatal(err)
		}
		stopped() // at the beginning of rt_sigprocmask, then at its end
	}
	for _, n := range signals {
		if err := unix.Kill(pid, unix.Signal(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.PtraceDetach(pid); err != nil {
		t.Fatal(err)
	}
	c.Wait()
	return out.String(), c.ProcessState.Sys().(syscall.WaitStatus)
}

func TestASignalSentBeforeTheAppRunsIsNotLost(t *testing.T) {
	sleep := command(t, "sleep")
	for _, n := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGALRM, unix.SIGABRT, 40} {
		t.Run(fmt.Sprint(int(n)), func(t *testing.T) {
			// The app has the default action, and ends by the signal; hotinit
			// exits with 128 and its number, and is not ended by it itself.
			out, ws := firstInstant(t, []string{box.Hotinit, "--", sleep, "1000"}, int(n))
			if !ws.Exited() || ws.ExitStatus() != 128+int(n) {
				t.Errorf("status %#x, want exit code %d:\n%s", ws, 128+int(n), out)
			}
		})
	}
}

func TestManySignalsSentBeforeTheAppRunsAllReachIt(t *testing.T) {
	signals := []int{6, 10, 12, 13, 14, 24, 25, 26, 28, 29, 30, 31, 35, 36, 37, 50, 64}
	// The probe sends them before it executes hotinit, with all blocked. The
	// last one ends it; the kernel hands that on last.
	list := strings.Trim(strings.Join(strings.Fields(fmt.Sprint(signals)), ","), "[]")
	b := around(t, []string{"early", list}, "--reload-signal=none", "--", probe(t), "signals", "64")
	ended(t, b, 0)
	out := b.Output.Text() + "\n"
	for _, n := range signals {
		if strings.Count(out, fmt.Sprintf("got %d\n", n)) != 1 {
			t.Errorf("signal %d did not arrive once", n)
		}
	}
}
