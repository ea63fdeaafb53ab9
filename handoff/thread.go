package handoff

import (
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/spawn"
	"github.com/hotinit/hotinit/reaper"
)

// thread runs what must run on one thread, for the kernel takes the thread that has
// forked a process for its tracer (reaper.ReleaseTraced). It is the process's first
// one, which Run has locked. The loop itself is on no thread of its own: what it
// does beside itself, and all that it is told, would cost a change of threads twice.
type thread struct {
	jobs chan func()
	done chan struct{}

	traced sync.Once // releaseTraced is under way
}

func newThread() *thread { return &thread{jobs: make(chan func()), done: make(chan struct{})} }

// do runs f on the thread and returns when it has.
func (t *thread) do(f func()) {
	t.jobs <- f
	<-t.done
}

// serve runs what do asks for until end is closed.
func (t *thread) serve(end <-chan struct{}) {
	for {
		select {
		case f := <-t.jobs:
			f()
			t.done <- struct{}{}
		case <-end:
			return
		}
	}
}

// releaseTraced lets go each child that stops for hotinit as its tracer, from now on.
func (t *thread) releaseTraced() {
	t.traced.Do(func() {
		go func() {
			wait := childEvents()
			for {
				if reaper.Stopped() {
					t.do(reaper.ReleaseTraced)
				}
				wait()
			}
		}()
	})
}

// childEvents returns what waits for the next SIGCHLD. os/signal takes a thread for
// good, so it is used only where there is no other way.
func childEvents() (wait func()) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil && entry.CatchChildren(fd) == nil {
		file := os.NewFile(uintptr(fd), "children")
		return func() {
			var b [8]byte
			_, _ = file.Read(b[:])
		}
	}
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	return func() { <-children }
}

// start starts a command that may ask to be traced, as a generation may.
func (t *thread) start(spec *spawn.Spec) (child spawn.Child, err error) {
	t.releaseTraced()
	spec.Limit = executeWithin
	t.do(func() { child, err = spawn.Start(spec) })
	return child, err
}
