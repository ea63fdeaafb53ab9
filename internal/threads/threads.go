// Package threads keeps a few threads in reserve.
//
// Go's runtime makes a thread whenever a goroutine could run and all that there
// are wait in system calls, and ends the process where it cannot have one. An
// app that fills its container up to the limit of processes (which counts
// threads) would so end PID 1, at the next moment that it is busy. Threads
// are never given back, so it suffices to have had enough of them once.
package threads

import (
	"runtime"
	"sync"
)

// Reserve has n threads made beside the one that it is called in, or as many as
// are lacking to that, and returns once they are there. To be called before the
// limit can be reached: it ends the process where no thread is to be had.
func Reserve(n int) {
	var begun, done sync.WaitGroup
	release := make(chan struct{})
	for range n {
		begun.Add(1)
		done.Add(1)
		go func() {
			defer done.Done()
			// A thread waits with the goroutine that is locked to it, and the next
			// goroutine needs another.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread() // else it would end with the goroutine
			begun.Done()
			<-release
		}()
	}
	begun.Wait()
	close(release)
	done.Wait()
}
