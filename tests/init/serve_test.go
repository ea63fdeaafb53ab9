package inits

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// inits are those that the tests of a plain init run. What hotinit has to do,
// tini does too: so the tests are known to be right, and hotinit to be a
// replacement.
func inits(t *testing.T, test func(t *testing.T, start func(t *testing.T, command ...string) *box.Box)) {
	box.NeedNamespace(t)
	t.Run("hotinit", func(t *testing.T) {
		test(t, func(t *testing.T, command ...string) *box.Box {
			return box.Start(t, box.Options{Args: append([]string{"--"}, command...)})
		})
	})
	t.Run("tini", func(t *testing.T) {
		tini, err := exec.LookPath("tini")
		box.Need(t, "tini", err)
		test(t, func(t *testing.T, command ...string) *box.Box {
			return box.Start(t, box.Options{Binary: tini, Name: "tini", Args: append([]string{"--"}, command...)})
		})
	})
}

func TestInitExitsWithTheStatusOfTheCommand(t *testing.T) {
	inits(t, func(t *testing.T, start func(*testing.T, ...string) *box.Box) {
		for _, status := range []int{0, 1, 2, 64, 125, 126, 127, 128, 143, 254, 255} {
			b := start(t, box.App, "-exit", strconv.Itoa(status))
			if got := b.Wait(); got != status {
				t.Errorf("status %d, want %d", got, status)
			}
		}
	})
}

func TestInitExitsWith128AndTheSignalThatEndedTheCommand(t *testing.T) {
	inits(t, func(t *testing.T, start func(*testing.T, ...string) *box.Box) {
		for _, signal := range []unix.Signal{unix.SIGKILL, unix.SIGTERM, unix.SIGINT} {
			b := start(t, box.App, "-kill", strconv.Itoa(int(signal)))
			if got := b.Wait(); got != 128+int(signal) {
				t.Errorf("%v: status %d, want %d", signal, got, 128+int(signal))
			}
		}
	})
}

func TestInitRelaysEachSignalOnceAndInOrder(t *testing.T) {
	inits(t, func(t *testing.T, start func(*testing.T, ...string) *box.Box) {
		b := start(t, box.App, "-echo", "-term", "ignore")
		b.Line(`^listening to signals$`)
		for _, signal := range []unix.Signal{unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.SIGCONT, unix.SIGUSR1, unix.SIGALRM, unix.SIGVTALRM, unix.SIGIO} {
			b.Signal(signal)
			b.Line("^got " + unix.SignalName(signal) + "$")
		}
		var got []string
		for _, line := range b.Output.All() {
			if name, ok := strings.CutPrefix(line, "got "); ok {
				got = append(got, name)
			}
		}
		if len(got) != 8 {
			t.Errorf("8 signals were sent, the command got %v", got)
		}
	})
}

func TestInitEndsOnTERMWithTheStatusOfTheCommand(t *testing.T) {
	inits(t, func(t *testing.T, start func(*testing.T, ...string) *box.Box) {
		b := start(t, box.App, "-echo", "-status", "21")
		b.Line(`^listening to signals$`)
		b.Signal(unix.SIGTERM)
		if status := b.Wait(); status != 21 {
			t.Errorf("status %d, want 21", status)
		}
		if got := b.Output.Text(); strings.Count(got, "got SIGTERM") != 1 {
			t.Errorf("TERM was to arrive once:\n%s", got)
		}
	})
}

func TestInitEndsOnTERMWithACommandThatDoesNothingAboutIt(t *testing.T) {
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip(err)
	}
	inits(t, func(t *testing.T, start func(*testing.T, ...string) *box.Box) {
		b := start(t, sleep, "1000")
		b.Until("the command runs", func() bool {
			for _, p := range b.Processes() {
				if len(p.Args) > 0 && p.Args[0] == sleep {
					return true
				}
			}
			return false
		})
		b.Signal(unix.SIGTERM)
		if status := b.Wait(); status != 143 {
			t.Errorf("status %d, want 143", status)
		}
	})
}

func TestInitReapsOrphans(t *testing.T) {
	inits(t, func(t *testing.T, start func(*testing.T, ...string) *box.Box) {
		b := start(t, box.App, "-orphans", "2000", "-echo")
		b.Line(`^listening to signals$`)
		b.Until("none of the orphans is a zombie", func() bool { return !zombies(b) })
		b.Signal(unix.SIGTERM)
		if status := b.Wait(); status != 0 {
			t.Errorf("status %d, want 0", status)
		}
	})
}

func TestInitLeavesNobodyBehind(t *testing.T) {
	inits(t, func(t *testing.T, start func(*testing.T, ...string) *box.Box) {
		b := start(t, box.App, "-lasting", "-exit", "6")
		if status := b.Wait(); status != 6 {
			t.Errorf("status %d, want 6", status)
		}
		if left := b.Processes(); len(left) > 0 {
			t.Errorf("still there: %v", left)
		}
	})
}

// hotinit below another init, as under docker run --init: a subreaper, which
// gives its status to the one above.
func TestHotinitBelowAnotherInit(t *testing.T) {
	inits(t, func(t *testing.T, start func(*testing.T, ...string) *box.Box) {
		address := box.Address()
		b := start(t, box.Hotinit, "--port", address, "--", box.App, "-status", "17")
		b.Answers(address, "v0 generation 1 ")
		if _, err := box.Get(address, "/orphans?n=500"); err != nil {
			t.Fatal(err)
		}
		b.Until("none of the orphans is a zombie", func() bool { return !zombies(b) })
		b.Signal(unix.SIGTERM)
		if status := b.Wait(); status != 17 {
			t.Errorf("status %d, want 17:\n%s", status, b.Output)
		}
	})
}

// Not PID 1, and with no other init above: what outlives the command is ended.
func TestASubreaperLeavesNobodyBehind(t *testing.T) {
	b := box.Start(t, box.Options{Sub: true, Args: []string{"--", box.App, "-lasting", "-orphans", "500", "-exit", "9"}})
	if status := b.Wait(); status != 9 {
		t.Errorf("status %d, want 9:\n%s", status, b.Output)
	}
	if left := b.Processes(); len(left) > 0 {
		t.Errorf("still there: %v", left)
	}
}
