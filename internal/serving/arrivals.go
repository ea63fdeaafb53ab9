package serving

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// arrivals is an epoll set of our own that the sockets are in besides the app's,
// to learn when connections come. An app's waiters are woken as without it:
// epoll(7) wakes all that wait without EPOLLEXCLUSIVE, and accept(2) one besides.
type arrivals struct {
	events uint32 // EPOLLET: each time one comes; EPOLLONESHOT: once, until rearmed

	mu     sync.Mutex
	file   *os.File // of the set
	fd     int
	closed bool
	in     map[uint64]int // the sockets that are in the set, by inode
}

func newArrivals(events uint32) (*arrivals, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	// Go's poller takes only descriptors that do not block.
	_ = unix.SetNonblock(fd, true)
	return &arrivals{events: unix.EPOLLIN | events, file: os.NewFile(uintptr(fd), "epoll"), fd: fd, in: make(map[uint64]int)}, nil
}

// watch makes the sockets be those that are watched.
func (a *arrivals) watch(sockets []Socket) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	now := make(map[uint64]int)
	for _, s := range sockets {
		if !s.Stream {
			continue
		}
		now[s.Inode] = s.FD
		if _, ok := a.in[s.Inode]; ok {
			continue
		}
		ev := event(a.events, s.Inode)
		_ = unix.EpollCtl(a.fd, unix.EPOLL_CTL_ADD, s.FD, &ev)
	}
	for inode, fd := range a.in {
		if _, ok := now[inode]; !ok {
			// It fails where the number has been closed, which the set knows.
			_ = unix.EpollCtl(a.fd, unix.EPOLL_CTL_DEL, fd, nil)
		}
	}
	a.in = now
}

// rearm has the next connection to a socket reported.
func (a *arrivals) rearm(inode uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if fd, ok := a.in[inode]; ok && !a.closed {
		ev := event(a.events, inode)
		_ = unix.EpollCtl(a.fd, unix.EPOLL_CTL_MOD, fd, &ev)
	}
}

// event is an epoll_event whose data is an inode.
func event(events uint32, inode uint64) unix.EpollEvent {
	return unix.EpollEvent{Events: events, Fd: int32(uint32(inode)), Pad: int32(uint32(inode >> 32))}
}

func inodeOf(ev unix.EpollEvent) uint64 { return uint64(uint32(ev.Pad))<<32 | uint64(uint32(ev.Fd)) }

// wait returns the sockets to which connections have come, by inode, after at
// most so many milliseconds; -1 is without limit. The thread is blocked.
func (a *arrivals) wait(timeout int) []uint64 {
	var list [16]unix.EpollEvent
	n, err := unix.EpollWait(a.fd, list[:], timeout)
	if err != nil {
		return nil
	}
	inodes := make([]uint64, n)
	for i := range inodes {
		inodes[i] = inodeOf(list[i])
	}
	return inodes
}

// deliver sends the sockets to which connections have come until the set is
// closed, and closes c then. While none comes it costs no thread.
func (a *arrivals) deliver(c chan<- uint64) {
	defer close(c)
	raw, err := a.file.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(uintptr) bool {
		for {
			inodes := a.wait(0)
			for _, inode := range inodes {
				select {
				case c <- inode:
				default: // there is news enough
				}
			}
			if len(inodes) == 0 {
				return false
			}
		}
	})
}

func (a *arrivals) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.file.Close()
		a.closed = true
	}
}
