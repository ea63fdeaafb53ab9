package spawn

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A patience is Spec.Limit at work: it kills a child that does not execute its program
// in time. It is about the child alone: this process may have been given no time
// either, and what has executed its program meanwhile serves by now.
type patience struct {
	pid, report int
	d           time.Duration
	timer       *time.Timer

	mu         sync.Mutex
	over, late bool
}

// begin starts the time, anew if it ran before. It does not run while the child has to
// wait for this process.
func (l *patience) begin() {
	if l.d > 0 {
		l.timer = time.AfterFunc(l.d, l.expire)
	}
}

func (l *patience) pause() {
	if l.timer != nil {
		l.timer.Stop()
	}
}

func (l *patience) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over || readable(l.report) {
		return
	}
	l.late = true
	// The child is this process's and was not waited for, so the PID is its.
	_ = unix.Kill(l.pid, unix.SIGKILL)
}

// end is called before the report's descriptor is closed.
func (l *patience) end() {
	l.pause()
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
}

// readable reports whether there is something to read from a pipe, or its end.
func readable(fd int) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		if err != unix.EINTR {
			return n > 0
		}
	}
}
