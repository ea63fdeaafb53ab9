package handoff

import (
	"errors"
	"fmt"
	"time"

	"github.com/hotinit/hotinit/internal/machine"
)

const (
	// waitSoon is how long the loop itself waits for what is asked beside it.
	// Nearly always the answer is there by then, and no event comes in between.
	waitSoon = 100 * time.Millisecond
	// answersWithin is how long a start waits for a file system.
	answersWithin = 5 * time.Second
	// treeWithin is how long it waits for a directory that need not be there.
	treeWithin = time.Second
	// executeWithin bounds execve(2), for which the loop waits.
	executeWithin = 1500 * time.Millisecond
)

// errStopped is a start that ended since nobody wants it any more.
var errStopped = errors.New("it was stopped")

// beside has ask run beside the loop, since a file system may not answer, and then in
// the loop what it returns. ask reads nothing that changes, and changes nothing: if it
// takes too long, or the start is cancelled, nobody waits for it any longer.
func (s *starts) beside(j *job, ask func() func() (machine.Event, bool)) (machine.Event, bool) {
	answer := make(chan func() (machine.Event, bool), 1)
	go func() { answer <- ask() }()
	soon := time.NewTimer(waitSoon)
	defer soon.Stop()
	select {
	case next := <-answer:
		return next()
	case <-soon.C:
	}
	s.cancels[j.n] = j.cancel
	go func() {
		limit := time.NewTimer(answersWithin)
		defer limit.Stop()
		var next func() (machine.Event, bool)
		refuse := func(err error) func() (machine.Event, bool) {
			return func() (machine.Event, bool) { return s.refused(j, err), true }
		}
		select {
		case next = <-answer:
		case <-j.cancel:
			next = refuse(errStopped)
		case <-limit.C:
			next = refuse(fmt.Errorf("%s cannot be started: %w (for %v)", s.cfg.Command[0], errSlow, answersWithin))
		}
		s.engine.do(func() {
			delete(s.cancels, j.n)
			if ev, ok := next(); ok {
				s.engine.act(ev)
			}
		})
	}()
	return machine.Event{}, false
}

// waitFor waits for the end of what runs beside the loop. Once it is cancelled it has
// a moment to end by itself; ended reports whether it did.
func waitFor(done <-chan error, cancel <-chan struct{}) (err error, ended bool) {
	select {
	case err = <-done:
		return err, true
	case <-cancel:
	}
	moment := time.NewTimer(asideLimit)
	defer moment.Stop()
	select {
	case err = <-done:
		return err, true
	case <-moment.C:
		return nil, false
	}
}
