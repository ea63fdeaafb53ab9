package handoff

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

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
	s.lead().watchFiles()
	if g := s.engine.state.Current(); g != nil && g.Stalled {
		s.queues.resume()
	}
	if s.notify >= 0 {
		s.notifier = notify.Serve(&s.poller, s.notify, func(m notify.Message) { s.engine.ask(func() { s.noticed(m) }) })
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
		_, err := proc.Read(m.PID)
		switch {
		case err != nil:
			g = s.ofOneThatEnded(m)
		case s.cfg.Verbosity > 0:
			s.strangers.Line(s.called()+"a message on NOTIFY_SOCKET is ignored: process %d belongs to no generation", m.PID)
		}
	}
	if g == 0 {
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

// ofOneThatEnded returns which generation a message is of whose sender has ended
// since, 0 where that can't be told. A command that says READY=1 and ends at once,
// without waiting for an answer as systemd-notify does, is often gone before anyone
// can look at it. If just one generation has processes, and the sender was of its
// user, it was of that generation.
func (s *program) ofOneThatEnded(m notify.Message) int {
	if m.PID <= 0 {
		return 0 // outside this PID namespace
	}
	if len(s.processes.all) == 1 {
		for n, p := range s.processes.all {
			var st unix.Stat_t
			if unix.Stat("/proc/"+strconv.Itoa(p.pid), &st) == nil && st.Uid == m.UID {
				return n
			}
		}
		return 0
	}
	if strings.Contains(m.Text, "READY=1") && s.cfg.Verbosity > 0 {
		s.odd.Line(s.called()+"READY=1 of process %d on NOTIFY_SOCKET is ignored: it ended at once, and could be of any generation; let it wait for an answer (BARRIER=1), as systemd-notify does", m.PID)
	}
	return 0
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
