package handoff

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/sockets"
	"github.com/hotinit/hotinit/internal/version"
)

// waiter is somebody who waits for the outcome of a generation from min on.
type waiter struct {
	min    int
	result chan<- control.Response
}

// openControl makes the control socket, or takes the one that init keeps.
func (s *supervisor) openControl() error {
	const name = "control"
	fd := s.link.take(name)
	if fd < 0 {
		var err error
		if fd, err = control.Listen(control.Address(os.Getppid())); err != nil {
			return err
		}
		if err := s.link.keep(name, fd); err != nil {
			return err
		}
	}
	go control.Serve(fd, s.answer)
	return nil
}

// answer acts upon one request. It runs on a goroutine of its own.
func (s *supervisor) answer(r control.Request, reply func(control.Response) bool, gone <-chan struct{}) {
	switch r.Op {
	case "status":
		s.answerStatus(r, reply, gone)
	case "health":
		r := control.Response{Text: "no generation serves"}
		s.ask(func() {
			if g := s.loop.state.In(machine.Current); g != nil {
				r = control.Response{OK: true, Text: fmt.Sprintf("generation %d serves", g.N)}
			}
		})
		reply(r)
	case "stop":
		// Before it is done, and once whoever asked has gone, for PID 1 takes all
		// of its namespace with it when it ends, which may be at once.
		reply(control.Response{OK: true, Text: "stopping"})
		select {
		case <-gone:
		case <-time.After(time.Second):
		}
		s.ask(func() {
			s.loop.act(machine.Event{Kind: machine.Halt, Signal: int(unix.SIGTERM)})
		})
	case "reload":
		s.answerSwap(machine.Event{Kind: machine.Reload}, r.Wait, reply, gone)
	case "rollback":
		s.answerSwap(machine.Event{Kind: machine.Rollback}, r.Wait, reply, gone)
	default:
		reply(control.Response{Text: fmt.Sprintf("unknown request %q (known: status, health, reload, rollback, stop)", r.Op)})
	}
}

// ask runs f in the loop and waits for its end.
func (s *supervisor) ask(f func()) {
	done := make(chan struct{})
	s.loop.inputs <- input{call: f, done: done}
	<-done
}

func (s *supervisor) answerSwap(ev machine.Event, wait bool, reply func(control.Response) bool, gone <-chan struct{}) {
	result := make(chan control.Response, 1)
	started := 0
	s.ask(func() {
		started = s.loop.state.Next
		s.waiters = append(s.waiters, waiter{started, result})
		s.loop.act(ev)
	})
	select {
	case r := <-result: // decided at once
		reply(r)
		return
	default:
	}
	if !wait {
		reply(control.Response{OK: true, Text: fmt.Sprintf("generation %d is being started", started)})
		return
	}
	select {
	case r := <-result:
		reply(r)
	case <-gone:
	}
}

// outcome tells those who wait what became of a generation.
func (s *supervisor) outcome(n int, ok bool, text string) {
	if ok && !s.toldAbove {
		s.toldAbove = true
		s.tellAbove("READY=1")
	}
	r := control.Response{OK: ok, Text: fmt.Sprintf("generation %d is current", n)}
	if !ok {
		r.Text = fmt.Sprintf("generation %d was rejected: %s", n, text)
		if s.loop.state.Find(n) == nil && n == s.loop.state.Next {
			r.Text = text // none was started
		}
	}
	left := s.waiters[:0]
	for _, w := range s.waiters {
		if n >= w.min {
			w.result <- r // it has room for one
		} else {
			left = append(left, w)
		}
	}
	s.waiters = left
}

func (s *supervisor) answerStatus(r control.Request, reply func(control.Response) bool, gone <-chan struct{}) {
	var status *control.Status
	news := make(chan struct{}, 1)
	s.ask(func() {
		status = s.status()
		if r.Watch {
			s.watchers = append(s.watchers, news)
		}
	})
	for reply(control.Response{OK: true, Status: status}) && r.Watch {
		select {
		case <-news:
		case <-gone:
			s.ask(func() { s.unwatch(news) })
			return
		}
		s.ask(func() { status = s.status() })
	}
	s.ask(func() { s.unwatch(news) })
}

func (s *supervisor) unwatch(news chan struct{}) {
	for i, w := range s.watchers {
		if w == news {
			s.watchers = append(s.watchers[:i], s.watchers[i+1:]...)
			return
		}
	}
}

// tellWatchers has those who watch the status look again.
func (s *supervisor) tellWatchers() {
	for _, w := range s.watchers {
		select {
		case w <- struct{}{}:
		default: // it will look anyway
		}
	}
}

func (s *supervisor) status() *control.Status {
	st := &s.loop.state
	out := &control.Status{
		Version:   version.Number,
		PID:       os.Getppid(),
		Situation: st.Situation().String(),
		Command:   s.cfg.Command,
		Rejected:  st.Rejected,
		Reason:    st.Reason,
	}
	for _, sock := range s.contract.Sockets {
		out.Sockets = append(out.Sockets, sockets.Address(sock.FD))
	}
	if len(st.Good) > 0 {
		out.Good = st.Good[len(st.Good)-1].N
	}
	for _, g := range st.Gens {
		c := control.Generation{N: g.N, Phase: g.Phase.String(), PID: g.PID, Proven: g.Proven, Stopped: g.Told}
		if p := s.procs[g.N]; p != nil {
			c.Since = p.since
			c.Text = strings.TrimSpace(p.note + " " + p.status)
		}
		if r := s.releases[g.Release]; r != nil {
			c.Path = r.path
			if r.file.Digest.Known() {
				c.Digest = r.file.Digest.String()
			}
		}
		out.Generations = append(out.Generations, c)
	}
	out.Past = s.past
	return out
}

// startServices opens what the app and the command line talk to. Neither is
// worth an app that does not run, so what fails is said and done without.
func (s *supervisor) startServices() {
	if s.contract.Plain {
		return
	}
	if err := s.openNotifier(); err != nil {
		say.Line("%v; generations count as ready by --interval", err)
	}
	if err := s.openControl(); err != nil {
		say.Line("%v; `hotinit status` and the like will not find this hotinit", err)
	}
}
