// Package poller waits for many descriptors with one epoll instance and one
// goroutine: a goroutine that waits for each of them would cost 8 KiB of stack.
//
// The invariant: the handler of a descriptor runs on a goroutine of its own, never
// twice at a time, and once more if something happened meanwhile. It does not begin
// once Remove was called. So a handler may wait for whatever it likes, and holds up
// nobody else.
package poller

import (
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Set waits for descriptors. The zero value is ready to use.
type Set struct {
	mu      sync.Mutex
	fd      int // of the epoll instance, 0 before the first Add
	last    uint64
	sources map[uint64]*Source
}

// Source is a descriptor in a Set.
type Source struct {
	set     *Set
	fd      int
	id      uint64 // a number of a descriptor is given again, an id is not
	handle  func(*Source) bool
	busy    bool // the handler runs; guarded by set.mu, as the following
	again   bool // something has happened since it began
	removed bool
}

// Add has handle called whenever there is something new to read from fd, or an end; it
// has to read all that there is, epoll(7) has EPOLLET. It returns false when it wants
// no more. Who adds a descriptor calls Remove before it closes it: others may have the
// same open file, so that the kernel would not forget it.
func (s *Set) Add(fd int, handle func(*Source) bool) *Source {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	src := &Source{set: s, fd: fd, id: s.last, handle: handle}
	if s.start() != nil || src.control(unix.EPOLL_CTL_ADD) != nil {
		go src.block() // fs.epoll.max_user_watches, or no memory or descriptor for more
		return src
	}
	s.sources[src.id] = src
	return src
}

// Remove ends the calls of the handler. One that runs is not waited for.
func (src *Source) Remove() {
	s := src.set
	s.mu.Lock()
	defer s.mu.Unlock()
	src.remove()
}

func (src *Source) remove() {
	if src.removed {
		return
	}
	src.removed = true
	if _, ok := src.set.sources[src.id]; ok {
		delete(src.set.sources, src.id)
		_ = src.control(unix.EPOLL_CTL_DEL)
	}
}

func (s *Set) start() error {
	if s.fd != 0 {
		return nil
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	// An epoll instance can be waited for by another one, Go's: epoll(7).
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return err
	}
	conn, err := os.NewFile(uintptr(fd), "poller").SyscallConn()
	if err != nil {
		return err
	}
	s.fd, s.sources = fd, make(map[uint64]*Source)
	go s.serve(conn)
	return nil
}

// serve starts the handlers. It never ends.
func (s *Set) serve(conn syscall.RawConn) {
	var events [64]unix.EpollEvent
	for {
		n := 0
		err := conn.Read(func(fd uintptr) bool {
			n = ready(fd, events[:])
			return n > 0
		})
		if err != nil {
			return
		}
		s.mu.Lock()
		for _, e := range events[:n] {
			if src := s.sources[uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32]; src != nil {
				src.again = true
				if !src.busy {
					src.busy = true
					go src.run()
				}
			}
		}
		s.mu.Unlock()
	}
}

// ready is epoll_wait(2) without waiting. As raw calls these do not wake the
// scheduler's monitor thread.
func ready(fd uintptr, events []unix.EpollEvent) int {
	n, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if e != 0 {
		return 0
	}
	return int(n)
}

func (src *Source) control(op int) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(uint32(src.id)), Pad: int32(uint32(src.id >> 32))}
	_, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(src.set.fd), uintptr(op), uintptr(src.fd), uintptr(unsafe.Pointer(&e)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func (src *Source) run() {
	for src.wanted() {
		if !src.handle(src) {
			src.Remove()
			return
		}
	}
}

// wanted reports whether the handler is to be called (again).
func (src *Source) wanted() bool {
	src.set.mu.Lock()
	defer src.set.mu.Unlock()
	src.busy = src.again && !src.removed
	src.again = false
	return src.busy
}

// Where there is no epoll, a thread looks so often whether its descriptor was removed,
// and for what the handler has left.
const (
	often = time.Second
	pause = 5 * time.Millisecond
)

func (src *Source) block() {
	for {
		poll := [1]unix.PollFd{{Fd: int32(src.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll[:], int(often/time.Millisecond))
		if err != nil && err != unix.EINTR {
			return
		}
		src.set.mu.Lock()
		removed := src.removed
		src.set.mu.Unlock()
		switch {
		case removed:
			return
		case n <= 0:
		case !src.handle(src):
			src.Remove()
			return
		default:
			time.Sleep(pause)
		}
	}
}
