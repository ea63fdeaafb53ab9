package notify

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
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
type Server struct{ file *os.File }

// NewServer takes over the socket.
func NewServer(fd int) *Server {
	return &Server{os.NewFile(uintptr(fd), "NOTIFY_SOCKET")}
}

// Close closes the socket, and makes Serve return.
func (s *Server) Close() { s.file.Close() }

// Serve calls handle with each datagram. It does not return while the socket
// works.
func (s *Server) Serve(handle func(Message)) {
	raw, err := s.file.SyscallConn()
	buf := make([]byte, 8192)
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(64*4))
	for err == nil {
		var size, oobn, got int
		var failed error
		receive := func(flags int) {
			err = raw.Read(func(fd uintptr) bool {
				size, oobn, got, _, failed = unix.Recvmsg(int(fd), buf, oob, flags|unix.MSG_CMSG_CLOEXEC)
				return failed != unix.EAGAIN
			})
		}
		receive(unix.MSG_PEEK)
		if err != nil {
			return
		}
		if failed == nil {
			// Peeking at a datagram copies its descriptors, too.
			pid, uid, fds := sender(oob[:oobn])
			closeAll(fds)
			m := Message{PID: pid, UID: uid, Text: string(buf[:size])}
			if got&unix.MSG_TRUNC != 0 {
				// What is cut may mean something else.
				m.Text, m.Cut = "", true
			}
			handle(m)
		}
		receive(0)
		if failed == nil {
			// BARRIER=1 comes with a pipe. Its sender waits until this close
			// says that everything before it was acted upon,
			// sd_notify_barrier(3).
			_, _, fds := sender(oob[:oobn])
			closeAll(fds)
		}
	}
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
