package notify

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/poller"
)

// Listen makes the socket. address begins with "@": an abstract one needs no
// file system that can be written to.
func Listen(address string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("cannot make NOTIFY_SOCKET: %w", err)
	}
	// Only with this does the kernel say who sent a datagram, unix(7).
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("cannot learn who sends to NOTIFY_SOCKET: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: address}); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("cannot bind NOTIFY_SOCKET %s: %w", address, err)
	}
	return fd, nil
}

// Server receives what is sent to the socket.
type Server struct {
	fd     int
	source *poller.Source

	mu     sync.Mutex
	closed bool
}

// Serve takes over the socket, and has handle called with each datagram, one at a
// time, until Close.
func Serve(set *poller.Set, fd int, handle func(Message)) *Server {
	s := &Server{fd: fd}
	s.source = set.Add(fd, func(*poller.Source) bool {
		for s.next(handle) {
		}
		return true
	})
	return s
}

// Close closes the socket. A call of handle that goes on is not waited for.
func (s *Server) Close() {
	s.source.Remove()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		unix.Close(s.fd)
	}
}

// buffers are needed for as long as a datagram is looked at.
type buffers struct {
	text [8192]byte // longer ones are cut
	oob  [320]byte  // credentials and 64 descriptors; the kernel drops more
}

var pool = sync.Pool{New: func() any { return new(buffers) }}

// next hands over the next datagram. It reports whether there was any.
func (s *Server) next(handle func(Message)) bool {
	m, err := s.peek()
	if err == nil {
		handle(m)
	}
	if err != unix.EAGAIN && err != unix.EBADF {
		err = s.take()
	}
	return err != unix.EAGAIN && err != unix.EBADF
}

func (s *Server) peek() (Message, error) {
	b := pool.Get().(*buffers)
	defer pool.Put(b)
	size, oobn, got, err := s.receive(b, unix.MSG_PEEK)
	if err != nil {
		return Message{}, err
	}
	// Peeking at a datagram copies its descriptors, too.
	pid, uid, fds := sender(b.oob[:oobn])
	closeAll(fds)
	if got&unix.MSG_TRUNC != 0 {
		return Message{PID: pid, UID: uid, Cut: true}, nil // what is cut may mean something else
	}
	return Message{PID: pid, UID: uid, Text: string(b.text[:size])}, nil
}

// take takes out what was acted upon.
func (s *Server) take() error {
	b := pool.Get().(*buffers)
	defer pool.Put(b)
	_, oobn, _, err := s.receive(b, 0)
	if err == nil {
		// BARRIER=1 comes with a pipe. Its sender waits until this close
		// says that everything before it was acted upon,
		// sd_notify_barrier(3).
		_, _, fds := sender(b.oob[:oobn])
		closeAll(fds)
	}
	return err
}

func (s *Server) receive(b *buffers, flags int) (size, oobn, got int, err error) {
	s.mu.Lock() // a number that was closed may be another descriptor's
	defer s.mu.Unlock()
	if s.closed {
		return 0, 0, 0, unix.EBADF
	}
	size, oobn, got, _, err = unix.Recvmsg(s.fd, b.text[:], b.oob[:], flags|unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
	return size, oobn, got, err
}

// sender returns who sent a datagram, and the descriptors that came with it.
func sender(oob []byte) (pid int, uid uint32, fds []int) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, 0, nil
	}
	for _, m := range msgs {
		if m.Header.Type == unix.SCM_CREDENTIALS {
			if cred, err := unix.ParseUnixCredentials(&m); err == nil {
				pid, uid = int(cred.Pid), cred.Uid
			}
		} else if got, err := unix.ParseUnixRights(&m); err == nil {
			fds = append(fds, got...)
		}
	}
	return pid, uid, fds
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
