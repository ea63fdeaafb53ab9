// Package trim gives memory back to the kernel when hotinit becomes idle.
//
// Invariant: it works only when hotinit has been idle for After, once each time,
// and it loses no data.
//
// There are two kinds of such memory. A page fault maps the 64 KiB around it, so
// after the start nearly all of the executable counts as memory of each of the two
// processes, although an idle process runs a few functions only. These pages are
// unmapped; the kernel maps them again when they are used. And the periodic run
// of Go's collector, which would wake an idle process every two minutes, is off,
// so the garbage of many swaps is collected here.
package trim

import (
	"runtime/debug"
	"sync/atomic"
	"time"
)

// After is how long hotinit must have been idle.
const After = time.Second

// Timer gives memory back when Touch has not been called for After. Its zero value
// is ready to use. One goroutine calls its methods.
type Timer struct {
	// Collect, if not 0, is the number of calls of Touch after which the heap is
	// collected. A collection makes the process 300 KiB larger for good, so it must
	// be worth it.
	Collect int32

	timer   *time.Timer
	touched atomic.Int32 // since the last collection
}

// Touch records that something happened.
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
