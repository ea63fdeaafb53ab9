package handoff

import (
	"time"

	"github.com/hotinit/hotinit/internal/machine"
)

// system is everything that the loop does to the world. A test has one that
// only notes what it is asked to do.
type system interface {
	// prepare checks a release and starts it as generation n. It does not
	// wait: Started or NotStarted follows as an event, or at once as the
	// returned event where nothing had to be waited for.
	prepare(n int, source machine.Source, release string) (machine.Event, bool)
	cancel(n int)
	tell(n, sig int)
	kill(n int)
	sweep(n int)
	foreground(n int)
	say(text string)
	outcome(n int, ok bool, text string)
	exit(status int)
	// record stores the state, and that signal seq and all before it are
	// acted upon, and lets go of what the state does not need any more.
	record(s machine.State, seq uint64)
	// acted is record where a signal was passed on and nothing changed: that
	// happens often to some apps, and the whole record need not follow it.
	acted(seq uint64)
}

// input is what a source has the loop do.
type input struct {
	event machine.Event
	// call, where there is one, is run by the loop in place of an event.
	call func()
	// seq is the number of the signal that the event is of, 0 for others.
	seq uint64
	// done, where there is one, is closed once the event is acted upon and
	// recorded, so that its source may let go of what told it.
	done chan struct{}
}

// loop owns the state. Everything that happens comes to it as an input, one
// at a time.
type loop struct {
	sys    system
	policy *machine.Policy
	state  machine.State
	seq    uint64
	inputs chan input
	timers map[machine.Timer]*time.Timer
}

func newLoop(sys system, policy *machine.Policy) *loop {
	return &loop{
		sys:    sys,
		policy: policy,
		state:  machine.State{Next: 1},
		inputs: make(chan input),
		timers: make(map[machine.Timer]*time.Timer),
	}
}

// post has the loop act upon an event. It may be called from any goroutine but
// the loop's own.
func (l *loop) post(ev machine.Event) { l.inputs <- input{event: ev} }

// postAndWait is post that returns once the event is acted upon.
func (l *loop) postAndWait(ev machine.Event, seq uint64) {
	done := make(chan struct{})
	l.inputs <- input{event: ev, seq: seq, done: done}
	<-done
}

// run acts upon first and then upon whatever comes, until the verdict is given.
func (l *loop) run(first machine.Event) {
	l.act(first)
	for !l.state.Over {
		in := <-l.inputs
		if in.seq != 0 {
			l.seq = in.seq
		}
		if in.call != nil {
			in.call()
		} else {
			l.act(in.event)
		}
		if in.done != nil {
			close(in.done)
		}
	}
}

// act has the machine decide about an event, carries out what it decided, and
// records where that led. The record comes last: if the handoff is killed
// before it, the next one is told the event again, and signalling a
// generation twice is better than not at all.
func (l *loop) act(ev machine.Event) {
	events := []machine.Event{ev}
	told := 0 // how often a generation was told something
	changes := ev.Kind != machine.Relay || l.state.Stop != 0
	for len(events) > 0 {
		var effects []machine.Effect
		l.state, effects = machine.Next(l.state, l.policy, events[0])
		events = events[1:]
		for _, e := range effects {
			if e.Kind == machine.Tell {
				told++
			} else {
				changes = true
			}
			if follows, ok := l.carryOut(e); ok {
				events = append(events, follows)
			}
		}
	}
	if told > 0 && !changes {
		l.sys.acted(l.seq)
		return
	}
	l.arm()
	l.sys.record(l.state, l.seq)
}

func (l *loop) carryOut(e machine.Effect) (machine.Event, bool) {
	switch e.Kind {
	case machine.Prepare:
		return l.sys.prepare(e.N, e.Source, e.Release)
	case machine.Cancel:
		l.sys.cancel(e.N)
	case machine.Tell:
		l.sys.tell(e.N, e.Signal)
	case machine.Kill:
		l.sys.kill(e.N)
	case machine.Sweep:
		l.sys.sweep(e.N)
	case machine.Foreground:
		l.sys.foreground(e.N)
	case machine.Say:
		l.sys.say(e.Text)
	case machine.Outcome:
		l.sys.outcome(e.N, e.OK, e.Text)
	case machine.Exit:
		l.sys.exit(e.Status)
	}
	return machine.Event{}, false
}

// arm makes the timers that run be those that the state asks for.
func (l *loop) arm() {
	want := machine.Timers(l.state, *l.policy)
	for t, timer := range l.timers {
		if _, ok := want[t]; !ok {
			timer.Stop()
			delete(l.timers, t)
		}
	}
	for t, d := range want {
		if _, ok := l.timers[t]; !ok {
			l.timers[t] = time.AfterFunc(d, func() {
				l.inputs <- input{call: func() { l.fired(t) }}
			})
		}
	}
}

// fired acts upon a timer that ran out, unless it was disarmed while its
// event was on the way.
func (l *loop) fired(t machine.Timer) {
	if _, ok := l.timers[t]; !ok {
		return
	}
	delete(l.timers, t)
	l.act(t.Event())
}
