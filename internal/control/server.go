package control

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Listen makes the socket. It is non-blocking and close-on-exec.
func Listen(address string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("cannot make the control socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: address}); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("cannot bind the control socket %s: %w", address, err)
	}
	if err := unix.Listen(fd, 16); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("cannot listen on the control socket %s: %w", address, err)
	}
	return fd, nil
}

const (
	// mostReading is how many clients may be about to send their request. When
	// another one connects, the oldest of them is let go.
	mostReading = 32
	// mostWaiting is how many requests may wait for a swap, or watch the status.
	// Further ones are refused. All others are answered at once, so nothing holds
	// them up.
	mostWaiting = 32
)

// server is what Serve knows of its clients.
type server struct {
	handle  func(r Request, answer func(Response) bool, gone <-chan struct{})
	waiting atomic.Int32

	mu      sync.Mutex
	reading []*os.File // oldest first
}

// Serve answers everybody who connects to fd. handle gets each request on a
// goroutine of its own; gone is closed when the client has left. answer may
// be called several times, and returns false once nobody reads any more.
func Serve(fd int, handle func(r Request, answer func(Response) bool, gone <-chan struct{})) {
	s := &server{handle: handle}
	file := os.NewFile(uintptr(fd), "control socket")
	raw, err := file.SyscallConn()
	for err == nil {
		conn, failed := -1, error(nil)
		err = raw.Read(func(fd uintptr) bool {
			conn, _, failed = unix.Accept4(int(fd), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			return failed != unix.EAGAIN
		})
		if err != nil || failed != nil {
			if failed == unix.EMFILE || failed == unix.ENFILE || failed == unix.ENOMEM {
				// Out of descriptors: the connection stays in the backlog, and
				// accepting it again at once would use all of a processor.
				time.Sleep(100 * time.Millisecond)
			}
			continue
		}
		client := os.NewFile(uintptr(conn), "control connection")
		cred, err := unix.GetsockoptUcred(conn, unix.SOL_SOCKET, unix.SO_PEERCRED)
		s.enter(client)
		go s.serve(client, cred, err)
	}
}

// enter adds a client whose request is not read yet. It closes the oldest one if
// there are too many, so that clients that send nothing do not block others.
func (s *server) enter(client *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading = append(s.reading, client)
	if len(s.reading) > mostReading {
		s.reading[0].Close()
		s.reading = slices.Delete(s.reading, 0, 1)
	}
}

func (s *server) leave(client *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading = slices.DeleteFunc(s.reading, func(f *os.File) bool { return f == client })
}

// waits reports whether the answer to a request may take long, whatever its fields say.
func (r *Request) waits() bool {
	switch r.Op {
	case "wait", "prove", "deploy", "upgraded":
		return true
	}
	return r.Wait || r.Watch
}

// refusal says why a peer is not listened to, "" if it is. A user that is not
// mapped in this user namespace looks like 65534, and so does that user itself; a
// process of another PID namespace has the PID 0.
func refusal(cred *unix.Ucred, err error) string {
	switch {
	case err != nil:
		return "not allowed: the kernel does not say who asks: " + err.Error()
	case cred.Pid == 0:
		return "not allowed: whoever asks is in another PID namespace (ask from inside the container)"
	case cred.Uid != 0 && int(cred.Uid) != os.Geteuid():
		return fmt.Sprintf("not allowed: only root and the user that hotinit runs as (%d) may ask", os.Geteuid())
	}
	return ""
}

func (s *server) serve(file *os.File, cred *unix.Ucred, err error) {
	defer file.Close()
	answer := func(r Response) bool {
		_ = file.SetWriteDeadline(time.Now().Add(5 * time.Second))
		return json.NewEncoder(file).Encode(r) == nil
	}
	if text := refusal(cred, err); text != "" {
		answer(Response{Text: text})
		// To close the socket with the request unread would reset the connection,
		// and the answer would be lost. So the request is read first.
		_ = file.SetReadDeadline(time.Now().Add(time.Second))
		_, _ = file.Read(make([]byte, 4096))
		s.leave(file)
		return
	}
	_ = file.SetReadDeadline(time.Now().Add(5 * time.Second))
	var r Request
	decoder := json.NewDecoder(&limited{file, 4096})
	err = decoder.Decode(&r)
	s.leave(file)
	if err != nil {
		answer(Response{Text: "the request cannot be read: " + err.Error()})
		return
	}
	if r.waits() {
		defer s.waiting.Add(-1)
		if s.waiting.Add(1) > mostWaiting {
			answer(Response{Text: fmt.Sprintf("%d other clients wait for hotinit, and there can be no more", mostWaiting)})
			return
		}
	}
	_ = file.SetReadDeadline(time.Time{})
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		var b [1]byte
		_, _ = file.Read(b[:]) // returns when the client leaves, or at Close
	}()
	s.handle(r, answer, gone)
}

// limited is a reader that ends after n bytes.
type limited struct {
	f *os.File
	n int
}

func (l *limited) Read(b []byte) (int, error) {
	if l.n <= 0 {
		return 0, fmt.Errorf("longer than 4096 bytes")
	}
	n, err := l.f.Read(b[:min(len(b), l.n)])
	l.n -= n
	return n, err
}
