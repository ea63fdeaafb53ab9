package handoff

import (
	"fmt"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/machine"
)

// mostSteps is how many lines a client may be behind that is told of each step.
// Further ones are left out: nobody waits for a client.
const mostSteps = 64

// remember keeps the outcome of a generation for who comes late: the watch may have
// seen a file, and its release may have failed, before the client that put it there
// asks for it.
func (s *clients) remember(e machine.Effect, answer control.Response) {
	if e.None || e.Release == "" {
		return
	}
	if e.OK {
		answer.Text = fmt.Sprintf("generation %d is current (release %s)", e.N, machine.Short(e.Release))
	}
	s.decided = append(s.decided, decision{e.N, e.Release, answer})
	if len(s.decided) > 8 {
		s.decided = s.decided[1:]
	}
}

// decidedSince returns the outcome of a release that a generation from after on was
// started of, nil where there is none yet.
func (s *clients) decidedSince(after int, release string) (answer *control.Response) {
	if after == 0 || release == "" {
		return nil
	}
	s.engine.ask(func() {
		for _, d := range s.decided {
			if d.n >= after && d.release == release {
				answer = &d.answer
			}
		}
	})
	return answer
}

// step tells the clients that wait what happens.
func (s *clients) step(text string) {
	for _, c := range s.stepped {
		select {
		case c <- text:
		default:
		}
	}
}

// subscribe returns a channel of the steps, or nil where the client wants none. It
// is called in the loop; end is not.
func (s *clients) subscribe(r control.Request) (steps chan string, end func()) {
	if !r.Steps {
		return nil, func() {}
	}
	steps = make(chan string, mostSteps)
	s.stepped = append(s.stepped, steps)
	return steps, func() {
		s.engine.ask(func() {
			for i, c := range s.stepped {
				if c == steps {
					s.stepped = append(s.stepped[:i], s.stepped[i+1:]...)
					return
				}
			}
		})
	}
}

// await answers a client by its result, and by each step until then.
func await(result <-chan control.Response, steps <-chan string, reply func(control.Response) bool, gone <-chan struct{}) {
	for {
		select {
		case r := <-result:
			for { // what led to it was said before it
				select {
				case text := <-steps:
					reply(control.Response{OK: true, Step: text})
					continue
				default:
				}
				break
			}
			reply(r)
			return
		case text := <-steps:
			reply(control.Response{OK: true, Step: text})
		case <-gone:
			return
		}
	}
}

// answerHold puts swaps on hold, or takes that back.
func (s *clients) answerHold(r control.Request, reply func(control.Response) bool) {
	ev, text := machine.Event{Kind: machine.Hold}, "on hold: changes are noted, and not acted on"
	if r.Op == "resume" {
		ev, text = machine.Event{Kind: machine.Unhold}, "changes are acted upon"
	}
	stopping, before := false, 0
	s.engine.ask(func() {
		stopping = s.engine.state.Stop != 0
		before = s.engine.state.Next
		s.engine.act(ev)
		if s.engine.state.Next > before {
			text += fmt.Sprintf("; generation %d is being started", before)
		}
	})
	if stopping {
		reply(control.Response{Text: "hotinit is stopping"})
		return
	}
	reply(control.Response{OK: true, Text: text})
}

// onHold says that changes are only noted, and what is; "" where they are not.
func (s *clients) onHold() string {
	st := &s.engine.state
	switch {
	case !st.OnHold:
		return ""
	case !st.Noted:
		return "on hold: changes are noted, and not acted on (hotinit resume)"
	case st.Note == "":
		return "on hold: there is a change, which waits for hotinit resume"
	}
	return fmt.Sprintf("on hold: release %s waits for hotinit resume", machine.Short(st.Note))
}

// answerWait answers once what a client waits for has come.
func (s *clients) answerWait(r control.Request, reply func(control.Response) bool, gone <-chan struct{}) {
	switch r.For {
	case "ready":
		s.answerReady(r, reply, gone)
	case "swap":
		result := make(chan control.Response, 1)
		var steps chan string
		end := func() {}
		s.engine.ask(func() {
			w := waiter{min: s.engine.state.Next, before: s.describe(), result: result}
			for _, g := range s.engine.state.Gens {
				if g.Phase == machine.Preparing || g.Phase == machine.Candidate {
					w.min = g.N
					break
				}
			}
			s.waiters = append(s.waiters, w)
			steps, end = s.subscribe(r)
		})
		defer end()
		await(result, steps, reply, gone)
	case "stopped":
		s.answerStopped(reply, gone)
	default:
		reply(control.Response{Text: fmt.Sprintf("cannot wait for %q (known: ready, swap, stopped)", r.For)})
	}
}

// answerStopped answers once a program is over. The command line's is when hotinit has
// ended, which closes the connection.
func (s *clients) answerStopped(reply func(control.Response) bool, gone <-chan struct{}) {
	if !s.member {
		<-gone
		return
	}
	news := make(chan struct{}, 1)
	s.engine.ask(func() { s.watchers = append(s.watchers, news) })
	defer s.engine.ask(func() { s.unwatch(news) })
	for {
		over := false
		s.engine.ask(func() { over = s.engine.state.Over })
		if over {
			reply(control.Response{OK: true, Text: "the program does not run"})
			return
		}
		select {
		case <-news:
		case <-gone:
			return
		}
	}
}

// answerReady answers once a generation serves.
func (s *clients) answerReady(r control.Request, reply func(control.Response) bool, gone <-chan struct{}) {
	result := make(chan control.Response, 1)
	news := make(chan struct{}, 1)
	look := func() bool {
		g := s.engine.state.Current()
		if g != nil {
			result <- control.Response{OK: true, Text: fmt.Sprintf("generation %d serves", g.N)}
		}
		return g != nil
	}
	var steps chan string
	end := func() {}
	s.engine.ask(func() {
		if !look() {
			s.watchers = append(s.watchers, news)
			steps, end = s.subscribe(r)
		}
	})
	defer end()
	over := make(chan struct{})
	defer close(over)
	go func() {
		for {
			select {
			case <-news:
			case <-over:
				s.engine.do(func() { s.unwatch(news) })
				return
			}
			done := false
			s.engine.ask(func() {
				if done = look(); done {
					s.unwatch(news)
				}
			})
			if done {
				return
			}
		}
	}()
	await(result, steps, reply, gone)
}
