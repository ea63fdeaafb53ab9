package inits

import (
	"regexp"
	"strconv"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// Cases of other inits' own suites that no other test has; docs/compatibility.md
// lists them all.

// tini's -e makes its code 0, and leaves every other one alone.
func TestEachCodeIsMappedByItsOwnFlagAlone(t *testing.T) {
	codes := []int{0, 1, 2, 7, 63, 64, 65, 126, 127, 128, 143, 191, 192, 254, 255}
	for _, code := range codes {
		var others []string
		for other := range 256 {
			if other != code {
				others = append(others, "-e", strconv.Itoa(other))
			}
		}
		run := func(flags ...string) int {
			words := append(flags, "--", box.App, "-exit", strconv.Itoa(code))
			return run(t, box.Options{Sub: true, Name: "tini", Args: words}).Wait()
		}
		if status := run("-e", strconv.Itoa(code)); status != 0 {
			t.Errorf("-e %d: the status is %d", code, status)
		}
		if status := run(others...); status != code {
			t.Errorf("-e with each code but %d: the status is %d", code, status)
		}
	}
}

// What is typed on a terminal is read by the app, up to its end.
func TestATerminalCarriesTextBothWays(t *testing.T) {
	tac := command(t, "tac")
	onTerminal(t, "tini dumb-init as-dumb-init", func(t *testing.T, term *terminal, start func(...string) *box.Box) {
		b := start(tac)
		term.press("first\nsecond\nthird\n\x04")
		ended(t, b, 0)
		if !regexp.MustCompile(`^third\s+second\s+first\s*$`).MatchString(b.Output.Text()) {
			t.Errorf("the output is %q, want the reverse of what was typed", b.Output)
		}
	})
}

// dumb-init without a session leaves such a process alone; hotinit ends with nobody
// left, whatever its name.
func TestWhatOutlivesTheAppGetsTERMUnderEveryName(t *testing.T) {
	for _, flags := range [][]string{nil, {"-c"}} {
		words := append(flags, command(t, "sh"), "-c", `"$0" signals 15 & read _ <"$1" || :`)
		fifo := t.TempDir() + "/ready"
		open := box.Fifo(t, fifo)
		b := run(t, box.Options{Sub: true, Name: "dumb-init", Args: append(words, probe(t), fifo)})
		b.Line("^ready$") // its handler is there
		open()
		b.Line("^got 15( |$)")
		ended(t, b, 0)
	}
}
