package handoff

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/settings"
)

// probes find out whether candidates are ready, where that does not come by
// NOTIFY_SOCKET or by time alone.
type probes struct {
	*common
	sockets func(n int) []int // those that generation n is to serve
	adopted func(n int)       // observes one that binds its sockets itself
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

// await posts what the candidate shows of being ready.
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
		go s.awaitCommand(p.n, p.pid, done)
	case settings.ReadyAuto, settings.ReadyAccept:
		if len(s.contract.Sockets) > 0 {
			n := p.n
			s.observe(p, func() []int { return s.sockets(n) })
		} else {
			s.adopted(p.n)
		}
	}
}

// decided ends the observation of a candidate whose start is decided.
func (s *probes) decided(p *process) {
	if p != nil && p.stop != nil && (p.plan.cfg.Ready.Mode == settings.ReadyAuto || p.plan.cfg.Ready.Mode == settings.ReadyAccept) {
		p.stop()
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
// Its environment says which generation it is asked about: the old one serves
// the same sockets.
func (s *probes) awaitCommand(n, pid int, done chan struct{}) {
	env, _, err := s.contract.Environment(n)
	if err != nil {
		env = slices.Clone(s.contract.Base)
	}
	env = append(env, "HOTINIT_READY_GENERATION="+strconv.Itoa(n), "HOTINIT_READY_PID="+strconv.Itoa(pid))
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
