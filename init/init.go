// Package pid1 is init: the process that is PID 1 of a container, or the
// outermost hotinit where it is not.
//
// Its invariant: it never ends before the handoff has given the verdict, or
// could not be started at all. So it decides nothing and parses nothing. It
// reaps whatever is reparented to it, keeps descriptors by name, remembers the
// handoff's record, passes on signals by message, and starts the handoff
// again when that is killed. All state belongs to the one loop in run;
// everything else only waits for something and tells the loop.
//
// Read init.go for the loop, handoff.go for the life of the handoff,
// signals.go for how signals come in, and end.go for how everything ends.
package pid1

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/threads"
	"github.com/hotinit/hotinit/internal/trim"
	"github.com/hotinit/hotinit/reaper"
)

// mostPending bounds how many signals init remembers for a handoff that does
// not take them. Beyond it they stay in the kernel's own queue.
const mostPending = 1024

// spareThreads are for starting a handoff while orphans are reaped and lines
// are written.
const spareThreads = 3

type pid1 struct {
	args []string // hotinit's own, for the handoff
	dir  string   // the working directory that hotinit was started in

	kept   []kept
	record []byte

	hand     *handoff // nil while there is none
	attempts attempts

	pending []signal // not acknowledged yet, oldest first
	lastSeq uint64

	signals  chan unix.Signal
	messages chan received
	reaped   chan int

	trim    trim.Timer
	late    bool // answerWithin is over
	warn    bool // say which orphans were reaped
	suspend bool // stop with the app, where a shell means it by a job control signal
	stop    bool // such a signal was passed on, and no SIGCONT came since
	steps   int  // since the last garbage collection
}

// kept is a descriptor that init holds for the handoff.
type kept struct {
	name string
	fd   int
}

// signal is one that the handoff has not acknowledged.
type signal struct {
	seq uint64
	sig unix.Signal
}

// Run is init's whole life. args is hotinit's own command line. It returns the
// status to exit with, once the app has ended and nothing is left of it.
func Run(args []string) int {
	// The collector's periodic run would wake an idle PID 1 every two minutes
	// for ever. collect does it instead, when there was something to do.
	debug.SetGCPercent(-1)

	p := &pid1{
		args:     args,
		signals:  make(chan unix.Signal),
		messages: make(chan received),
		reaped:   make(chan int),
	}
	// A relative command is looked for from here; init itself moves to / so
	// that it keeps no mount busy.
	p.dir, _ = os.Getwd()
	_ = unix.Chdir("/")
	if os.Getpid() != 1 {
		// What the app leaves behind comes to the subreaper, prctl(2). PID 1
		// gets it anyway.
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			say.Line("cannot become a subreaper: %v; orphans of the app go to the system's init", err)
		}
	}
	p.keepInherited()
	if err := p.listen(); err != nil {
		say.Line("%v", err)
		return exitcode.Failure
	}
	go reaper.Orphans(func(pid int) { p.reaped <- pid })
	status := p.run()
	p.removeCgroups()
	return status
}

// keepInherited keeps the descriptors beyond 0, 1 and 2 that hotinit was
// started with: the app may get them. Go's own have close-on-exec set.
func (p *pid1) keepInherited() {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil || fd <= 2 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.CloseOnExec(fd)
			p.kept = append(p.kept, kept{message.Inherited + name, fd})
		}
	}
}

// run is the loop that owns all of init's state.
func (p *pid1) run() int {
	retry := time.NewTimer(0)
	<-retry.C
	defer retry.Stop()
	answer := time.NewTimer(0)
	<-answer.C
	defer answer.Stop()

	p.start(retry)
	// While the handoff starts, on which everything waits; nothing has been left
	// behind yet.
	go reaper.Orphans(func(pid int) { p.reaped <- pid })
	for {
		signals := p.signals
		if len(p.pending) >= mostPending {
			signals = nil // the kernel keeps them
		}
		select {
		case sig := <-signals:
			p.lastSeq++
			p.pending = append(p.pending, signal{p.lastSeq, sig})
			if len(p.pending) == 1 {
				answer.Reset(answerWithin)
			}
			p.flush()

		case r := <-p.messages:
			if r.from != p.hand {
				r.discard()
				break // of one that is gone, and was read to its end
			}
			if r.err != nil {
				p.lost(r.excused, retry)
				break
			}
			if r.m.Kind == message.Exit {
				return p.end(r.m.Value, r.m.Seq, r.m.Names)
			}
			p.late = false
			p.handle(r.m)
			r.done <- struct{}{}
			if len(p.pending) == 0 {
				answer.Stop()
			} else {
				answer.Reset(answerWithin)
				p.flush()
			}
			p.stopWithApp()

		case pid := <-p.reaped:
			if p.warn && (p.hand == nil || pid != p.hand.child.PID) {
				say.Line("reaped orphan process %d", pid)
			}

		case <-retry.C:
			p.start(retry)

		case <-answer.C:
			if !p.late {
				// Both may have been stopped or frozen for a while, and the
				// answer be there: it gets a moment more.
				p.late = true
				answer.Reset(lateBy)
				break
			}
			p.late = false
			if sig := p.stopping(); sig != 0 && !p.attempts.greeted {
				say.Line("there was no handoff for %v to act on %s; everything is ended", answerWithin, unix.SignalName(sig))
				return p.end(exitcode.Signaled(sig), uint64(lastGrace/time.Millisecond), nil)
			}
			if p.hand != nil {
				say.Line("the handoff did not act on a signal for %v; it is killed and started again", answerWithin)
				p.hand.kill()
			}
			answer.Reset(answerWithin)
		}
		if p.hand == nil && p.attempts.hopeless() {
			say.Line("the handoff cannot be started; everything is ended")
			return p.end(exitcode.Failure, uint64(lastGrace/time.Millisecond), nil)
		}
		p.collect()
	}
}

// handle acts upon one message of the handoff.
func (p *pid1) handle(m message.Message) {
	switch m.Kind {
	case message.Hello:
		p.attempts.succeeded()
		p.warn = m.Value&message.HelloWarn != 0
		p.suspend = m.Value&message.HelloSuspend != 0
		if sig := m.Value >> message.HelloDeathShift; sig != 0 {
			// -p of tini: be told when init's own parent has died.
			_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(sig), 0, 0, 0)
		}
	case message.Keep:
		if m.Text == message.Terminal {
			// The kernel tells the foreground group by SIGHUP and SIGCONT, which
			// read knows as init's own, TIOCNOTTY(2const).
			_ = unix.IoctlSetInt(m.Value, unix.TIOCNOTTY, 0)
			unix.Close(m.FD)
			break
		}
		p.drop(m.Text)
		p.kept = append(p.kept, kept{m.Text, m.FD})
		if m.Text == message.Output {
			_ = unix.Dup3(m.FD, 1, 0)
			_ = unix.Dup3(m.FD, 2, 0)
		}
	case message.Drop:
		p.drop(m.Text)
	case message.Record:
		if len(m.Blob) > 0 { // else it only acknowledges
			if p.record == nil {
				go threads.Reserve(spareThreads) // the app is about to run
			}
			p.trim.Touch()
			p.record = append(p.record[:0], m.Blob...)
		}
		for len(p.pending) > 0 && p.pending[0].seq <= m.Seq {
			p.noteStop(p.pending[0].sig)
			p.pending = p.pending[1:]
		}
		if len(p.pending) == 0 {
			p.pending = nil
		}
	}
}

// stopping is the signal to stop that waits for a handoff, 0 for none.
func (p *pid1) stopping() unix.Signal {
	for _, s := range p.pending {
		switch s.sig {
		case unix.SIGTERM, unix.SIGINT, unix.SIGQUIT:
			return s.sig
		}
	}
	return 0
}

func (p *pid1) drop(name string) {
	for i, k := range p.kept {
		if k.name == name {
			unix.Close(k.fd)
			p.kept = append(p.kept[:i], p.kept[i+1:]...)
			return
		}
	}
}

// flush sends the handoff the signals that it was not sent yet. Where its
// socket is full the rest follows with its next message.
func (p *pid1) flush() {
	if p.hand == nil {
		return
	}
	for _, s := range p.pending {
		if s.seq <= p.hand.sent {
			continue
		}
		m := message.Message{Kind: message.Signal, Seq: s.seq, Value: int(s.sig)}
		if message.Send(p.hand.socket, m) != nil {
			return
		}
		p.hand.sent = s.seq
	}
}

// collect bounds the memory of an init whose periodic collection is off.
func (p *pid1) collect() {
	if p.steps++; p.steps >= 2048 {
		p.steps = 0
		runtime.GC()
	}
}
