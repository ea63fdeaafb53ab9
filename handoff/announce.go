package handoff

import (
	"fmt"
	"strings"

	"github.com/hotinit/hotinit/internal/contract"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/sockets"
	"github.com/hotinit/hotinit/internal/version"
)

// announceKnown announces the program once its first generation runs and the
// name of its release is known: the app does not wait for either.
func (s *program) announceKnown(st machine.State) {
	if s.announced || st.Over {
		return
	}
	for _, g := range st.Gens {
		if g.Phase == machine.Preparing || g.Phase == machine.Lingering {
			continue
		}
		if r := s.releases.held[g.Release]; r == nil || r.done {
			s.announce()
		}
		return
	}
}

// announce prints one line about what hotinit does here: its version, the
// release, the sockets, and what is watched.
func (s *program) announce() {
	quiet := 1
	if s.engine.policy.Quiet {
		quiet = 2
	}
	if s.announced || s.cfg.Verbosity < quiet {
		return // where it is no plain init later, it is said then
	}
	s.announced = true
	s.say(quiet, fmt.Sprintf("version %s runs %s; listens on %s; watches %s", version.Number, s.runs(), s.listensOnNow(), list(s.releases.paths)))
}

// runs names the first generation's file and release. The command's arguments are
// not said: there may be a password among them.
func (s *program) runs() string {
	for _, g := range s.engine.state.Gens {
		r := s.releases.held[g.Release]
		switch {
		case r == nil:
		case machine.IsUnread(g.Release):
			return r.path
		default:
			return r.path + " (release " + machine.Short(g.Release) + ")"
		}
	}
	return s.cfg.Command[0]
}

// listensOnNow says where the program listens, so early that the app may not have
// bound its own sockets yet.
func (s *program) listensOnNow() string {
	addresses := s.listensOn()
	if len(addresses) == 0 && s.adoption.takes() {
		return "nothing yet"
	}
	return list(addresses)
}

// listensOn returns the addresses of the program's sockets.
func (s *program) listensOn() []string {
	var addresses []string
	for _, sock := range s.contract.Sockets {
		addresses = append(addresses, s.address(sock))
	}
	return append(addresses, s.adoption.names()...)
}

// address is where a socket is reached. A unix socket may have been bound by a name
// in its directory, which getsockname(2) returns.
func (s *common) address(sock contract.Socket) string {
	if sock.Spec.HasFile() {
		return s.fromStart(sock.Spec.Path)
	}
	return sockets.Address(sock.FD)
}

func list(words []string) string {
	if len(words) == 0 {
		return "nothing"
	}
	return strings.Join(words, ", ")
}
