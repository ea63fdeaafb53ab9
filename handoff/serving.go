package handoff

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/serving"
	"github.com/hotinit/hotinit/internal/settings"
)

// readyMode returns which events make a generation ready.
func readyMode(cfg *settings.Config, sockets bool) machine.ReadyMode {
	switch cfg.Ready.Mode {
	case settings.ReadyAuto:
		if sockets && cfg.Compat == "" {
			return machine.ReadyAuto
		}
		return machine.ReadyInterval // as start_server has it
	case settings.ReadyAccept:
		return machine.ReadyAccept
	case settings.ReadyNotify:
		return machine.ReadyNotify
	case settings.ReadyInterval:
		return machine.ReadyInterval
	}
	return machine.ReadyOther
}

// observe posts what is seen of a candidate, until its start is decided.
func (s *probes) observe(p *process, sockets func() []int) {
	n, pid, group, done := p.n, p.pid, p.group, p.done // MAINPID= may change p
	c := serving.Candidate{
		Processes: func() []int { return s.mains.generation(pid, group) },
		Others:    func() []int { return s.mains.others(s.name, s.mains.generation(pid, group)) },
		Sockets:   sockets,
	}
	kinds := map[serving.Kind]machine.EventKind{
		serving.Waits: machine.Waits, serving.Accepted: machine.Accepted,
		serving.Traffic: machine.Traffic, serving.Blind: machine.Blind, serving.BlindOver: machine.BlindOver,
	}
	go func() {
		err := c.Observe(done, func(f serving.Fact) {
			s.engine.post(machine.Event{Kind: kinds[f.Kind], N: n, Reason: f.Text})
		})
		if err != nil {
			s.engine.post(machine.Event{Kind: machine.Blind, N: n, Reason: err.Error()})
		}
	}()
}

// queues watch how many connections wait at a program's sockets while the current
// generation accepts none.
type queues struct {
	*common
	sockets func(n int) []int // those that generation n is to serve
	letGo   func() bool       // closes those that nobody has open, and reports whether there were any
	watch   *serving.Queues   // nil: not watched
	current atomic.Int64      // the generation that has to accept
}

// start begins to watch, as soon as there is a socket.
func (s *queues) start() {
	sockets := func() []int { return s.sockets(int(s.current.Load())) }
	if s.cfg.StallTimeout <= 0 || len(sockets()) == 0 {
		return
	}
	w, err := serving.WatchQueues(sockets, s.cfg.StallTimeout, s.stalled, s.over)
	if err != nil {
		s.line("cannot watch for connections that nobody accepts: %v", err)
		return
	}
	s.watch = w
}

// stop ends the watch, until the sockets change again.
func (s *queues) stop() {
	if s.watch != nil {
		s.watch.Close()
		s.watch = nil
	}
}

// resume is for a generation that had stalled when the last handoff was lost: if
// it still does, that is seen within this time.
func (s *queues) resume() {
	time.AfterFunc(2*s.cfg.StallTimeout, func() {
		s.engine.do(func() {
			if g := s.engine.state.Current(); g != nil && s.text() == "" {
				s.engine.act(machine.Event{Kind: machine.StallOver, N: g.N})
			}
		})
	})
}

// changed says that the sockets may be others.
func (s *queues) changed() {
	if s.watch == nil {
		s.start()
		return
	}
	s.watch.Changed()
}

// serves says which generation is current, 0 for none. What waited before is not
// held against a new one.
func (s *queues) serves(n int) {
	if s.current.Swap(int64(n)) != int64(n) {
		s.changed()
	}
}

// stalled is called beside the loop. Connections that wait at a socket which the
// app has closed are none that it leaves waiting: they are refused.
func (s *queues) stalled(st serving.Stall) {
	if s.letGo() {
		s.engine.do(s.changed)
		return
	}
	s.post(machine.Stalled, stallText(st))
}

func (s *queues) over() { s.post(machine.StallOver, "") }

func (s *queues) post(kind machine.EventKind, reason string) {
	s.engine.do(func() {
		if g := s.engine.state.Current(); g != nil {
			s.engine.act(machine.Event{Kind: kind, N: g.N, Reason: reason})
		}
	})
}

// text says that connections wait, "" where the current generation accepts.
func (s *queues) text() string {
	if s.watch == nil {
		return ""
	}
	if st := s.watch.Now(); st.Waiting > 0 {
		return stallText(st)
	}
	return ""
}

func stallText(st serving.Stall) string {
	number := fmt.Sprintf("%d connections wait", st.Waiting)
	if st.Waiting == 1 {
		number = "1 connection waits"
	}
	return fmt.Sprintf("%s, none accepted for %v", number, rounded(st.For))
}

// rounded is a time as a person says it: "8s", "350ms".
func rounded(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(time.Second)
}
