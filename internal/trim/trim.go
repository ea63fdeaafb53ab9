// Package trim gives back memory that hotinit needed only for a moment.
//
// Invariant: it works only while nothing else does, once after each time that
// something happened, and nothing that is given back is lost.
//
// There are two kinds. A fault maps the 64 KiB around it, so that after its
// start nearly all of an executable counts as a process's memory, in each of
// the two processes, though it waits in a few functions only; the kernel maps
// the pages again when they are used. And Go's collector, which would wake an
// idle process every two minutes, is switched off; so what many swaps leave is
// collected here.
package trim

import (
	"runtime/debug"
	"sync/atomic"
	"time"
)

// After is how long nothing must have happened.
const After = time.Second

// Timer gives back when nothing has happened for After. Its zero value may be
// used; all methods are for one goroutine.
type Timer struct {
	// Collect, if not 0, is how often something has to happen before the heap
	// is collected. Collecting needs some 300 KiB for itself, for good: it has
	// to be worth it.
	Collect int32

	timer   *time.Timer
	touched atomic.Int32 // since the last collection
}

// Touch notes that something happened.
func (t *Timer) Touch() {
	t.touched.Add(1)
	if t.timer == nil {
		t.timer = time.AfterFunc(After, t.give)
		return
	}
	t.timer.Reset(After)
}

func (t *Timer) give() {
	if t.Collect > 0 && t.touched.Load() >= t.Collect {
		t.touched.Store(0)
		debug.FreeOSMemory()
	}
	drop()
}
