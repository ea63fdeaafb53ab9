package handoff

import (
	"cmp"
	"fmt"
	"os"
	"strings"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/release"
	"github.com/hotinit/hotinit/internal/version"
)

// waiter is a client that waits for the outcome of generation min or a later one,
// or of an earlier one of a release.
type waiter struct {
	min int
	of  string // that release, "" for whatever there is
	// content is that release's. With other settings it has another name.
	content release.Release
	before  string // the release that was current when it asked
	result  chan<- control.Response
}

// decision is the outcome of a generation.
type decision struct {
	n       int
	release string
	answer  control.Response
}

// clients are those who ask about a program by the control socket, and wait.
type clients struct {
	*common
	processes *processes
	releases  *releases
	adoption  *adoption
	order     func() string // its place among several programs, nil for the command's
	fault     func() string // which socket file does not lead to its socket
	queues    *queues
	// more answers what only the parts above can, and reports whether it did.
	more func(r control.Request, reply func(control.Response) bool, gone <-chan struct{}) bool

	leave func(r control.Request, reply func(control.Response) bool, gone <-chan struct{})

	waiters  []waiter
	watchers []chan struct{}
	stepped  []chan string // those who are told of each step
	decided  []decision    // the last few outcomes
	due      []func()      // answers that are given once the outcome is recorded
}

// answer acts upon one request. It runs on a goroutine of its own.
func (s *clients) answer(r control.Request, reply func(control.Response) bool, gone <-chan struct{}) {
	switch r.Op {
	case "status":
		s.answerStatus(r, reply, gone)
	case "health":
		r := control.Response{Text: "no generation serves"}
		s.engine.ask(func() {
			switch g := s.engine.state.Current(); {
			case g == nil:
			case g.Stalled:
				r.Text = fmt.Sprintf("generation %d does not serve: %s", g.N, cmp.Or(s.queues.text(), "it accepts no connection"))
			default:
				r = control.Response{OK: true, Text: fmt.Sprintf("generation %d serves", g.N)}
			}
		})
		if fault := s.fault(); r.OK && fault != "" {
			r = control.Response{Text: fault}
		}
		reply(r)
	case "reload":
		s.answerSwap(machine.Event{Kind: machine.Reload}, release.Release{}, r, reply, gone)
	case "rollback":
		ev, err := machine.Event{Kind: machine.Rollback}, error(nil)
		s.engine.ask(func() { ev.Release, err = s.named(r.Release) })
		if err != nil {
			reply(control.Response{Text: "cannot roll back: " + err.Error()})
			return
		}
		s.answerSwap(ev, release.Release{}, r, reply, gone)
	case "releases":
		var list []control.Release
		s.engine.ask(func() { list = s.list() })
		reply(control.Response{OK: true, Releases: list})
	case "hold", "resume":
		s.answerHold(r, reply)
	case "leave":
		s.leave(r, reply, gone)
	case "wait":
		s.answerWait(r, reply, gone)
	default:
		if s.more(r, reply, gone) {
			return
		}
		reply(control.Response{Text: fmt.Sprintf("unknown request %q (known: status, health, releases, metrics, reload, rollback, deploy, hold, resume, wait, stop, start, signal)", r.Op)})
	}
}

// answerSwap has a swap begin, and answers by its outcome. content is what was deployed.
func (s *clients) answerSwap(ev machine.Event, content release.Release, r control.Request, reply func(control.Response) bool, gone <-chan struct{}) {
	result := make(chan control.Response, 1)
	started, held := 0, ""
	var steps chan string
	end := func() {}
	s.engine.ask(func() {
		started = s.engine.state.Next
		w := waiter{min: started, before: s.describe(), result: result}
		if ev.Kind == machine.Deployed {
			w.of, w.content = ev.Release, content
		}
		s.waiters = append(s.waiters, w)
		steps, end = s.subscribe(r)
		s.engine.act(ev)
		held = s.onHold()
	})
	defer end()
	if !r.Wait {
		select {
		case r := <-result: // decided at once
			reply(r)
		default:
			text := fmt.Sprintf("generation %d is being started", started)
			if held != "" {
				text += "; hotinit stays " + held
			}
			reply(control.Response{OK: true, Text: text})
		}
		return
	}
	await(result, steps, reply, gone)
}

// outcome has those who wait for a generation answered. They are once all of the event
// is acted upon: the steps that led to the outcome are said by then, and the record has it.
func (s *clients) outcome(e machine.Effect) {
	n := e.N
	if e.OK && !s.member {
		s.manager.tellReady()
	}
	r := control.Response{OK: e.OK}
	switch {
	case e.None:
		r.Text = e.Text
	case !e.OK:
		r.Text = fmt.Sprintf("generation %d was rejected: %s", n, e.Text)
	}
	s.remember(e, r)
	left := s.waiters[:0]
	for _, w := range s.waiters {
		if n >= w.min || w.of != "" && w.of == e.Release {
			answer := r
			switch {
			case e.OK && !e.None && w.of != "" && w.of != e.Release && e.Release != "" && !s.releases.runs(e.Release, w.content):
				answer = control.Response{Text: fmt.Sprintf("newer content came meanwhile: generation %d is current (release %s)", n, machine.Short(e.Release))}
			case e.OK && !e.None:
				answer.Text = fmt.Sprintf("generation %d is current%s", n, change(w.before, s.describe()))
			}
			s.due = append(s.due, func() { w.result <- answer }) // it has room for one
		} else {
			left = append(left, w)
		}
	}
	s.waiters = left
}

// deliver gives the answers that are due.
func (s *clients) deliver() {
	for _, answer := range s.due {
		answer()
	}
	s.due = nil
}

func (s *clients) answerStatus(r control.Request, reply func(control.Response) bool, gone <-chan struct{}) {
	news := make(chan struct{}, 1)
	if r.Watch {
		s.engine.ask(func() { s.watchers = append(s.watchers, news) })
	}
	for reply(control.Response{OK: true, Status: s.look()}) && r.Watch {
		select {
		case <-news:
		case <-gone:
			s.engine.ask(func() { s.unwatch(news) })
			return
		}
	}
	s.engine.ask(func() { s.unwatch(news) })
}

func (s *clients) unwatch(news chan struct{}) {
	for i, w := range s.watchers {
		if w == news {
			s.watchers = append(s.watchers[:i], s.watchers[i+1:]...)
			return
		}
	}
}

// changed makes those who watch the status look again.
func (s *clients) changed() {
	s.changedAny()
	for _, w := range s.watchers {
		select {
		case w <- struct{}{}:
		default: // it will look anyway
		}
	}
}

func (s *clients) status() *control.Status {
	st := &s.engine.state
	out := &control.Status{
		Version:   version.Number,
		PID:       os.Getppid(),
		Situation: st.Situation().String(),
		Command:   s.cfg.Command,
		Reason:    st.Reason,
		Upgrade:   upgradeText(s.link),
	}
	if s.order != nil {
		out.Order = s.order()
	}
	if fault := s.fault(); fault != "" {
		out.Reason = strings.TrimPrefix(out.Reason+"; "+fault, "; ")
	}
	for _, sock := range s.contract.Sockets {
		out.Sockets = append(out.Sockets, s.address(sock))
	}
	out.Sockets = append(out.Sockets, s.adoption.names()...)
	if len(st.Rejected) > 0 {
		out.Rejected = st.Rejected[len(st.Rejected)-1].Release
	}
	if len(st.GoodReleases) > 0 {
		out.Good = st.GoodReleases[len(st.GoodReleases)-1].N
	}
	out.Hold = s.onHold()
	if g := st.Current(); g != nil && g.Stalled {
		out.Stalled = s.queues.text()
	}
	for _, g := range st.Gens {
		c := control.Generation{N: g.N, Phase: g.Phase.String(), PID: g.PID, Proven: g.Proven, Stopped: g.Terminated}
		if p := s.processes.all[g.N]; p != nil {
			c.Since = p.since
			c.Text = strings.TrimSpace(p.note + " " + p.status)
		}
		c.Release = g.Release
		if r := s.releases.held[g.Release]; r != nil {
			c.Path = r.path
			if r.file.Digest.Known() {
				c.Digest = r.file.Digest.String()
			}
		}
		out.Generations = append(out.Generations, c)
	}
	out.Past = s.processes.past
	return out
}
