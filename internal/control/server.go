package control

import (
	"encoding/json"
	"fmt"
	"os"
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

// mostClients is how many are answered at once; further ones wait.
const mostClients = 32

// Serve answers everybody who connects to fd. handle gets each request on a
// goroutine of its own; gone is closed when the client has left. answer may
// be called several times, and returns false once nobody reads any more.
func Serve(fd int, handle func(r Request, answer func(Response) bool, gone <-chan struct{})) {
	file := os.NewFile(uintptr(fd), "control socket")
	raw, err := file.SyscallConn()
	slots := make(chan struct{}, mostClients)
	for err == nil {
		slots <- struct{}{}
		conn, failed := -1, error(nil)
		err = raw.Read(func(fd uintptr) bool {
			conn, _, failed = unix.Accept4(int(fd), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			return failed != unix.EAGAIN
		})
		if err != nil || failed != nil {
			<-slots
			if failed == unix.EMFILE || failed == unix.ENFILE || failed == unix.ENOMEM {
				// Out of descriptors: the connection stays in the backlog, and
				// would have this loop spin.
				time.Sleep(100 * time.Millisecond)
			}
			continue
		}
		go func() {
			defer func() { <-slots }()
			answerOne(conn, handle)
		}()
	}
}

func answerOne(conn int, handle func(Request, func(Response) bool, <-chan struct{})) {
	file := os.NewFile(uintptr(conn), "control connection")
	defer file.Close()
	answer := func(r Response) bool {
		_ = file.SetWriteDeadline(time.Now().Add(5 * time.Second))
		return json.NewEncoder(file).Encode(r) == nil
	}
	if cred, err := unix.GetsockoptUcred(conn, unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil ||
		cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		answer(Response{Text: fmt.Sprintf("not allowed: only root and the user that hotinit runs as (%d) are listened to", os.Geteuid())})
		// To close with the request unread would reset the connection, and the
		// answer be lost with it. A stranger is not waited for for long.
		_ = file.SetReadDeadline(time.Now().Add(time.Second))
		_, _ = file.Read(make([]byte, 4096))
		return
	}
	_ = file.SetReadDeadline(time.Now().Add(5 * time.Second))
	var r Request
	decoder := json.NewDecoder(&limited{file, 4096})
	if err := decoder.Decode(&r); err != nil {
		answer(Response{Text: "the request makes no sense: " + err.Error()})
		return
	}
	_ = file.SetReadDeadline(time.Time{})
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		var b [1]byte
		_, _ = file.Read(b[:]) // returns when the client leaves, or at Close
	}()
	handle(r, answer, gone)
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
