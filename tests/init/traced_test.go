package inits

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// A process that asks to be traced (PTRACE_TRACEME) is stopped for its parent at
// each signal. hotinit traces nobody: such an app behaves as by itself.
func TestAnAppThatAsksToBeTracedBehavesAsByItself(t *testing.T) {
	for how, status := range map[string]int{"handled": 7, "fatal": 128 + 15, "exec": 8} {
		t.Run(how, func(t *testing.T) {
			ended(t, start(t, "--", probe(t), "traced", how), status)
		})
	}
	t.Run("wait", func(t *testing.T) {
		b := start(t, "--", probe(t), "traced", "wait")
		b.Line("^traced$")
		b.Signal(unix.SIGUSR1)
		ended(t, b, 9)
	})
}

// So does a later generation, and the swap goes as usual.
func TestAGenerationThatAsksToBeTracedIsTerminatedInASwap(t *testing.T) {
	b := start(t, "--interval", "50ms", "--", probe(t), "traced", "wait")
	b.Line("^traced$")
	for _, n := range []string{"2", "3"} {
		b.Signal(unix.SIGHUP)
		b.Line("^traced$")
		b.Line("generation " + n + " is ready")
		b.Line("killed by signal 15")
	}
	stop(t, b, 128+15)
}

// So does the command of --check, which hotinit starts as well.
func TestACheckThatAsksToBeTracedBehavesAsByItself(t *testing.T) {
	b := start(t, "--check", probe(t)+" traced handled", "--check-timeout", "0", "--", box.App)
	ended(t, b, 125)
	b.Line(`--check of .*\b7\b`)
}
