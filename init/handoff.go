package pid1

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/spawn"
	"github.com/hotinit/hotinit/reaper"
)

const (
	// answerWithin is how long the handoff may take to act on a signal. One
	// that hangs is as bad as a dead one.
	answerWithin = 5 * time.Second
	// lateBy is how much more it gets once that is over.
	lateBy = 500 * time.Millisecond
	// lastGrace is what the app gets to end where no handoff can be started.
	lastGrace = 9 * time.Second
)

// handoff is init's one child of its own.
type handoff struct {
	child  spawn.Child
	start  uint64 // when it started, see reaper.StartTime
	socket int    // init's end
	sent   uint64 // the last signal that it was sent
}

// received is a message, or why there will be none any more. Whoever takes it
// answers on done, for the message lies in a buffer that is used again.
type received struct {
	from *handoff
	m    message.Message
	err  error
	done chan struct{}

	excused bool // with err: how it ended says nothing about the next one
}

func (r received) discard() {
	if r.err == nil {
		if r.m.FD >= 0 {
			unix.Close(r.m.FD)
		}
		r.done <- struct{}{}
	}
}

// start starts a handoff, or arms retry to try again.
func (p *pid1) start(retry *time.Timer) {
	hand, err := p.spawn()
	if err != nil {
		p.attempts.failed(err)
		retry.Reset(p.attempts.delay())
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
	files := []int{0, 1, 2, theirs}
	m := message.Message{Kind: message.Start, Text: p.dir, Blob: p.record}
	for i := range 3 {
		if _, err := unix.FcntlInt(uintptr(i), unix.F_GETFD, 0); err != nil {
			files[i] = -1 // it was closed when hotinit was started; so it stays
		}
	}
	for _, k := range p.kept {
		files = append(files, k.fd)
		m.Names = append(m.Names, k.name)
	}
	h := &handoff{socket: ours}
	if len(p.pending) > 0 {
		h.sent = p.pending[0].seq - 1
	} else {
		h.sent = p.lastSeq
	}
	// It is sent before there is a reader, so that it is the first packet.
	if err := message.Send(ours, m); err != nil {
		unix.Close(ours)
		return nil, err
	}
	h.child, err = spawn.Start(&spawn.Spec{
		Path: "/proc/self/exe", // also when the file is gone
		FD:   -1,
		Argv: append([]string{Name}, p.args...),
		Env:  os.Environ(),
		// The handoff passes on to each generation what it is started with.
		Signals:    entry.Inherited(),
		Files:      files,
		Umask:      -1,
		Foreground: -1,
		Cgroup:     -1,
	})
	if err != nil {
		unix.Close(ours)
		return nil, err
	}
	return p.attend(h), nil
}

// attend begins to listen to a handoff that was started.
func (p *pid1) attend(h *handoff) *handoff {
	h.start, _ = reaper.StartTime(h.child.PID)
	go p.receive(h)
	return h
}

// early takes over the handoff that the entry point has started, if there is one.
func (p *pid1) early() (*handoff, error) {
	e, ok := entry.TakeHandoff()
	if !ok {
		return nil, nil
	}
	message.Widen(e.Socket)
	m := message.Message{Kind: message.Start, Value: message.StartInherited, Text: p.dir}
	if e.Third > 0 {
		m.Value = e.Third
	}
	for _, k := range p.kept {
		m.Names = append(m.Names, k.name)
	}
	h := &handoff{child: spawn.Child{PID: e.PID, PIDFD: e.PIDFD}, socket: e.Socket, sent: p.lastSeq}
	// Where it has ended already another one is started, as at any other time.
	if err := message.Send(e.Socket, m); err != nil && err != unix.EPIPE {
		unix.Close(e.Socket)
		return nil, err
	}
	return p.attend(h), nil
}

// Name is the handoff's argv[0], by which the executable knows its role.
const Name = "hotinit-handoff"

// receive reads what the handoff says until it is gone and all is read.
func (p *pid1) receive(h *handoff) {
	file := os.NewFile(uintptr(h.socket), "handoff")
	defer file.Close()
	raw, err := file.SyscallConn()
	buf, free := message.Buffer()
	defer free()
	done := make(chan struct{})
	for err == nil {
		var m message.Message
		var failed error
		err = raw.Read(func(fd uintptr) bool {
			m, failed = message.Receive(int(fd), buf)
			return failed != unix.EAGAIN
		})
		if failed == unix.EPIPE {
			err = failed
		}
		if err != nil {
			break
		}
		if failed != nil {
			say.Line("the handoff's %v; it is ignored", failed)
			continue
		}
		p.messages <- received{from: h, m: m, done: done}
		<-done
		if m.Kind == message.Exit {
			return
		}
	}
	h.kill() // should it be alive without its socket
	p.messages <- received{from: h, err: err, excused: h.wasExcused()}
}

// wasExcused waits until the handoff has ended and tells whether that says
// nothing about the next one: somebody killed it, or Go's runtime could not have
// a thread, upon which it ends a process with goFatal. Where the kernel cannot
// tell (before Linux 6.15, as go-reap takes the status) it counts as having
// failed.
func (h *handoff) wasExcused() bool {
	if h.child.PIDFD < 0 {
		return false
	}
	fd, err := unix.FcntlInt(uintptr(h.child.PIDFD), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return false
	}
	process := reaper.Adopt(h.child.PID, fd)
	defer process.Close()
	exit := process.Wait()
	return exit.Known && (exit.Signal == unix.SIGKILL || exit.Signal == 0 && exit.Code == goFatal)
}

// goFatal is the exit status of a Go program that its runtime ends.
const goFatal = 2

// lost is told that the handoff's socket was closed: it was killed, or is
// broken. Whatever it had said before was acted upon.
func (p *pid1) lost(excused bool, retry *time.Timer) {
	if p.hand.child.PIDFD >= 0 {
		unix.Close(p.hand.child.PIDFD)
	}
	p.hand = nil
	p.attempts.died(excused && len(p.record) > 0)
	retry.Reset(p.attempts.delay())
}

// kill ends the handoff. By pidfd, since go-reap may have reaped it already
// and its PID may be somebody else's.
func (h *handoff) kill() {
	if h.child.PIDFD >= 0 {
		err := unix.PidfdSendSignal(h.child.PIDFD, unix.SIGKILL, nil, 0)
		if err != unix.ENOSYS && err != unix.EPERM {
			return
		}
	}
	// Without pidfds the time when it started tells whether it is still that one.
	if start, err := reaper.StartTime(h.child.PID); err == nil && h.start != 0 && start == h.start {
		_ = unix.Kill(h.child.PID, unix.SIGKILL)
	}
}

// attempts counts what became of the handoffs that were started, to tell one
// that was killed (start another at once) from one that cannot work.
type attempts struct {
	started time.Time
	greeted bool // the one that runs has said Hello
	deaths  int  // in a row, each soon after the start
	mute    int  // in a row, without ever saying Hello
	told    bool // that a fork failed
}

// mostMute is how many handoffs in a row may end without saying Hello.
const mostMute = 5

func (a *attempts) succeeded() { a.greeted, a.mute, a.told = true, 0, false }

func (a *attempts) failed(err error) {
	var e *spawn.Error
	if errors.As(err, &e) && (e.Err == unix.EAGAIN || e.Err == unix.ENOMEM) {
		// A limit of processes or memory was reached. That passes, and the
		// app must not be ended for it.
		a.deaths++
		if !a.told {
			a.told = true
			say.Line("cannot start the handoff: %v; it is tried again", err)
		}
		return
	}
	a.deaths++
	a.mute++
	say.Line("cannot start the handoff: %v", err)
}

// died notes that a handoff has ended. That excused is true says that it did so
// through no fault of its own while there is an app: however often that happens,
// the app is served.
func (a *attempts) died(excused bool) {
	if time.Since(a.started) >= 10*time.Second {
		a.deaths = 0
	}
	a.deaths++
	if !a.greeted && !excused {
		a.mute++
	}
	a.greeted = false
	if a.mute < mostMute {
		say.Line("the handoff was lost; another one takes over")
	}
}

func (a *attempts) hopeless() bool { return a.mute >= mostMute }

// delay is how long to wait before the next start: nothing after a first
// death, then longer each time, so that a handoff that dies of what it does
// burns no processor.
func (a *attempts) delay() time.Duration {
	if a.deaths <= 1 {
		return 0
	}
	return min(10*time.Millisecond<<min(a.deaths-2, 10), time.Second)
}
