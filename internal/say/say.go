// Package say prints hotinit's own lines on standard error: one line a
// message, behind "hotinit: ", in a single write that never blocks. With
// --log-format json a line is a JSON object (about.go).
//
// Standard error is shared with the app and is often a pipe that somebody
// else reads. If a reader stops reading, a PID 1 that waits for it no longer
// reaps and no longer stops its app, so a line that finds no room is dropped
// and counted; the next line that finds room says how many were.
package say

import (
	"fmt"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/kernel"
)

const stderr = 2

// longest is how many bytes a line may have. It is PIPE_BUF, up to which a
// write to a pipe is atomic and fits where poll(2) reports room, pipe(7).
const longest = 4096

const (
	// writtenWithin is how long a line may take before it is not waited for.
	writtenWithin = 100 * time.Millisecond
	// mostQueued is how many lines wait for one that takes longer.
	mostQueued = 64
)

var (
	mu      sync.Mutex
	dropped int
	late    chan bool     // of the line that takes too long, nil where none does
	queue   [][]byte      // the lines behind that one
	over    chan struct{} // closed once all of them are written
)

// Line formats one line and prints it. Standard error may be a file of a file system
// that is frozen, or whose server is gone: no call that writes to it can be relied on
// not to wait, not even with RWF_NOWAIT. So a goroutine writes, and only so long is it
// waited for. The lines behind it are queued until it goes on.
func Line(format string, args ...any) { print(About{}, Error, format, args...) }

func print(a About, level Level, format string, args ...any) {
	mu.Lock()
	defer mu.Unlock()
	b := line(a, level, dropped, format, args...)
	if late != nil && len(queue) >= mostQueued {
		dropped++
		return
	}
	if late != nil {
		dropped = 0
		queue = append(queue, b)
		return
	}
	written := make(chan bool, 1)
	go func() {
		written <- write(stderr, b)
		mu.Lock()
		defer mu.Unlock()
		if late == written {
			unqueue()
		}
	}()
	limit := time.NewTimer(writtenWithin)
	defer limit.Stop()
	select {
	case ok := <-written:
		if ok {
			dropped = 0
		} else {
			dropped++
		}
	case <-limit.C:
		late, dropped, over = written, 0, make(chan struct{})
	}
}

// Finish waits for lines that take long, but no more than a second. A process calls it
// before it exits.
func Finish() {
	mu.Lock()
	waits, written := late != nil, over
	mu.Unlock()
	if !waits {
		return
	}
	select {
	case <-written:
	case <-time.After(time.Second):
	}
}

// unqueue writes what is queued. It holds mu, but not while it writes.
func unqueue() {
	for len(queue) > 0 {
		b := queue[0]
		queue = queue[1:]
		mu.Unlock()
		ok := write(stderr, b)
		mu.Lock()
		if !ok {
			dropped++
		}
	}
	late, queue = nil, nil
	close(over)
}

// level is how much is said.
var level atomic.Int32

func init() { level.Store(1) }

// SetLevel sets it: at 0 only what Line prints is said, at 1 also what Note
// prints, and from 2 on also what Detail prints.
func SetLevel(n int) { level.Store(int32(min(n, math.MaxInt32))) }

// Note prints what hotinit does or notices, where nothing has failed.
func Note(format string, args ...any) { About{}.Note(format, args...) }

// Detail prints what only matters to who looks for a fault.
func Detail(format string, args ...any) { About{}.Detail(format, args...) }

// LineTo prints a line on another descriptor, for where nobody reads standard
// error.
func LineTo(fd int, format string, args ...any) {
	write(fd, line(About{}, Error, 0, format, args...))
}

// line formats one line, which says how many were dropped before it.
func line(a About, level Level, dropped int, format string, args ...any) []byte {
	if asJSON.Load() {
		return object(a, level, dropped, fmt.Sprintf(format, args...))
	}
	b := []byte("hotinit: ")
	if dropped > 0 {
		b = append(b, '(')
		b = strconv.AppendInt(b, int64(dropped), 10)
		b = append(b, " lines were dropped, nobody read them) "...)
	}
	b = append(b, Clean(a.Called+fmt.Sprintf(format, args...), longest-1-len(b))...)
	return append(b, '\n')
}

// pwritev2 is replaced by tests.
var pwritev2 = unix.Pwritev2

// write is a write(2) that gives up rather than waits.
// O_NONBLOCK is no way to get that: the flag belongs to the open file, which
// the app has too. RWF_NOWAIT is per call (pwritev2(2)); where the kernel, a
// filter or the kind of file does not have it, poll(2) tells whether there is
// room.
//
// Of a pipe or a terminal EAGAIN means that it is full. Of a regular file it
// means that this write could wait for the disk, which XFS and btrfs say of
// each that makes the file longer. No reader can be missing there.
func write(fd int, b []byte) bool {
	n, err := pwritev2(fd, [][]byte{b}, -1, unix.RWF_NOWAIT)
	for err == unix.EINTR {
		n, err = pwritev2(fd, [][]byte{b}, -1, unix.RWF_NOWAIT)
	}
	switch {
	case err == nil:
		if n < len(b) && isRegular(fd) {
			_, err = unix.Write(fd, b[n:])
		}
		return err == nil
	case err == unix.EAGAIN && isRegular(fd):
	case err == unix.EOPNOTSUPP, err == unix.EINVAL, err == unix.ESPIPE, kernel.Missing(err):
	default:
		return false
	}
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	if n, err := unix.Poll(fds, 0); err != nil || n == 0 || fds[0].Revents&unix.POLLOUT == 0 {
		return false
	}
	_, err = unix.Write(fd, b)
	return err == nil
}

func isRegular(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG
}
