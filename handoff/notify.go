package handoff

import (
	"os"
	"strconv"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/notify"
	"github.com/hotinit/hotinit/internal/proc"
	"github.com/hotinit/hotinit/internal/say"
)

// openNotifier makes the socket of NOTIFY_SOCKET, or takes the one that init
// keeps.
func (s *program) openNotifier() error {
	const name = "notify"
	address := "@hotinit/notify/" + control.Namespace() + "/" + strconv.Itoa(os.Getppid()) + "/" + s.name
	fd := s.kept.take(name)
	if fd < 0 {
		var err error
		if fd, err = notify.Listen(address); err != nil {
			return err
		}
		if err := s.kept.keep(name, fd); err != nil {
			return err
		}
	}
	s.notify, s.notifyAddress, s.contract.Notify = fd, address, address
	return nil
}

// listen receives what the app says on NOTIFY_SOCKET.
func (s *program) listen() {
	s.watchFiles()
	if g := s.engine.state.Current(); g != nil && g.Stalled {
		s.queues.resume()
	}
	if s.notify >= 0 {
		s.notifier = notify.NewServer(s.notify)
		go s.notifier.Serve(func(m notify.Message) { s.engine.ask(func() { s.noticed(m) }) })
	}
}

// closeNotifier ends listen.
func (s *program) closeNotifier() {
	if s.notifier != nil {
		s.notifier.Close()
		s.notifier, s.notify = nil, -1
	}
}

// longestStatus is how many bytes of a STATUS= are kept.
const longestStatus = 256

// noticed acts upon a datagram. It runs in the loop.
func (s *program) noticed(m notify.Message) {
	g := s.processes.ownerOf(m.PID)
	if g == 0 {
		// A process that has ended most likely belonged to a generation that has.
		if _, err := proc.Read(m.PID); err == nil && s.cfg.Verbosity > 0 {
			s.strangers.Line(s.called()+"a message on NOTIFY_SOCKET is ignored: process %d belongs to no generation", m.PID)
		}
		return
	}
	if m.Cut {
		s.odd.Line(s.called()+"a message of generation %d on NOTIFY_SOCKET is ignored: it is too long", g)
		return
	}
	defer s.engine.act(machine.Event{Kind: machine.Noted}) // records and shows what is new
	for key, value := range m.Fields() {
		p := s.processes.all[g]
		switch key {
		case "READY":
			if value == "1" {
				p.note = ""
				s.engine.act(machine.Event{Kind: machine.Notified, N: g})
			}
		case "STOPPING":
			p.note = "stopping"
		case "RELOADING":
			p.note = "reloading"
		case "STATUS":
			p.status = say.Clean(value, longestStatus)
			s.passOn(g, "STATUS="+p.status)
		case "MAINPID":
			s.newMain(g, value)
		case "WATCHDOG":
			if value == "1" {
				s.passOn(g, "WATCHDOG=1")
			}
			if value == "trigger" {
				s.engine.act(machine.Event{Kind: machine.Triggered, N: g})
			} else if s.planOf(g).cfg.Watchdog > 0 {
				s.engine.act(machine.Event{Kind: machine.Beat, N: g})
			}
		case "EXTEND_TIMEOUT_USEC":
			if d, ok := notify.Extension(value); ok {
				s.engine.act(machine.Event{Kind: machine.Beat, N: g, Delay: d})
			}
		}
	}
}

// newMain makes another process the main one of a generation, MAINPID=.
func (s *program) newMain(g int, value string) {
	pid, err := strconv.Atoi(value)
	p := s.processes.all[g]
	if err != nil || pid == p.pid {
		return
	}
	if s.processes.ownerOf(pid) != g {
		s.odd.Line(s.called()+"generation %d names process %s as its main process, which does not belong to it; it is ignored", g, value)
		return
	}
	s.processes.replaceMain(g, pid)
}

// passOn tells the manager above what a generation says of itself: the current one,
// and any as long as there is none.
func (s *program) passOn(g int, text string) {
	if s.member {
		return // the manager above means hotinit, and one of several does not speak for it
	}
	if current := s.engine.state.Current(); current == nil || current.N == g {
		s.manager.tell(text)
	}
}
