package inits

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// A process whose first thread has ended has the state of a zombie, Z. It runs
// all the same: it is told to end, and killed, as any other.

func TestAProcessWithoutItsFirstThreadIsToldToEnd(t *testing.T) {
	bothWays(t, func(t *testing.T, start func(...string) *box.Box) {
		b := start("--", probe(t), "headless", "15")
		b.Line("^main ready$")
		stop(t, b, 0)
		b.Line("^headless got 15$")
	})
}

func TestAProcessWithoutItsFirstThreadIsToldToEndInASwap(t *testing.T) {
	bothWays(t, func(t *testing.T, start func(...string) *box.Box) {
		script := `[ $HOTINIT_GENERATION = 1 ] && exec "$0" headless 15; exec "$0" signals 15`
		b := start("--interval", "50ms", "--cgroup", "off", "--", command(t, "sh"), "-c", script, probe(t))
		b.Line("^main ready$")
		b.Signal(unix.SIGHUP)
		b.Line("^main got 15$")
		b.Line("^headless got 15$")
		handles(b, 1)
		stop(t, b, 0)
	})
}

func TestAProcessWithoutItsFirstThreadIsKilledAtTheDrainLimit(t *testing.T) {
	bothWays(t, func(t *testing.T, start func(...string) *box.Box) {
		script := `[ $HOTINIT_GENERATION = 1 ] && exec "$0" headless; exec "$0" signals 15`
		b := start("--interval", "50ms", "--drain-timeout", "200ms", "--cgroup", "off", "--", command(t, "sh"), "-c", script, probe(t))
		b.Line("^main ready$")
		b.Signal(unix.SIGHUP)
		b.Line("^headless got 15$")
		b.Until("it is gone", func() bool {
			for _, p := range b.Processes() {
				if len(p.Args) > 1 && p.Args[1] == "headless" || p.Zombie() {
					return false
				}
			}
			return true
		})
		handles(b, 1)
		stop(t, b, 0)
	})
}

func TestAProcessWithoutItsFirstThreadIsKilledAfterTheGrace(t *testing.T) {
	bothWays(t, func(t *testing.T, start func(...string) *box.Box) {
		b := start("--stop-timeout", "200ms", "--", probe(t), "headless")
		b.Line("^main ready$")
		stop(t, b, 0)
		noneLeft(t, b)
	})
}
