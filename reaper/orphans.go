package reaper

import (
	"sync"
	"sync/atomic"
	"time"

	reap "github.com/hashicorp/go-reap"
	"golang.org/x/sys/unix"
)

// running reports whether Orphans was called.
var running atomic.Bool

// Orphans makes go-reap reap every child of this process, for the rest of its
// life. It calls report, on one goroutine, with each PID. It must be called once:
// a second go-reap would compete with the first one for each child.
//
// Orphans returns once go-reap is at work, and what ended before is being reaped.
// go-reap looks for children only after a SIGCHLD that comes after it has
// subscribed, and does not say when it has: children that ended before would
// stay zombies until another child ends. But go-reap takes a lock before it looks.
// So Orphans holds that lock and sends SIGCHLD until go-reap waits for the lock,
// which shows that go-reap got the signal. (From then on go-reap takes the lock
// for each look, and nobody else wants it.)
func Orphans(report func(pid int)) {
	if running.Swap(true) {
		panic("reaper: Orphans is called twice")
	}
	pids := make(reap.PidCh, 64)
	var lock sync.RWMutex
	lock.RLock()
	// The error channel is left out: besides ECHILD and EINTR, which go-reap
	// handles, wait4(2) with WNOHANG can only report EINVAL.
	go reap.ReapChildren(pids, nil, nil, &lock)
	go func() {
		for pid := range pids {
			report(pid)
		}
	}()

	self := unix.Getpid()
	for pause := time.Millisecond; ; pause = min(2*pause, 10*time.Millisecond) {
		_ = unix.Kill(self, unix.SIGCHLD)
		// There is no event for "a writer waits". In practice one or two tries
		// suffice.
		time.Sleep(pause)
		if !lock.TryRLock() {
			break
		}
		lock.RUnlock()
	}
	lock.RUnlock()
}
