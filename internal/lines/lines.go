// Package lines puts the name of its program before each line of output
// (--log-prefix), in a process of its own.
//
// The invariant: a line arrives whole, once and in its stream's order, behind its
// program's name, or not at all; what one program or one target does, or fails to do,
// holds up nobody who writes to another target.
//
// The handoff starts the process where a program asks for it, and gives it each
// generation's pipes by Send: the end to read from, and the target to write to. It
// reads no files, has no settings and answers nothing. Init keeps the pipes and the
// socket, so this process outlives a handoff; when it is lost itself, the handoff
// starts another one and gives it the same pipes: a program never gets SIGPIPE.
// What both have read when they are killed is lost.
//
// Read lines.go for how it is told what to do, source.go for how a stream becomes
// lines, target.go for how they are written, and renew.go for how a hotinit that takes
// over replaces the process.
package lines

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/say"
)

// Name is the process's argv[0], by which the executable knows its role.
const Name = "hotinit-lines"

// Socket is its descriptor of the socket that Send sends to.
const Socket = 3

// longestName bounds what Send sends. It is above what a program may be called.
const longestName = 256

// Send gives the process a stream: it reads from source, and writes to target, with
// name before each line. To send a source twice changes nothing. The socket does not
// block (O_NONBLOCK); Send waits where there is no room in it.
func Send(socket *os.File, name string, source, target int) error {
	return send(socket, name, source, target)
}

func send(socket *os.File, text string, fds ...int) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		failed = unix.Sendmsg(int(fd), []byte(text), unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL)
		return failed != unix.EAGAIN
	})
	return errors.Join(err, failed)
}

// Passes reports whether an error of Send may pass: the kernel bounds the descriptors
// that are on their way.
func Passes(err error) bool {
	for _, e := range []error{unix.ETOOMANYREFS, unix.ENOBUFS, unix.ENOMEM, unix.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Run is the process's whole life. It returns the status to exit with.
func Run() int {
	// The name that ps and top show; /proc/self/exe would show as "exe".
	name := [16]byte{}
	copy(name[:15], Name)
	_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0)
	_ = unix.Chdir("/") // it keeps no mount busy
	unix.CloseOnExec(Socket)
	say.SetJSON(os.Getenv(format) == "json")
	r := newRelay(execute)
	if err := r.resume(os.Getenv(handed)); err != nil {
		say.Line("lines of programs are lost (--log-prefix): %v", err)
	}
	if err := r.serve(Socket, lastWords); err != nil {
		_, _ = unix.Write(2, []byte("hotinit: descriptor 3 is not the socket to the handoff (only hotinit itself starts this role)\n"))
		return 1
	}
	return 0
}

// format is the variable that says how the process prints its own lines.
const format = "HOTINIT_LOG_FORMAT"

// Environ is the process's environment.
func Environ(json bool) []string {
	if json {
		return []string{format + "=json"}
	}
	return nil
}

// relay is the process's state.
type relay struct {
	mu      sync.Mutex
	sources map[identity]*source
	targets map[identity]*target
	renewal
	all     sync.WaitGroup // the sources
	waiting atomic.Int64   // sources that wait for more
	moved   atomic.Uint64  // how often one went on
}

// identity names a pipe or a file.
type identity struct{ dev, ino uint64 }

func identify(fd int) (identity, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return identity{}, err
	}
	return identity{uint64(st.Dev), st.Ino}, nil
}

func newRelay(execute func(file, state int) error) *relay {
	r := &relay{sources: make(map[identity]*source), targets: make(map[identity]*target)}
	r.renewal = renewal{file: -1, execute: execute, moves: make(chan struct{}, 1)}
	return r
}

// serve takes what Send sends until nobody can send any more, and then writes what
// there is until each source has ended.
func (r *relay) serve(socket int, patience time.Duration) error {
	if err := unix.SetNonblock(socket, true); err != nil {
		return err
	}
	f := os.NewFile(uintptr(socket), "handoff")
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	b, oob := make([]byte, longestName), make([]byte, unix.CmsgSpace(2*4))
	for {
		var n, got int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			n, got, _, _, failed = unix.Recvmsg(int(fd), b, oob, unix.MSG_CMSG_CLOEXEC)
			return failed != unix.EAGAIN
		})
		switch {
		case err == nil && failed == unix.EINTR:
			continue
		case errors.Is(err, os.ErrDeadlineExceeded):
			_ = f.SetReadDeadline(r.renew())
			continue
		case err == nil && errors.Is(failed, unix.ENOTSOCK):
			return failed
		case err != nil, failed != nil, n == 0 && got == 0:
			r.finish(patience)
			return nil
		}
		fds := rights(oob[:got])
		if len(fds) == 1 {
			_ = f.SetReadDeadline(r.asked(string(b[:n]), fds[0]))
			continue
		}
		r.take(string(b[:n]), fds)
	}
}

func rights(oob []byte) []int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return nil
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil
	}
	return fds
}

// take begins to read a source that was sent.
func (r *relay) take(name string, fds []int) {
	if len(fds) != 2 || !r.follow(stream{Name: name, From: fds[0], To: fds[1]}) {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
}

// follow begins to read a source. It reports whether it has its descriptors now.
func (r *relay) follow(st stream) bool {
	id, err := identify(st.From)
	to, err2 := identify(st.To)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil || err2 != nil || r.sources[id] != nil {
		return false
	}
	t := r.targets[to]
	switch {
	case t == nil:
		t = newTarget(st.To)
		t.torn = st.Torn
		r.targets[to] = t
	case t.fd != st.To:
		unix.Close(st.To) // the same file: two may not write to it at once
	}
	t.users++
	r.all.Add(1)
	_ = unix.SetNonblock(st.From, true)
	s := &source{relay: r, file: os.NewFile(uintptr(st.From), st.Name), fd: st.From, name: st.Name, target: t, rest: st.Rest, broken: st.Broken}
	r.sources[id] = s
	go func() {
		s.follow()
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.sources, id)
		if t.users--; t.users == 0 {
			delete(r.targets, to)
			t.close()
		}
		r.move()
		r.all.Done()
	}()
	return true
}

// lastWords is how long the process waits at the end for a target that takes nothing.
const lastWords = 2 * time.Second

// finish returns when all sources have ended, or when all that there is to do is to
// wait for targets that take nothing.
func (r *relay) finish(patience time.Duration) {
	done := make(chan struct{})
	go func() { r.all.Wait(); close(done) }()
	look := time.NewTicker(patience)
	defer look.Stop()
	for before := r.moved.Load(); ; {
		select {
		case <-done:
			return
		case <-look.C:
			now := r.moved.Load()
			if now == before && r.waiting.Load() == 0 {
				return
			}
			before = now
		}
	}
}
