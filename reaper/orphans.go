package reaper

import (
	"sync"
	"time"

	reap "github.com/hashicorp/go-reap"
	"golang.org/x/sys/unix"
)

// Orphans has go-reap collect every child of this process, for the rest of its
// life. report is called, on one goroutine, with each PID collected.
//
// It returns once go-reap is at work; what had ended before is being collected
// then, too. go-reap looks for children only after a SIGCHLD that comes after
// it has subscribed, and does not tell when it has: children that end before
// would stay zombies until some other ends. But it takes a lock first. So that
// lock is kept from it, SIGCHLD sent, and when it is seen to wait for the lock,
// it got the signal. (It then lacks the lock for a moment, and takes it for each
// look afterwards, when nobody else wants it.)
func Orphans(report func(pid int)) {
	pids := make(reap.PidCh, 64)
	var lock sync.RWMutex
	lock.RLock()
	// Its error channel is left out: what wait4(2) with WNOHANG can report
	// besides ECHILD and EINTR, which go-reap handles, is EINVAL.
	go reap.ReapChildren(pids, nil, nil, &lock)
	go func() {
		for pid := range pids {
			report(pid)
		}
	}()

	self := unix.Getpid()
	for pause := time.Millisecond; ; pause = min(2*pause, 10*time.Millisecond) {
		_ = unix.Kill(self, unix.SIGCHLD)
		// There is no event for "a writer waits"; a second try, if any, is all
		// it takes in practice.
		time.Sleep(pause)
		if !lock.TryRLock() {
			break
		}
		lock.RUnlock()
	}
	lock.RUnlock()
}
