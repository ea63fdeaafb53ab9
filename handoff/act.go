package handoff

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/peer"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/settings"
)

// act carries out --restart or --stop, which start no app, and returns the status
// to exit with. cmd/hotinit has answered --help, --version and --license.
func act(cfg *settings.Config) int {
	switch cfg.Action {
	case settings.Restart:
		return told(peer.Restart(cfg.PidFile, cfg.StatusFile))
	case settings.Stop:
		return told(peer.Stop(cfg.PidFile))
	default:
		say.Line("action %d is not known", cfg.Action)
		return exitcode.Failure
	}
}

// told prints what went wrong, if anything did, and returns the status for it.
func told(err error) int {
	if err != nil {
		say.Line("%v", err)
		return 1
	}
	return 0
}

// interrupted makes a signal end what act does, as it would end any command.
func (s *supervisor) interrupted(m *message.Signal) {
	switch sig := unix.Signal(m.Signal); sig {
	case unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM:
		s.verdict(exitcode.Signaled(sig), 0)
	}
	s.acted(m.Seq)
}

// pause is the whole life of a hotinit that runs no app (catatonit's -P, which
// holds the namespaces of a pod): init reaps until SIGTERM or SIGINT. It does not
// return.
func (s *supervisor) pause() {
	s.link.receive(func(m *message.Signal) {
		if sig := unix.Signal(m.Signal); sig == unix.SIGTERM || sig == unix.SIGINT || m.Hangup {
			s.verdict(0, 0)
		}
		s.acted(m.Seq)
	})
}

func uintptrOf(b *byte) uintptr { return uintptr(unsafe.Pointer(b)) }
