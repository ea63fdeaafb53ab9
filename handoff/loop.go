package handoff

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/fault"
	"github.com/hotinit/hotinit/internal/machine"
)

// system is everything that an engine does to the world. A test has one that
// only notes what it is asked to do.
type system interface {
	// prepare checks a release and starts it as a generation. It does not
	// wait: Started or NotStarted follows as an event, or at once as the
	// returned event where nothing had to be waited for.
	prepare(e machine.Effect) (machine.Event, bool)
	cancel(n int)
	tell(n, sig int)
	kill(n int)
	sweep(n int, last bool)
	foreground(n int)
	// askLeave runs the command of --swap-through, and endLeave kills it.
	askLeave(n int)
	endLeave(n int)
	// happened is told what an event came to, where somebody watches, before the effects
	// are carried out.
	happened(list []machine.Happening)
	say(level int, text string)
	outcome(e machine.Effect)
	// withdraw has the other instances of the program leave a release.
	withdraw(e machine.Effect)
	exit(e machine.Effect)
	// tune has the policy follow from the state that an event led to.
	tune(s machine.State)
	// record stores the state, and that signal seq and all before it are
	// acted upon, and lets go of what the state does not need any more.
	record(s machine.State, seq uint64)
	// acted is record where a signal was passed on and nothing changed: that
	// happens often to some apps, and the whole record need not follow it.
	acted(seq uint64)
	// translate says what a signal means to the program. hangup says that the
	// terminal is gone.
	translate(sig unix.Signal, hangup bool) machine.Event
}

// input is what a source asks the loop to do.
type input struct {
	// engine and event say what happened to which program.
	engine *engine
	event  machine.Event
	// each, if not nil, makes an event for each program. This is how a signal
	// comes: what it means is up to the program.
	each func(*engine) machine.Event
	// call, if not nil, is run by the loop in place of an event, or after each.
	call func()
	// seq is the number of the signal that the event is of, 0 for others.
	seq uint64
	// done, if not nil, is closed once the event is acted upon and recorded, so
	// that its source may discard what it came from.
	done chan struct{}
}

// loop is the goroutine that owns the state of every program. Everything that
// happens comes to it as an input, one at a time.
type loop struct {
	inputs  chan input
	seq     uint64    // the last signal that every program has acted upon
	engines []*engine // one for each program
	// ends, if not nil, says when the loop ends; else it ends once every program is
	// over.
	ends func() bool
	// begun, if not nil, is called once every program has acted upon its first event.
	begun   func()
	after   func() // called once the loop is done with an input, nil for nothing
	running bool   // the first events are acted upon, or are about to be
}

func newLoop() *loop { return &loop{inputs: make(chan input)} }

// do makes the loop run f. It may be called from any goroutine but the loop's
// own, as ask and post.
func (l *loop) do(f func()) { l.inputs <- input{call: f} }

// ask is do that returns once f has.
func (l *loop) ask(f func()) { l.submit(input{call: f}) }

// submit hands an input to the loop and returns once it is acted upon.
func (l *loop) submit(in input) {
	in.done = make(chan struct{})
	l.inputs <- in
	<-in.done
}

// run acts upon each program's first event, and then upon whatever comes, until
// every program is over.
func (l *loop) run() {
	l.running = true
	for _, e := range slices.Clone(l.engines) {
		e.act(e.first)
	}
	if l.begun != nil {
		l.begun()
	}
	l.settle()
	for !l.over() {
		l.take(<-l.inputs)
	}
}

func (l *loop) settle() {
	if l.after != nil {
		l.after()
	}
}

// over reports whether the verdict on every program is given.
func (l *loop) over() bool {
	if l.ends != nil {
		return l.ends()
	}
	return !slices.ContainsFunc(l.engines, func(e *engine) bool { return !e.state.Over })
}

func (l *loop) take(in input) {
	switch {
	case in.each != nil:
		l.takeEach(in)
	case in.call != nil:
		l.acknowledge(in.seq)
		in.call()
	default:
		l.acknowledge(in.seq)
		in.engine.act(in.event)
	}
	l.settle()
	if in.done != nil {
		close(in.done)
	}
}

// takeEach has every program act upon an event of its own. One that has nothing to do
// costs nothing: there may be a thousand.
func (l *loop) takeEach(in input) {
	type act struct {
		engine *engine
		event  machine.Event
	}
	var acts []act
	for _, e := range l.engines {
		if ev := in.each(e); ev.Kind != machine.Dropped {
			acts = append(acts, act{e, ev})
		}
	}
	for i, a := range acts {
		if i == len(acts)-1 {
			// The record that acknowledges a signal comes last: until then
			// the next handoff would get the signal again.
			l.acknowledge(in.seq)
		}
		a.engine.act(a.event)
	}
	l.acknowledge(in.seq)
	if in.call != nil {
		in.call()
	}
	if len(acts) == 0 && len(l.engines) > 0 && in.seq != 0 && !l.over() {
		l.engines[0].sys.acted(in.seq)
	}
}

// serveUntil runs the calls that come, and drops the events, until done is closed or the
// time is over. The verdict is given by then, so events change nothing; but what ends
// waits for its calls.
func (l *loop) serveUntil(limit time.Duration, done <-chan struct{}) { l.serve(limit, done, false) }

// serve is serveUntil. With signals, one that comes is the end of it.
func (l *loop) serve(limit time.Duration, done <-chan struct{}, signals bool) {
	late := time.NewTimer(limit)
	defer late.Stop()
	for {
		select {
		case <-done:
			return
		case in := <-l.inputs:
			if in.call != nil {
				in.call()
			}
			if in.done != nil {
				close(in.done)
			}
			if signals && in.seq != 0 {
				return
			}
		case <-late.C:
			return
		}
	}
}

func (l *loop) acknowledge(seq uint64) {
	if seq != 0 {
		l.seq = seq
	}
}

// engine runs the machine of one program.
type engine struct {
	*loop
	sys    system
	policy *machine.Policy
	state  machine.State
	first  machine.Event
	timers map[machine.Timer]*time.Timer
	// watched says that somebody wants to know what happens.
	watched bool
}

// newEngine adds a program to the loop.
func newEngine(l *loop, sys system, policy *machine.Policy) *engine {
	e := &engine{
		loop:   l,
		sys:    sys,
		policy: policy,
		state:  machine.State{Next: 1},
		first:  machine.Event{Kind: machine.Boot},
		timers: make(map[machine.Timer]*time.Timer),
	}
	l.engines = append(l.engines, e)
	return e
}

// remove takes a program out of the loop.
func (l *loop) remove(e *engine) {
	l.engines = slices.DeleteFunc(l.engines, func(o *engine) bool { return o == e })
}

// post makes the loop act upon an event of the program.
func (e *engine) post(ev machine.Event) { e.inputs <- input{engine: e, event: ev} }

// apply tells the machine about something that happened while an effect is carried
// out, and that has no effects itself.
func (e *engine) apply(ev machine.Event) { e.state, _ = machine.Next(e.state, e.policy, ev) }

// record records the state anew: something in the record changed beside it.
func (e *engine) record() { e.sys.record(e.state, e.seq) }

// act has the machine decide about an event, carries out what it decided, and
// records where that led. The record comes last: if the handoff is killed
// before it, the next one is told the event again, and signalling a
// generation twice is better than not at ale.
func (e *engine) act(ev machine.Event) {
	events := []machine.Event{ev}
	signaled := 0
	changes := ev.Kind != machine.Relay || e.state.Stop != 0
	for len(events) > 0 {
		var effects []machine.Effect
		before, what := e.state, events[0]
		e.state, effects = machine.Next(e.state, e.policy, what)
		events = events[1:]
		if e.watched {
			e.sys.happened(machine.Happened(&before, &e.state, what, effects))
		}
		for _, effect := range effects {
			if effect.Kind == machine.Tell {
				signaled++
			} else {
				changes = true
			}
			_ = fault.At("effect", "before", effect.Kind.String())
			follows, ok := e.carryOut(effect)
			_ = fault.At("effect", "after", effect.Kind.String())
			if ok {
				events = append(events, follows)
			}
		}
	}
	if signaled > 0 && !changes {
		_ = fault.At("effect", "before", "acted")
		e.sys.acted(e.seq)
		_ = fault.At("effect", "after", "acted")
		return
	}
	e.sys.tune(e.state)
	e.arm()
	_ = fault.At("effect", "before", "record")
	e.sys.record(e.state, e.seq)
	_ = fault.At("effect", "after", "record")
}

func (e *engine) carryOut(f machine.Effect) (machine.Event, bool) {
	switch f.Kind {
	case machine.Prepare:
		return e.sys.prepare(f)
	case machine.Cancel:
		e.sys.cancel(f.N)
	case machine.Tell:
		e.sys.tell(f.N, f.Signal)
	case machine.Kill:
		e.sys.kill(f.N)
	case machine.Sweep:
		e.sys.sweep(f.N, f.Last)
	case machine.Foreground:
		e.sys.foreground(f.N)
	case machine.AskLeave:
		e.sys.askLeave(f.N)
	case machine.EndLeave:
		e.sys.endLeave(f.N)
	case machine.Say:
		e.sys.say(f.Level, f.Text)
	case machine.Outcome:
		e.sys.outcome(f)
	case machine.Withdraw:
		e.sys.withdraw(f)
	case machine.Exit:
		e.sys.exit(f)
	}
	return machine.Event{}, false
}

// arm starts and stops timers, so that those run that the state asks for.
func (e *engine) arm() {
	want := machine.Timers(e.state, *e.policy)
	for t, timer := range e.timers {
		if _, ok := want[t]; !ok {
			timer.Stop()
			delete(e.timers, t)
		}
	}
	for t, d := range want {
		if _, ok := e.timers[t]; !ok {
			e.timers[t] = time.AfterFunc(d, func() {
				e.do(func() { e.fired(t) })
			})
		}
	}
}

// fired acts upon a timer that ran out, unless it was disarmed while its
// event was on the way.
func (e *engine) fired(t machine.Timer) {
	if _, ok := e.timers[t]; !ok {
		return
	}
	delete(e.timers, t)
	e.act(t.Event())
}
