package handoff

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/lines"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/spawn"
	"github.com/hotinit/hotinit/reaper"
)

// liner runs the process that puts programs' names before their lines (package lines),
// once there is a stream for it, and gives it each one. Init keeps the socket to it,
// which is all that the next handoff needs: the process lives as long as the socket's
// other end is open. The streams are kept by those whose they are (outputs).
type liner struct {
	loop *loop
	kept keeper

	mu      sync.Mutex
	streams map[*stream]bool // true where the process that runs now has it
	began   bool             // this is no trial
	wake    chan struct{}
	ending  chan struct{}
	ended   chan struct{} // closed once the process has written everything
}

// stream is standard output or standard error of a generation.
type stream struct {
	name     string // what goes before its lines
	from, to int    // the pipe's reading end, and what it is written to
	kept     keeper // has both for the next handoff,
	key      string // under this name, and with toName after it
	over     bool   // nothing of the generation is left to write
}

const toName = "/to"

// linerSocket is the name under which init keeps the socket.
const linerSocket = "lines/socket"

func newLiner(link *link, loop *loop) *liner {
	return &liner{loop: loop, kept: link, streams: make(map[*stream]bool), wake: make(chan struct{}, 1),
		ending: make(chan struct{}), ended: make(chan struct{})}
}

// begin starts the work, for what was added already and what will be. A handoff in a
// trial has not begun.
func (l *liner) begin() {
	socket := l.kept.take(linerSocket)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.began = true
	go l.run(socket)
}

// add gives the process a stream, soon.
func (l *liner) add(s *stream) {
	l.mu.Lock()
	l.streams[s] = false
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// remove lets go of a stream once the process has it, which reads on to its end. It
// runs in the loop.
func (l *liner) remove(s *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.over = true; l.streams[s] {
		l.free(s)
	}
}

// discard lets go of a stream that nothing was written to. It runs in the loop.
func (l *liner) discard(s *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free(s)
}

// free runs in the loop, with the lock.
func (l *liner) free(s *stream) {
	delete(l.streams, s)
	s.free()
}

// free closes a stream, here and in init.
func (s *stream) free() {
	unix.Close(s.from)
	unix.Close(s.to)
	s.kept.drop(s.key)
	s.kept.drop(s.key + toName)
}

// run has a process run as long as there are streams. socket is that of the one that
// the last handoff has started, or -1.
func (l *liner) run(socket int) {
	defer close(l.ended)
	said := false
	for tries := 0; ; tries++ {
		resumed := socket >= 0
		if !resumed {
			if !l.await() || !pause(tries, l.ending) && tries > 0 {
				return
			}
			var err error
			if socket, err = l.start(); err != nil {
				if !said {
					say.Line("what puts programs' names before their lines (--log-prefix) cannot be started: %v; it is tried again, and lines wait in pipes meanwhile", err)
				}
				said = true
				continue
			}
			said = false
		}
		file := os.NewFile(uintptr(socket), lines.Name)
		gone := make(chan struct{})
		go func() {
			_, _ = file.Read(make([]byte, 1)) // nothing comes but the end
			close(gone)
		}()
		if resumed {
			renew(file)
		}
		if l.feed(file, gone) {
			tries = 0
		}
		select {
		case <-l.ending:
			// It gets no more, reads to the end, and ends.
			unix.Shutdown(socket, unix.SHUT_WR)
			<-gone
			file.Close()
			return
		case <-gone:
		}
		file.Close()
		socket = -1
		l.loop.ask(func() { l.kept.drop(linerSocket) })
		if l.forget() {
			say.Line("what puts programs' names before their lines (--log-prefix) was lost, and what it had read; it is started again")
		}
	}
}

// renew has a process that another handoff has started execute this hotinit, if it is
// another one. What fails there leaves it as it is.
func renew(socket *os.File) {
	fd, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = lines.Renew(socket, fd)
		unix.Close(fd)
	}
	if err != nil && !errors.Is(err, unix.EPIPE) {
		say.Line("what puts programs' names before their lines (--log-prefix) stays of the hotinit before: %v", err)
	}
}

// await returns once there is a stream, or once everything ends. It reports whether
// there is one.
func (l *liner) await() bool {
	for {
		l.mu.Lock()
		n := len(l.streams)
		l.mu.Unlock()
		if n > 0 {
			return true
		}
		select {
		case <-l.wake:
		case <-l.ending:
			return false
		}
	}
}

// start starts the process, and returns this end of the socket to it.
func (l *liner) start() (socket int, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(pair[1])
	// Before it is given anything: a handoff that finds no socket finds no process.
	l.loop.ask(func() { err = l.kept.keep(linerSocket, pair[0]) })
	if err != nil {
		unix.Close(pair[0])
		return -1, err
	}
	std := std()
	child, err := spawn.Start(&spawn.Spec{
		Path: "/proc/self/exe", FD: -1, Argv: []string{lines.Name}, Env: lines.Environ(say.IsJSON()),
		Files: []int{-1, std[1], std[2], lines.Socket: pair[1]},
		Dir:   "/", Umask: -1, Setpgid: true, Foreground: -1, Cgroup: -1,
		Limit: executeWithin,
	})
	if err != nil {
		l.loop.ask(func() { l.kept.drop(linerSocket) })
		unix.Close(pair[0])
		return -1, err
	}
	p := reaper.Own(child.PID, child.PIDFD)
	go func() {
		p.Wait()
		p.Close()
	}()
	return pair[0], nil
}

// feed gives the process what there is and what comes, until it is gone or everything
// ends. It reports whether it got anything.
func (l *liner) feed(socket *os.File, gone <-chan struct{}) (fed bool) {
	for last := false; ; {
		for {
			s, from, to := l.next()
			if s == nil {
				break
			}
			err := lines.Send(socket, s.name, from, to)
			unix.Close(from)
			unix.Close(to)
			switch {
			case err == nil:
				fed = true
				l.given(s)
			case !lines.Passes(err) || !pause(1, gone):
				return fed // it is gone
			}
		}
		if last {
			return fed
		}
		select {
		case <-l.wake:
		case <-gone:
			return fed
		case <-l.ending:
			last = true // what came before that is to be given still
		}
	}
}

// next returns a stream that the process has not got, with descriptors of its own: it
// may be removed meanwhile.
func (l *liner) next() (s *stream, from, to int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s, given := range l.streams {
		if given {
			continue
		}
		from, err := unix.FcntlInt(uintptr(s.from), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return nil, -1, -1 // there are no more descriptors: with the next one
		}
		to, err := unix.FcntlInt(uintptr(s.to), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			unix.Close(from)
			return nil, -1, -1
		}
		return s, from, to
	}
	return nil, -1, -1
}

// given takes in that the process has a stream.
func (l *liner) given(s *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams[s] = true
	if s.over {
		go l.loop.do(func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			if _, ok := l.streams[s]; ok {
				l.free(s)
			}
		})
	}
}

// forget takes in that the process is gone. It reports whether it had a stream.
func (l *liner) forget() (lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for s, given := range l.streams {
		lost = lost || given
		l.streams[s] = false
	}
	return lost
}

// end waits until everything is written, now that nothing writes any more. It runs in
// the loop.
func (l *liner) end() {
	l.mu.Lock()
	began := l.began
	l.mu.Unlock()
	select {
	case <-l.ending:
		return
	default:
		close(l.ending)
	}
	if began {
		l.loop.serveUntil(logGrace, l.ended)
	}
}
