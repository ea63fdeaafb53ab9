package inits

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// bothWays runs a test with hotinit as PID 1 and as a subreaper.
func bothWays(t *testing.T, test func(t *testing.T, start func(words ...string) *box.Box)) {
	t.Parallel() // most of the time is spent waiting
	for _, sub := range []bool{false, true} {
		name := "PID 1"
		if sub {
			name = "subreaper"
		}
		t.Run(name, func(t *testing.T) {
			test(t, func(words ...string) *box.Box {
				return run(t, box.Options{Args: words, Sub: sub})
			})
		})
	}
}

func noneLeft(t *testing.T, b *box.Box) {
	t.Helper()
	if left := b.Processes(); len(left) > 0 {
		t.Errorf("still there: %v", left)
	}
}

// No other init lets them: what they print of their tidying up is hotinit's.
func TestDescendantsThatOutliveTheAppRunTheirHandlers(t *testing.T) {
	bothWays(t, func(t *testing.T, start func(...string) *box.Box) {
		b := start("--", probe(t), "leave")
		ended(t, b, 7)
		b.Line("^(group|session) tidied up$")
		b.Line("^(group|session) tidied up$")
		noneLeft(t, b)
	})
}

func TestAStoppedDescendantRunsItsHandlerToo(t *testing.T) {
	bothWays(t, func(t *testing.T, start func(...string) *box.Box) {
		b := start("--", probe(t), "leave", "stopped")
		ended(t, b, 7)
		for range 3 {
			b.Line("^(group|session|stopped) tidied up$")
		}
		noneLeft(t, b)
	})
}

func TestDescendantsRunTheirHandlersWhenHotinitIsStopped(t *testing.T) {
	bothWays(t, func(t *testing.T, start func(...string) *box.Box) {
		b := start("--", command(t, "sh"), "-c", probe(t)+" leave; exec "+probe(t)+" signals 15")
		b.Line("^ready$")
		stop(t, b, 0)
		b.Line("^(group|session) tidied up$")
		b.Line("^(group|session) tidied up$")
		noneLeft(t, b)
	})
}

func TestADescendantThatIgnoresTERMIsKilledAfterTheGrace(t *testing.T) {
	bothWays(t, func(t *testing.T, start func(...string) *box.Box) {
		b := start("--stop-timeout", "200ms", "--", probe(t), "deaf")
		ended(t, b, 8)
		noneLeft(t, b)
	})
}

// The grace is one for all: TERM to the app starts it, and what outlives the
// app gets the rest.
func TestASecondTERMReachesWhatIsLeft(t *testing.T) {
	bothWays(t, func(t *testing.T, start func(...string) *box.Box) {
		b := start("--stop-timeout", "0", "--", probe(t), "children")
		b.Line("^main ready$")
		b.Signal(unix.SIGTERM)
		b.Line("^main got 15$")
		b.Line("^child got 15$") // since the main process ended
		ended(t, b, 0)
	})
}

func TestASecondTERMReachesTheAppAtOnce(t *testing.T) {
	compare(t, "tini", func(t *testing.T, start func(*testing.T, ...string) *box.Box) {
		b := start(t, "--", probe(t), "signals", "10")
		b.Line("^ready$")
		b.Signal(unix.SIGTERM)
		got(b, 15)
		b.Signal(unix.SIGTERM)
		got(b, 15)
		b.Signal(unix.SIGINT)
		got(b, 2)
		b.Signal(unix.SIGUSR1) // others still arrive
		got(b, 10)
		ended(t, b, 0)
	})
}

func TestAnAppThatIgnoresTERMIsKilledAfterStopTimeout(t *testing.T) {
	bothWays(t, func(t *testing.T, start func(...string) *box.Box) {
		b := start("--stop-timeout", "200ms", "--", probe(t), "signals")
		b.Line("^ready$")
		b.Signal(unix.SIGTERM)
		got(b, 15)
		ended(t, b, 128+9)
		b.Line(`--stop-timeout.*killed`)
		noneLeft(t, b)
	})
}

func TestAStoppedAppIsKilledAfterStopTimeout(t *testing.T) {
	bothWays(t, func(t *testing.T, start func(...string) *box.Box) {
		b := start("--stop-timeout", "200ms", "--", probe(t), "stop", "19")
		b.Line("^stopping$")
		b.Signal(unix.SIGTERM)
		b.Wait()
		noneLeft(t, b)
	})
}

func TestAnAppThatStopsItselfGoesOnWhenItIsToldTo(t *testing.T) {
	for _, signal := range []string{"19", "20", "21", "22"} {
		t.Run(signal, func(t *testing.T) {
			compare(t, "tini", func(t *testing.T, start func(*testing.T, ...string) *box.Box) {
				words := []string{"--", probe(t), "stop", signal}
				b := start(t, words...)
				b.Line("^stopping$")
				b.Until("the app is stopped or has ended", func() bool {
					for _, p := range b.Processes() {
						if len(p.Args) > 1 && p.Args[1] == "stop" && p.State != "T" {
							return false
						}
					}
					return true
				})
				b.Signal(unix.SIGCONT)
				b.Line("^went on$")
				ended(t, b, 5)
			})
		})
	}
}

// To many a daemon a second SIGTERM means "at once". SIGCONT follows the one that
// those get who outlive the main process, so nothing is on its way after it.
func eachIsToldOnce(t *testing.T, b *box.Box) {
	t.Helper()
	for _, name := range []string{"group", "other", "session"} {
		b.Until(name+" got SIGCONT", func() bool { return b.Output.Count(regexp.MustCompile("^"+name+" got 18$")) == 1 })
		if n := b.Output.Count(regexp.MustCompile("^" + name + " got 15$")); n != 1 {
			t.Errorf("%s got SIGTERM %d times:\n%s", name, n, b.Output)
		}
	}
}

func TestWhoGotTERMByTheGroupGetsNoSecondOne(t *testing.T) {
	for _, sub := range []bool{false, true} {
		for _, words := range []string{"hotinit --", "hotinit -g --", "hotinit -g --setsid --", "dumb-init --", "tini -g --"} {
			t.Run(fmt.Sprintf("%s, PID 1 %v", words, !sub), func(t *testing.T) {
				name := strings.Fields(words)[0]
				b := run(t, box.Options{Sub: sub, Name: name, Args: append(strings.Fields(words)[1:], probe(t), "family")})
				b.Line("^main ready$")
				stop(t, b, 0)
				eachIsToldOnce(t, b)
			})
		}
	}
}

func TestWhoGotTERMByTheGroupGetsNoSecondOneInASwap(t *testing.T) {
	bothWays(t, func(t *testing.T, start func(...string) *box.Box) {
		script := `[ $HOTINIT_GENERATION = 1 ] && exec "$0" family; exec "$0" signals 15`
		b := start("-g", "--interval", "50ms", "--", command(t, "sh"), "-c", script, probe(t))
		b.Line("^main ready$")
		b.Signal(unix.SIGHUP)
		b.Line("^main got 15$")
		eachIsToldOnce(t, b)
		handles(b, 1)
		stop(t, b, 0)
	})
}
