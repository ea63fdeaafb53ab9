package watch

import (
	"encoding/binary"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// A hub is an inotify instance that any number of watchers share: a user may have 128
// instances, and hotinit may have 1,000 programs. Each watcher has a queue, with its own
// table of what it wants to hear.
//
// The kernel has one watch descriptor for each inode of an instance, so two queues may
// have the same one. It is removed once no queue has it any more.
type hub struct {
	calls calls

	mu     sync.Mutex
	file   *os.File // nil: no inotify (yet)
	fd     int
	queues map[*queue]bool
	byWD   map[int32][]*queue
	adding map[*queue]int // how many watches are being added: reports of unknown descriptors may be theirs
	idle   []int32        // nobody had them while something was added, which may have got the same one
}

// all is that of all watchers of this process.
var all = newHub(realCalls)

func newHub(c calls) *hub {
	return &hub{calls: c, fd: -1, queues: map[*queue]bool{}, byWD: map[int32][]*queue{}, adding: map[*queue]int{}}
}

// join adds a queue, and makes the inotify instance unless there is one.
func (h *hub) join(q *queue) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.file == nil {
		fd, err := h.calls.init()
		if err != nil {
			return err
		}
		// Non-blocking, hence in the runtime's poller: a Read parks the goroutine
		// and no thread. Never call Fd() on it, that would make it blocking.
		h.fd, h.file = fd, os.NewFile(uintptr(fd), "inotify")
		go h.read(h.file)
	}
	h.queues[q] = true
	return nil
}

// leave takes a queue out, with the watches that it has. The last one closes the
// instance.
func (h *hub) leave(q *queue, wds []int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.queues[q] {
		return
	}
	delete(h.queues, q)
	if len(h.queues) == 0 {
		h.file.Close()
		h.file, h.fd, h.idle = nil, -1, nil
		clear(h.byWD)
		return
	}
	for _, wd := range wds {
		h.drop(q, wd)
	}
}

// add watches a path for a queue. The path may be on a file system that hangs, so the
// call is made without the lock.
func (h *hub) add(q *queue, path string, mask uint32) (int32, error) {
	h.mu.Lock()
	if !h.queues[q] {
		h.mu.Unlock()
		return -1, unix.EBADF // it is closed
	}
	h.adding[q]++
	fd := h.fd
	h.mu.Unlock()

	wd, err := h.calls.add(fd, path, mask)

	h.mu.Lock()
	defer h.mu.Unlock()
	if h.adding[q]--; h.adding[q] == 0 {
		delete(h.adding, q)
	}
	if at := int32(wd); err == nil {
		switch {
		case !h.queues[q]:
			h.idle = append(h.idle, at) // it was closed meanwhile
		case !slices.Contains(h.byWD[at], q):
			h.byWD[at] = append(h.byWD[at], q)
		}
	}
	h.removeIdle()
	return int32(wd), err
}

// remove ends a watch of a queue.
func (h *hub) remove(q *queue, wd int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(q, wd)
}

func (h *hub) drop(q *queue, wd int32) {
	of, ok := h.byWD[wd]
	if !ok {
		return // the kernel has removed it
	}
	of = slices.DeleteFunc(of, func(o *queue) bool { return o == q })
	h.byWD[wd] = of
	if len(of) == 0 {
		delete(h.byWD, wd)
		h.idle = append(h.idle, wd)
		h.removeIdle()
	}
}

func (h *hub) removeIdle() {
	if len(h.adding) > 0 {
		return
	}
	for _, wd := range h.idle {
		if len(h.byWD[wd]) == 0 && h.fd >= 0 {
			_, _ = unix.InotifyRmWatch(h.fd, uint32(wd))
		}
	}
	h.idle = nil
}

// read runs until the file is closed.
func (h *hub) read(f *os.File) {
	buf := make([]byte, 16<<10)
	var concerned []*queue
	for {
		n, err := f.Read(buf)
		if n > 0 {
			concerned = h.concerned(buf[:n], concerned[:0])
			for _, q := range concerned {
				q.report(buf[:n])
			}
		}
		if err != nil {
			return // closed: inotify(7) has no other error that lasts
		}
	}
}

// concerned appends the queues that reports are about to a list.
func (h *hub) concerned(batch []byte, list []*queue) []*queue {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.queues) == 1 {
		for q := range h.queues {
			list = append(list, q)
		}
	}
	mark := func(q *queue) {
		if !q.concerned {
			q.concerned = true
			list = append(list, q)
		}
	}
	one := len(list) == 1
	for q := range h.adding {
		if !one {
			mark(q)
		}
	}
	for len(batch) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(batch))
		mask := binary.NativeEndian.Uint32(batch[4:])
		size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(batch[12:]))
		switch {
		case one:
		case mask&unix.IN_Q_OVERFLOW != 0:
			for q := range h.queues {
				mark(q)
			}
		default:
			for _, q := range h.byWD[wd] {
				mark(q)
			}
		}
		if mask&unix.IN_IGNORED != 0 {
			delete(h.byWD, wd)
		}
		if size > len(batch) {
			break
		}
		batch = batch[size:]
	}
	for _, q := range list {
		q.concerned = false
	}
	return list
}
