package inits

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// A process of root's may not be signalled by a hotinit without privileges. That
// is said, and ends hotinit in time all the same.
func TestAnAppThatMayNotBeKilledIsNotWaitedForForEver(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can make an executable of root's that others run as root")
	}
	text, err := os.ReadFile(probe(t))
	if err != nil {
		t.Fatal(err)
	}
	rooted := filepath.Join(filepath.Dir(probe(t)), "rooted")
	if err = os.WriteFile(rooted, text, 0o755); err == nil {
		err = os.Chmod(rooted, 0o755|os.ModeSetuid)
	}
	if err != nil {
		t.Fatal(err)
	}
	b := run(t, box.Options{
		Sub: true, Args: []string{"--stop-timeout", "300ms", "--adopt", "off", "--", rooted, "rooted"},
		Attr: func(a *syscall.SysProcAttr) { a.Credential = &syscall.Credential{Uid: 65534, Gid: 65534} },
	})
	b.Line("^(not root|ready)$")
	if b.Output.All()[0] != "ready" {
		t.Skip("nobody becomes root by an executable here:", b.Output)
	}
	b.Signal(unix.SIGTERM)
	b.Line("cannot send SIGTERM to generation 1: operation not permitted")
	b.Line(`generation 1 cannot be killed: process \d+: operation not permitted`)
	b.Line("generation 1 has not ended 500ms after SIGKILL; hotinit exits without it")
	b.Until("hotinit has ended, and left the app", func() bool {
		left := b.Processes()
		return len(left) == 1 && len(left[0].Args) > 0 && left[0].Args[0] == rooted
	})
	b.SignalTo(b.Processes()[0].PID, unix.SIGKILL) // it has the output open
	ended(t, b, 128+9)
}
