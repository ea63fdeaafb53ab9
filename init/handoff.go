package pid1

import (
	"errors"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/kernel"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/spawn"
	"github.com/hotinit/hotinit/reaper"
)

// handoff is init's one child of its own.
type handoff struct {
	child   spawn.Child
	start   uint64 // when it started, see reaper.StartTime
	link    *message.Link
	sent    uint64 // the last signal that was sent to it
	opening bool   // the records are being sent to it
	reaped  bool
	join    message.Join // records that have not arrived whole yet
	trial   bool         // it waits for Upgraded
}

// received is what a handoff's goroutine tells the loop. Whoever takes one with
// a message must answer on done, since the message lies in a buffer that is used
// again. One without a message means that the handoff is lost.
type received struct {
	from *handoff
	m    message.Message
	done chan struct{}

	opened bool // instead of a message: all records were sent to it
}

func (r received) discard() {
	switch m := r.m.(type) {
	case nil:
		if !r.opened {
			return
		}
	case *message.Keep:
		unix.Close(m.FD)
	case *message.Output:
		unix.Close(m.FD)
	case *message.Terminal:
		unix.Close(m.FD)
	case *message.Upgrade:
		unix.Close(m.FD)
	}
	r.done <- struct{}{}
}

// start starts a handoff, or arms retry to try again.
func (p *pid1) start() {
	hand, err := p.spawn()
	if err != nil && p.upgrade.stage == trying {
		p.reject("it cannot be started: " + err.Error())
		return
	}
	if err != nil {
		p.attempts.failed(err, len(p.records) > 0)
		p.retry.Reset(p.attempts.delay())
		return
	}
	p.hand = hand
	p.attempts.started = time.Now()
	p.flush()
}

func (p *pid1) spawn() (*handoff, error) {
	if h, err := p.early(); h != nil || err != nil {
		return h, err
	}
	ours, theirs, err := message.Pair()
	if err != nil {
		return nil, err
	}
	defer unix.Close(theirs)
	h := &handoff{link: message.NewLink(ours)}
	files := append(first(), theirs)
	file := p.upgrade.executable() // -1: hotinit's own
	m := message.Start{Version: message.Version, Dir: p.dir, Records: len(p.records),
		Trial: file >= 0, Upgrade: p.upgrade.Attempt}
	for name, fd := range p.kept {
		m.Kept = append(m.Kept, message.Kept{Name: name, FD: len(files)})
		files = append(files, fd)
	}
	later, err := p.open(h, m)
	if err != nil {
		h.link.Close()
		return nil, err
	}
	h.child, err = spawn.Start(&spawn.Spec{
		Path: "/proc/self/exe", // also when the file is gone
		FD:   file,
		Argv: append([]string{Name}, p.args...),
		Env:  entry.Environ(),
		// The handoff passes on to each generation what it is started with.
		Signals:    entry.Inherited(),
		Files:      files,
		Umask:      -1,
		Foreground: -1,
		Cgroup:     -1,
	})
	if err != nil {
		h.link.Close()
		return nil, err
	}
	return p.attend(h, later), nil
}

// first are init's first three descriptors. One that was closed when hotinit was
// started stays so.
func first() []int {
	fds := []int{0, 1, 2}
	for i := range fds {
		if _, err := unix.FcntlInt(uintptr(i), unix.F_GETFD, 0); err != nil {
			fds[i] = -1
		}
	}
	return fds
}

// attend begins to listen to a handoff that was started, which gets these messages
// first.
func (p *pid1) attend(h *handoff, later []message.Message) *handoff {
	h.sent = p.lastSeq
	if len(p.pending) > 0 {
		h.sent = p.pending[0].seq - 1
	}
	h.start, _ = reaper.StartTime(h.child.PID)
	h.opening = len(later) > 0
	go p.receive(h, later)
	return h
}

// open sends the handoff what it begins with, before there is a reader, so that it
// comes first: Start and the records. It returns what the socket has no room for yet:
// that is sent when the handoff reads, beside the loop.
func (p *pid1) open(h *handoff, start message.Start) (later []message.Message, err error) {
	for i, m := range start.Parts() {
		if len(later) > 0 {
			later = append(later, m)
			continue
		}
		switch err := h.link.Send(m); {
		case err == unix.EAGAIN && i > 0:
			later = append(later, m)
		case err != nil:
			return nil, err
		}
	}
	for program, state := range p.records {
		for _, m := range (message.Record{Program: program, State: state}).Parts() {
			if len(later) == 0 && h.link.Send(m) == nil {
				continue
			}
			m.State = slices.Clone(m.State)
			later = append(later, m)
		}
	}
	return later, nil
}

// early takes over the handoff that the entry point has started, if there is one.
func (p *pid1) early() (*handoff, error) {
	e, ok := entry.TakeHandoff()
	if !ok {
		return nil, nil
	}
	// Until now init keeps only what hotinit was started with. The handoff has
	// each of these descriptors at the same number, but for the one where the
	// socket is.
	m := message.Start{Version: message.Version, Dir: p.dir}
	for name, fd := range p.kept {
		if fd == message.Socket && e.Third > 0 {
			fd = e.Third
		}
		m.Kept = append(m.Kept, message.Kept{Name: name, FD: fd})
	}
	h := &handoff{child: spawn.Child{PID: e.PID, PIDFD: e.PIDFD}, link: message.NewLink(e.Socket)}
	// If it has ended already, another one is started, as at any other time.
	later, err := p.open(h, m)
	if err != nil && err != unix.EPIPE {
		h.link.Close()
		return nil, err
	}
	return p.attend(h, later), nil
}

// Name is the handoff's argv[0], by which the executable knows its role.
const Name = "hotinit-handoff"

// Nameless tells whether this process is a handoff that does not bear its name: init has
// handed it its end of a socket pair. Where argv[0] is lost each handoff would take itself
// for an init, and start one more, without end.
func Nameless() bool {
	kind, err := unix.GetsockoptInt(message.Socket, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_SEQPACKET {
		return false
	}
	peer, err := unix.GetsockoptUcred(message.Socket, unix.SOL_SOCKET, unix.SO_PEERCRED)
	return err == nil && int(peer.Pid) == os.Getppid()
}

// receive reads what the handoff sends until the handoff is gone and everything
// is read. Before that it sends the records that are left.
func (p *pid1) receive(h *handoff, later []message.Message) {
	done := make(chan struct{})
	tell := func(r received) {
		r.from, r.done = h, done
		p.messages <- r
		<-done
	}
	for _, m := range later {
		if h.link.SendWait(m) != nil {
			break
		}
	}
	if len(later) > 0 {
		tell(received{opened: true})
	}
	stopped := h.link.Receive(func(m message.Message) bool {
		tell(received{m: m})
		_, verdict := m.(*message.Exit)
		return !verdict
	}, func(err error) {
		say.Line("the handoff's %v; it is ignored", err)
	})
	if stopped {
		p.still <- struct{}{}
		return
	}
	h.link.Close()
	h.kill() // it may be alive without its socket
	p.messages <- received{from: h}
}

// lost starts another handoff: the socket of the present one was closed, so that
// it was killed or is broken. Everything that it sent before was acted upon.
func (p *pid1) lost() {
	if p.hand.child.PIDFD >= 0 {
		unix.Close(p.hand.child.PIDFD)
	}
	if !p.hand.reaped {
		p.gone = p.hand.child.PID
	}
	p.hand = nil
	if p.upgrade.stage != settled {
		p.handedOver()
		return
	}
	p.attempts.died(len(p.records) > 0)
	p.retry.Reset(p.attempts.delay())
}

// kill ends the handoff. It uses the pidfd, since go-reap may have reaped the
// handoff already, and its PID may be that of another process.
func (h *handoff) kill() {
	if h.child.PIDFD >= 0 {
		err := unix.PidfdSendSignal(h.child.PIDFD, unix.SIGKILL, nil, 0)
		if !kernel.Missing(err) {
			return
		}
	}
	// Without a pidfd, the start time identifies the process.
	if start, err := reaper.StartTime(h.child.PID); err == nil && h.start != 0 && start == h.start {
		_ = unix.Kill(h.child.PID, unix.SIGKILL)
	}
}

// attempts counts what became of the handoffs that were started. Where none can
// work, init gives up, but only while there is no app: whatever keeps a handoff
// from starting (a limit of processes, memory or open files, a file that is being
// replaced) may pass, and the app must not be ended for it.
type attempts struct {
	started time.Time
	greeted bool // the one that runs has said Hello
	deaths  int  // in a row, each soon after the start
	mute    int  // in a row, without ever saying Hello
	said    bool // that none can be started, and that init tries again
}

// mostMute is how many handoffs in a row may end without saying Hello.
const mostMute = 5

func (a *attempts) succeeded() { a.greeted, a.mute, a.said = true, 0, false }

// failed notes that no handoff could be started.
func (a *attempts) failed(err error, app bool) {
	a.deaths++
	if app || passes(err) {
		if !a.said {
			a.said = true
			say.Line("cannot start the handoff: %v; init tries again until it succeeds", err)
		}
		return
	}
	a.mute++
	say.Line("cannot start the handoff: %v", err)
}

// passes reports whether an error is a limit of processes or of memory.
func passes(err error) bool {
	var e *spawn.Error
	return errors.As(err, &e) && (e.Err == unix.EAGAIN || e.Err == unix.ENOMEM)
}

// died notes that a handoff has ended.
func (a *attempts) died(app bool) {
	if time.Since(a.started) >= 10*time.Second {
		a.deaths = 0
	}
	a.deaths++
	if !a.greeted && !app {
		a.mute++
	}
	a.greeted = false
	if a.mute < mostMute {
		say.Line("the handoff was lost; init starts another one")
	}
}

func (a *attempts) hopeless() bool { return a.mute >= mostMute }

// delay is how long to wait before the next start: not at all after a first
// death, then longer each time, so that handoffs that die in a row use little
// processor time.
func (a *attempts) delay() time.Duration {
	if a.deaths <= 1 {
		return 0
	}
	return min(10*time.Millisecond<<min(a.deaths-2, 10), time.Second)
}
