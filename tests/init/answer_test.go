package inits

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// dockerStop is how long docker stop waits before it kills everything.
const dockerStop = 10 * time.Second

// inTime runs what ends hotinit, and checks that docker would have waited.
func inTime(t *testing.T, end func()) {
	t.Helper()
	began := time.Now()
	end()
	if took := time.Since(began); took > dockerStop {
		t.Errorf("the end took %v, docker stop waits %v", took.Round(time.Millisecond), dockerStop)
	}
}

// freeze stops the handoff, and each later one as soon as init has it, until
// hotinit has ended. It returns once the present one does nothing any more.
func freeze(t *testing.T, b *box.Box) {
	t.Helper()
	handoff := b.Handoff().PID
	c := exec.Command(probe(t), "freeze", itoa(b.PID()))
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); c.Wait() }()
	t.Cleanup(func() { c.Process.Kill(); <-ended })
	b.Until("the handoff is stopped", func() bool {
		select {
		case <-ended:
			t.Skip("no process can be made faster than others here, or none is listed:", c.ProcessState)
		default:
		}
		return allStopped(handoff)
	})
}

// allStopped reports whether each thread of a process is stopped.
func allStopped(pid int) bool {
	threads, _ := filepath.Glob("/proc/" + itoa(pid) + "/task/*/status")
	return len(threads) > 0 && !slices.ContainsFunc(threads, func(file string) bool {
		status, _ := os.ReadFile(file)
		return !strings.Contains(string(status), "State:\tT")
	})
}

// The next handoff may hang as the one before did. The app still gets SIGTERM,
// and init its status.
func TestTERMEndsEverythingThoughEachHandoffHangs(t *testing.T) {
	bothWays(t, func(t *testing.T, start func(...string) *box.Box) {
		b := start("--", probe(t), "signals", "15")
		b.Line("^ready$")
		freeze(t, b)
		inTime(t, func() {
			b.Signal(unix.SIGTERM)
			b.Line(`no handoff has acted on SIGTERM for 4s; init ends everything by itself`)
			b.Line(`ends with status 143: it was told to stop \(SIGTERM\)`)
			got(b, 15)
			ended(t, b, 128+15)
		})
		noneLeft(t, b)
	})
}

// What ignores SIGTERM then gets SIGKILL, by the clock of the first SIGTERM.
func TestAnAppThatIgnoresTERMIsKilledThoughEachHandoffHangs(t *testing.T) {
	t.Parallel()
	b := start(t, "--stop-timeout", "6s", "--", probe(t), "signals")
	b.Line("^ready$")
	freeze(t, b)
	inTime(t, func() {
		b.Signal(unix.SIGTERM)
		got(b, 15)
		ended(t, b, 128+15)
	})
}

// Whether hotinit is a plain init, which does not speak of its end, was found out by the
// first handoff.
func TestTheLastLineIsSaidThoughAStopMeetsALostHandoff(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGSTOP} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			bothWays(t, func(t *testing.T, start func(...string) *box.Box) {
				b := start("--", probe(t), "signals", "15")
				b.Line("^ready$")
				b.Line(`version .* watches `)
				inTime(t, func() {
					b.SignalTo(b.Handoff().PID, sig)
					b.Signal(unix.SIGTERM)
					b.Line(`stops: SIGTERM; SIGTERM is sent to generation 1`)
					b.Line(`ends with status 0: it was told to stop \(SIGTERM\)`)
					ended(t, b, 0)
				})
			})
		})
	}
}

// The handoff acts upon SIGTERM, and then hangs while the app takes its time.
func TestAHandoffThatHangsAfterItHasActedUponTERMIsReplaced(t *testing.T) {
	bothWays(t, func(t *testing.T, start func(...string) *box.Box) {
		b := start("--", probe(t), "signals", "10")
		b.Line("^ready$")
		b.Signal(unix.SIGTERM)
		got(b, 15)
		handoff := b.Handoff().PID
		b.SignalTo(handoff, unix.SIGSTOP)
		b.Until("the handoff is stopped", func() bool { return allStopped(handoff) })
		b.Line("the handoff did not act on a signal for 2s; it is killed and started again")
		b.Signal(unix.SIGUSR1)
		got(b, 10)
		ended(t, b, 0)
	})
}

// Likewise where each handoff hangs from then on: then --stop-timeout decides.
func TestTheStopTimeoutHoldsThoughTheHandoffHangsAfterTERM(t *testing.T) {
	bothWays(t, func(t *testing.T, start func(...string) *box.Box) {
		b := start("--stop-timeout", "1s", "--", probe(t), "signals")
		b.Line("^ready$")
		b.Signal(unix.SIGTERM)
		got(b, 15)
		inTime(t, func() {
			freeze(t, b)
			b.Wait()
		})
		noneLeft(t, b)
	})
}

// kill -STOP -1, run inside, stops all but PID 1.
func TestTERMEndsAContainerInWhichEverythingIsStopped(t *testing.T) {
	b := start(t, "--", probe(t), "family")
	b.Line("^main ready$")
	for _, p := range b.Processes() {
		if p.PID != b.PID() {
			b.SignalTo(p.PID, unix.SIGSTOP)
		}
	}
	inTime(t, func() {
		b.Signal(unix.SIGTERM)
		b.Line("^main got 15$")
		ended(t, b, 0)
	})
	noneLeft(t, b)
}
