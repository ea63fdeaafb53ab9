package handoff

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/proc"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/settings"
)

// probes find out whether candidates are ready, where that does not come by
// NOTIFY_SOCKET or by time alone.
type probes struct {
	*common
	sockets func(n int) map[string]bool // those that generation n serves on
}

// readiness is what one candidate shows its readiness with.
type readiness struct {
	name  string
	ours  int // --ready fd:N: this end, -1 where there is none
	child int // and the app's, until it is started
	kept  *kept
}

// open makes what --ready needs for generation n. The app writes to a socket and
// not to a pipe, since a socket can be peeked at: the next handoff still finds
// what the app wrote.
func (s *probes) open(n int) (*readiness, error) {
	r := &readiness{name: "ready/" + strconv.Itoa(n), ours: -1, child: -1, kept: s.kept}
	if s.contract.ReadyFD < 0 {
		return r, nil
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	r.ours, r.child = fds[0], fds[1]
	_ = unix.SetNonblock(r.ours, true)
	return r, s.kept.keep(r.name, r.ours)
}

// resume takes over what the last handoff opened for generation n.
func (s *probes) resume(n int) *readiness {
	name := "ready/" + strconv.Itoa(n)
	return &readiness{name: name, ours: s.kept.take(name), child: -1, kept: s.kept}
}

func (r *readiness) childFD() int { return r.child }

func (r *readiness) closeChild() {
	if r.child >= 0 {
		unix.Close(r.child)
		r.child = -1
	}
}

func (r *readiness) close() {
	r.closeChild()
	if r.ours >= 0 {
		unix.Close(r.ours)
		r.ours = -1
	}
	r.kept.drop(r.name)
}

// await posts Ready once the candidate shows that it is.
func (s *probes) await(p *process, r *readiness) {
	done := make(chan struct{})
	p.done = done
	p.stop = func() {
		p.stop = nil
		close(done)
		r.kept.drop(r.name)
	}
	switch s.cfg.Ready.Mode {
	case settings.ReadyFD:
		if r.ours >= 0 {
			go s.awaitLine(p.n, r.ours, done)
		}
	case settings.ReadyExec:
		go s.awaitCommand(p.n, done)
	case settings.ReadyAccept:
		if len(s.contract.Sockets) > 0 || s.cfg.Adopt == settings.AdoptOff {
			go s.awaitAccept(p, done)
		} // else once it listens, see adoption
	}
}

// awaitLine waits for a newline on the descriptor, as s6 has it.
func (s *probes) awaitLine(n, fd int, done chan struct{}) {
	file := os.NewFile(uintptr(fd), "--ready descriptor")
	go func() {
		<-done
		file.Close() // ends the wait below
	}()
	raw, err := file.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 4096)
	seen := 0
	err = raw.Read(func(fd uintptr) bool {
		size, _, err := unix.Recvfrom(int(fd), buf, unix.MSG_PEEK)
		if err == unix.EAGAIN || err == unix.EINTR {
			return false
		}
		if err != nil || size <= 0 || bytes.IndexByte(buf[:size], '\n') >= 0 {
			seen = size
			return true
		}
		// Something without a newline. It has to be taken out, or this would
		// be called for it again and again.
		_, _, _ = unix.Recvfrom(int(fd), buf[:size], 0)
		return false
	})
	if err == nil && seen > 0 {
		s.engine.post(machine.Event{Kind: machine.Ready, N: n})
	}
}

// awaitCommand runs the command of --ready exec: until it exits with 0.
func (s *probes) awaitCommand(n int, done chan struct{}) {
	env, _, err := s.contract.Environment(n)
	if err != nil {
		env = s.contract.Base
	}
	c := s.hook(s.cfg.Ready.Command)
	c.Env, c.Timeout, c.Cancel = env, s.cfg.ReadyTimeout, done
	wait := 50 * time.Millisecond
	for {
		if c.Run() == nil {
			s.engine.post(machine.Event{Kind: machine.Ready, N: n})
			return
		}
		select {
		case <-done:
			return
		case <-time.After(wait):
			wait = min(wait*2, time.Second)
		}
	}
}

// awaitAccept waits until a process of the candidate waits for connections on
// one of the shared sockets. /proc is all that tells, so this is looked at by
// time, as long as there is a candidate.
func (s *probes) awaitAccept(p *process, done chan struct{}) {
	started := time.Now()
	told := false
	for wait := 5 * time.Millisecond; ; wait = min(wait*2, 100*time.Millisecond) {
		readable := false
		pids := []int{p.pid}
		for _, st := range proc.Descendants(p.pid) {
			pids = append(pids, st.PID)
		}
		for _, pid := range pids {
			accepts, ok := acceptsOn(pid, s.sockets(p.n))
			if accepts {
				s.engine.post(machine.Event{Kind: machine.Ready, N: p.n})
				return
			}
			readable = readable || ok
		}
		if !readable {
			if !told {
				told = true
				say.Line("--ready accept: /proc does not show what generation %d waits for; it counts as ready after --interval", p.n)
			}
			if time.Since(started) >= s.cfg.Interval {
				s.engine.post(machine.Event{Kind: machine.Ready, N: p.n})
				return
			}
		}
		select {
		case <-done:
			return
		case <-time.After(wait):
		}
	}
}

// acceptsOn reports whether a process waits on one of the sockets: it has one in
// an epoll(7) set, or a thread of it is in accept(2), poll(2) or select(2).
// ok is false where it may not be looked at.
func acceptsOn(pid int, sockets map[string]bool) (accepts, ok bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	fds, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return false, false
	}
	listening := make(map[string]bool)
	var polls []string
	for _, fd := range fds {
		target, err := os.Readlink(dir + "/fd/" + fd.Name())
		switch {
		case err != nil:
		case sockets[target]:
			listening[fd.Name()] = true
		case target == "anon_inode:[eventpoll]":
			polls = append(polls, fd.Name())
		}
	}
	for _, fd := range polls {
		b, err := os.ReadFile(dir + "/fdinfo/" + fd)
		if err != nil {
			continue
		}
		for line := range strings.SplitSeq(string(b), "\n") {
			// "tfd:        3 events:       19 data: ..."
			f := strings.Fields(line)
			if len(f) > 1 && f[0] == "tfd:" && listening[f[1]] {
				return true, true
			}
		}
	}
	return acceptingThread(dir, listening)
}

func acceptingThread(dir string, listening map[string]bool) (accepts, ok bool) {
	tasks, err := os.ReadDir(dir + "/task")
	if err != nil {
		return false, false
	}
	for _, task := range tasks {
		b, err := os.ReadFile(dir + "/task/" + task.Name() + "/syscall")
		if err != nil {
			continue
		}
		ok = true
		f := strings.Fields(string(b))
		if len(f) < 2 {
			continue // "running"
		}
		call, _ := strconv.Atoi(f[0])
		switch call {
		case unix.SYS_ACCEPT, unix.SYS_ACCEPT4:
			fd, err := strconv.ParseUint(f[1], 0, 64)
			if err == nil && listening[strconv.FormatUint(fd, 10)] {
				return true, true
			}
		case sysPoll, unix.SYS_PPOLL, sysSelect, unix.SYS_PSELECT6:
			// What it waits for is in its memory. It has a listening socket
			// and waits for descriptors, which is as near as can be told.
			if len(listening) > 0 {
				return true, true
			}
		}
	}
	return false, ok
}
