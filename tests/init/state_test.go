package inits

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// What SIGKILL and SIGSTOP have is not up to anybody.
const (
	every    = ^uint64(1<<(unix.SIGKILL-1) | 1<<(unix.SIGSTOP-1))
	childBit = uint64(1) << (unix.SIGCHLD - 1)
	hangBit  = uint64(1) << (unix.SIGHUP - 1)
	termBit  = uint64(1) << (unix.SIGTERM - 1)
	usr1Bit  = uint64(1) << (unix.SIGUSR1 - 1)
)

// states are those that something may start an init in.
var states = []struct {
	name             string
	blocked, ignored uint64
}{
	{"plain", 0, 0},
	{"nohup", 0, hangBit},
	{"SIGCHLD ignored", 0, childBit},
	{"SIGCHLD blocked", childBit, 0},
	{"TERM blocked, USR1 ignored", termBit, usr1Bit},
	{"all blocked", every, 0},
	{"all ignored", 0, every},
	{"all blocked and ignored", every, every},
}

func begin(blocked, ignored uint64) []string {
	return []string{"begin", fmt.Sprintf("%x", blocked), fmt.Sprintf("%x", ignored)}
}

func TestTheAppHasTheMaskAndDispositionsThatHotinitWasStartedWith(t *testing.T) {
	for _, s := range states {
		t.Run(s.name, func(t *testing.T) {
			for _, sub := range []bool{false, true} {
				args := append(begin(s.blocked, s.ignored), box.Hotinit, "--", probe(t), "state")
				b := run(t, box.Options{Binary: probe(t), Name: "probe", Args: args, Sub: sub})
				ended(t, b, 0)
				state := fields(t, b)
				if got, want := state["blocked"], fmt.Sprintf("%x", s.blocked); got != want {
					t.Errorf("not PID 1: %v: blocked are %s, want %s", sub, got, want)
				}
				if got, want := state["ignored"], fmt.Sprintf("%x", s.ignored); got != want {
					t.Errorf("not PID 1: %v: ignored are %s, want %s", sub, got, want)
				}
			}
		})
	}
}

// A new generation has it too, also from a handoff that took over.
func TestANewGenerationHasTheMaskAndDispositionsThatHotinitWasStartedWith(t *testing.T) {
	b := around(t, begin(usr1Bit, childBit), "--interval", "50ms", "--", probe(t), "state", "15")
	for generation := range 3 {
		state := fields(t, b)
		if state["blocked"] != fmt.Sprintf("%x", usr1Bit) || state["ignored"] != fmt.Sprintf("%x", childBit) {
			t.Errorf("generation %d: %v", generation+1, state)
		}
		b.Line("^ready$")
		if generation == 1 {
			b.KillHandoff()
		}
		if generation < 2 {
			b.Signal(unix.SIGHUP)
		}
	}
}

func TestHotinitWorksWhateverItsMaskAndDispositionsAre(t *testing.T) {
	for _, s := range states {
		t.Run(s.name, func(t *testing.T) {
			// The app leaves orphans, is told something, and ends.
			script := box.App + " -orphans 50 -exit 0; exec " + probe(t) + " signals 15"
			b := around(t, begin(s.blocked, s.ignored), "--", command(t, "sh"), "-c", script)
			b.Line("^ready$")
			b.Until("none of the orphans is a zombie", func() bool {
				for _, p := range b.Processes() {
					if p.Zombie() {
						return false
					}
				}
				return true
			})
			if s.ignored&usr1Bit == 0 { // a signal that is ignored stays so
				b.Signal(unix.SIGUSR1)
				got(b, 10)
			}
			stop(t, b, 0)
		})
	}
}

// hotinit takes a signal that it was started with as ignored: an app that has
// a handler wants it.
func TestASignalThatHotinitWasStartedToIgnoreIsRelayed(t *testing.T) {
	b := around(t, begin(0, every), "--", probe(t), "signals", "15")
	b.Line("^ready$")
	for _, n := range []unix.Signal{unix.SIGUSR1, unix.SIGWINCH, unix.SIGURG, unix.SIGTRAP, 40} {
		b.Signal(n)
		got(b, int(n))
	}
	stop(t, b, 0)
}

func TestTheAppHasAGroupAndTheSessionOfItsOwnAsAsked(t *testing.T) {
	for _, test := range []struct {
		flags             []string
		group, newSession bool
	}{
		{nil, true, false},
		{[]string{"--setsid"}, true, true},
	} {
		t.Run(strings.Join(test.flags, " "), func(t *testing.T) {
			b := start(t, append(test.flags, "--", probe(t), "state")...)
			ended(t, b, 0)
			s := fields(t, b)
			if (s["group"] == s["pid"]) != test.group || (s["session"] == s["pid"]) != test.newSession {
				t.Errorf("%v", s)
			}
		})
	}
}

func TestHotinitItselfIsInTheRootFolder(t *testing.T) {
	b := run(t, box.Options{Args: []string{"--", probe(t), "signals", "15"}, Dir: t.TempDir()})
	b.Line("^ready$")
	for _, p := range []int{b.PID(), b.Handoff().PID} {
		if dir := readlink(t, fmt.Sprintf("/proc/%d/cwd", p)); dir != "/" {
			t.Errorf("process %d is in %s, which keeps it busy", p, dir)
		}
	}
	stop(t, b, 0)
}

// hotinit's own threads sleep less exactly, see package entry.
func TestTheAppHasTheTimerSlackThatHotinitWasStartedWith(t *testing.T) {
	own, err := os.ReadFile("/proc/self/timerslack_ns")
	if err != nil {
		t.Skip("this kernel does not tell it:", err)
	}
	b := start(t, "--interval", "50ms", "--", "/bin/sh", "-c", "echo slack $(cat /proc/self/timerslack_ns) $HOTINIT_GENERATION; exec sleep 60")
	want := "^slack " + strings.TrimSpace(string(own)) + " "
	b.Line(want + "1$")
	b.KillHandoff()
	b.Signal(unix.SIGHUP)
	b.Line(want + "2$")
	stop(t, b, 143)
}
