package pid1

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/say"
)

// A handoff that hangs, and so sends nothing either, is as bad as a dead one: it is
// killed, and the next one goes on from the record. That may not help (whatever hung the first one may
// hang the second, and a handoff that waits for a device cannot be killed). So
// the oldest signal to stop that is not acted upon decides: after two periods of
// stopWithin init ends everything by itself.
const (
	// answerWithin is how long the handoff may take to act upon a signal, or to send
	// anything else.
	answerWithin = 5 * time.Second
	// stopWithin is the same while hotinit is to stop. Twice this and the app's
	// own time must be less than the 10 s after which docker stop kills.
	stopWithin = 2 * time.Second
	// lateBy is how much longer the handoff gets at the end of each period.
	// Both processes may have been frozen meanwhile, and the answer be there.
	lateBy = 500 * time.Millisecond
	// mostStrikes is how many periods may pass without an answer once hotinit is
	// to stop.
	mostStrikes = 2
	// probeEvery is how often init asks a handoff that stops everything to show
	// that it still acts.
	probeEvery = time.Second
	// lastWithin is how long after --stop-timeout the handoff has killed what was
	// left, and given the verdict. It may take logGrace of package handoff.
	lastWithin = 3 * time.Second
	// leastGrace is what the app gets between SIGTERM and SIGKILL at least.
	leastGrace = time.Second
)

// answers is what init knows of the signals that it waits to see acted upon.
type answers struct {
	due   *time.Timer // runs while a signal is pending
	probe *time.Timer // runs while hotinit stops and nothing is pending
	last  *time.Timer // runs while hotinit stops, if there is a --stop-timeout

	late    bool // due has run out once and was extended by lateBy
	strikes int  // periods without an answer, in a row

	stop  unix.Signal // the oldest signal to stop, 0 for none
	since time.Time   // when it came
	acted bool        // the handoff has acted upon it, and hotinit stops

	stops   bool          // such a signal stops hotinit, and is not only passed on
	timeout time.Duration // --stop-timeout, 0 for none
}

func newAnswers() answers { return answers{due: stopped(), probe: stopped(), last: stopped()} }

func (a *answers) period() time.Duration {
	if a.stop != 0 {
		return stopWithin
	}
	return answerWithin
}

// expect starts to wait until the handoff acts upon a signal.
func (p *pid1) expect(s signal) {
	a := &p.answers
	first := s.stops() && a.stop == 0
	if first {
		a.stop, a.since = s.sig, time.Now()
	}
	if first || len(p.pending) == 1 {
		a.late = false
		a.due.Reset(a.period())
	}
	a.probe.Stop()
}

// answered notes that the handoff has acted upon a signal.
func (p *pid1) answered(s signal) {
	a := &p.answers
	a.late, a.strikes = false, 0
	if !s.stops() || a.acted {
		return
	}
	if !a.stops {
		a.stop = 0 // it was passed on to the app, which decides
		return
	}
	a.acted = true
	if a.timeout > 0 {
		a.last.Reset(a.timeout + lastWithin - time.Since(a.since))
	}
}

// works notes a message of the handoff. One that has a lot to do, as with a thousand
// programs on a busy machine, does not hang. The strikes stay: one that hangs after it
// has said something, and so does each after it, must not keep hotinit from its end.
func (p *pid1) works() {
	if len(p.pending) > 0 {
		p.answers.late = false
		p.answers.due.Reset(p.answers.period())
	}
}

// expectNext waits for the next signal to be acted upon, if there is one.
func (p *pid1) expectNext() {
	a := &p.answers
	if len(p.pending) > 0 {
		if a.stop == 0 {
			for _, s := range p.pending {
				if s.stops() {
					a.stop, a.since = s.sig, time.Now()
					break
				}
			}
		}
		a.due.Reset(a.period())
		return
	}
	a.due.Stop()
	if a.acted {
		// An app may take hours to end: then it is asked less often.
		a.probe.Reset(max(probeEvery, time.Since(a.since)/10))
	}
}

// unanswered is called when a period has passed without an answer. It returns
// the signal for which init must end everything by itself, 0 for none.
func (p *pid1) unanswered() unix.Signal {
	a := &p.answers
	if !a.late {
		a.late = true
		a.due.Reset(lateBy)
		return 0
	}
	a.late = false
	a.strikes++
	if a.stop != 0 && a.strikes >= mostStrikes {
		return a.stop
	}
	if p.hand != nil {
		say.Line("the handoff did not act on a signal for %v; it is killed and started again", a.period())
		p.hand.kill()
	}
	a.due.Reset(a.period())
	return 0
}

// endByItself ends everything without a handoff, since none acts upon a signal
// to stop.
func (p *pid1) endByItself(sig unix.Signal) int {
	a := &p.answers
	say.Line("no handoff has acted on %s for %v; init ends everything by itself",
		unix.SignalName(sig), mostStrikes*stopWithin)
	grace := a.timeout
	if grace == 0 {
		grace = lastGrace
	}
	return p.endAlone(exitcode.Signaled(sig), max(grace-time.Since(a.since), leastGrace), "it was told to stop ("+unix.SignalName(sig)+")")
}
