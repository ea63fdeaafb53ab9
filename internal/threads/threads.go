// Package threads keeps a few threads in reserve.
//
// Invariant: after Reserve(n) the process needs no new thread as long as at most
// n goroutines wait in system calls at a time.
//
// Go's runtime starts a thread when a goroutine can run and all threads wait in
// system calls, and it ends the process if it cannot start one. An app that
// reaches its container's limit of processes (which counts threads) would so end
// PID 1 the next time that is busy. The runtime never ends an idle thread, so it
// is enough to start the threads once.
package threads

import (
	"runtime"
	"sync"
)

// Reserve makes sure that there are n threads beside the one that it is called in,
// and returns when they exist. It must be called before the limit can be reached:
// the process ends if a thread cannot be started.
func Reserve(n int) {
	var begun, done sync.WaitGroup
	release := make(chan struct{})
	for range n {
		begun.Add(1)
		done.Add(1)
		go func() {
			defer done.Done()
			// A thread waits while the goroutine that is locked to it waits, so the
			// next goroutine needs another thread.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread() // otherwise the thread would end with the goroutine
			begun.Done()
			<-release
		}()
	}
	begun.Wait()
	close(release)
	done.Wait()
}
