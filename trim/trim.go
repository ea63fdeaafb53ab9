// Package trim gives back memory that hotinit needed only for a moment.
//
// Invariant: nothing that is given back is lost: the pages are those of the
// executable itself, which the kernel maps again when they are used.
//
// A fault maps the 64 KiB around it, so that after its start nearly all of an
// executable counts as a process's memory, in each of the two processes,
// though it waits in a few functions only.
package trim

import "time"

// After is how long nothing must have happened.
const After = time.Second

// Timer gives back when nothing has happened for After. Its zero value may be
// used; all methods are for one goroutine.
type Timer struct{ timer *time.Timer }

// Touch notes that something happened.
func (t *Timer) Touch() {
	if t.timer == nil {
		t.timer = time.AfterFunc(After, drop)
		return
	}
	t.timer.Reset(After)
}
