package handoff

import (
	"errors"
	"time"
)

// aside does one thing at a time beside the loop. A file system that is frozen, or
// whose server is gone, keeps whoever touches it for ever, and the loop must not
// wait with it.
type aside struct {
	done chan struct{} // closed once what took too long is done
}

// asideLimit is how long the loop waits for what is done beside it.
const asideLimit = 500 * time.Millisecond

// errSlow is that a file system does not answer.
var errSlow = errors.New("the file system does not answer")

// run runs f and reports whether it was done in time. If it was not, f goes on, and
// late is called when it has ended, beside the loop. Until then run runs nothing
// else.
func (a *aside) run(f, late func()) bool { return a.runWithin(asideLimit, f, late) }

func (a *aside) runWithin(limit time.Duration, f, late func()) bool {
	if a.done != nil {
		select {
		case <-a.done:
			a.done = nil
		default:
			return false
		}
	}
	done, given := make(chan struct{}), make(chan struct{})
	go func() {
		f()
		close(done)
		select {
		case <-given:
			late()
		default:
			// The loop may just give up. Then it finds done closed.
		}
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		close(given)
		select {
		case <-done:
			return true
		default:
		}
		a.done = done
		return false
	}
}
