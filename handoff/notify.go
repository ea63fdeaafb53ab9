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
func (s *supervisor) openNotifier() error {
	const name = "notify"
	address := "@hotinit/notify/" + control.Namespace() + "/" + strconv.Itoa(os.Getppid())
	fd := s.link.take(name)
	if fd < 0 {
		var err error
		if fd, err = notify.Listen(address); err != nil {
			return err
		}
		if err := s.link.keep(name, fd); err != nil {
			return err
		}
	}
	s.notify, s.contract.Notify = fd, address
	return nil
}

// tellAbove tells the service manager that started hotinit, if there is one,
// how hotinit is. The manager's main process is init.
func (s *supervisor) tellAbove(text string) {
	if address := os.Getenv("NOTIFY_SOCKET"); address != "" && !s.contract.Plain && !s.daemon {
		notify.Tell(address, text, os.Getppid())
	}
}

// noticed acts upon a datagram. It runs in the loop.
func (s *supervisor) noticed(m notify.Message) {
	g := s.ownerOf(m.PID)
	if g == 0 {
		// One that has ended meanwhile most likely was of a generation that has.
		if _, err := proc.Read(m.PID); err == nil && s.cfg.Verbosity > 0 {
			say.Line("a message on NOTIFY_SOCKET is ignored: process %d is of no generation", m.PID)
		}
		return
	}
	defer s.loop.act(machine.Event{Kind: machine.Nothing}) // has what is new recorded and shown
	for key, value := range m.Fields() {
		p := s.procs[g]
		switch key {
		case "READY":
			if value == "1" {
				p.note = ""
				s.loop.act(machine.Event{Kind: machine.Ready, N: g})
			}
		case "STOPPING":
			p.note = "stopping"
		case "RELOADING":
			p.note = "reloading"
		case "STATUS":
			p.status = value
		case "MAINPID":
			s.newMain(g, value)
		case "WATCHDOG":
			if value == "trigger" {
				s.loop.act(machine.Event{Kind: machine.Expired, N: g, Timer: machine.WatchdogTimer})
			} else if s.cfg.Watchdog > 0 {
				s.loop.act(machine.Event{Kind: machine.Beat, N: g})
			}
		case "EXTEND_TIMEOUT_USEC":
			if d, ok := notify.Extension(value); ok {
				s.loop.act(machine.Event{Kind: machine.Beat, N: g, Delay: d})
			}
		}
	}
}

// newMain makes another process the main one of a generation, MAINPID=.
func (s *supervisor) newMain(g int, value string) {
	pid, err := strconv.Atoi(value)
	p := s.procs[g]
	if err != nil || pid == p.pid {
		return
	}
	if s.ownerOf(pid) != g {
		say.Line("generation %d names process %s as its main one, which is none of its own; it is ignored", g, value)
		return
	}
	s.replaceMain(g, pid)
}

// ownerOf returns the generation that a process belongs to, or 0: it is the
// generation's main process, in its group, below it, or else has its number
// in its environment.
func (s *supervisor) ownerOf(pid int) int {
	for at, steps := pid, 0; at > 1 && steps < 64; steps++ {
		st, err := proc.Read(at)
		if err != nil {
			break
		}
		for n, p := range s.procs {
			if p.pid == at || p.group == st.Group {
				return n
			}
		}
		at = st.Parent
	}
	if v, ok := proc.Getenv(pid, "HOTINIT_GENERATION"); ok {
		if n, err := strconv.Atoi(v); err == nil && s.procs[n] != nil && below(pid) {
			return n
		}
	}
	return 0
}

// below tells whether a process descends from init.
func below(pid int) bool {
	for init, steps := os.Getppid(), 0; pid > 1 && steps < 256; steps++ {
		st, err := proc.Read(pid)
		if err != nil {
			return false
		}
		if st.Parent == init {
			return true
		}
		pid = st.Parent
	}
	return false
}
