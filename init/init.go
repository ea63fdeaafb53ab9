// Package pid1 is init: the process that is PID 1 of a container, or the
// outermost hotinit where it is not.
//
// Its invariant: init ends when the handoff has given the verdict, and otherwise
// only where the handoff cannot do its work: where none can be started before
// there is an app, or where none acts upon a signal to stop. So init decides
// nothing and parses nothing. It reaps the processes that are reparented to it,
// keeps descriptors by name, keeps the record of each program, passes signals on
// as messages, and starts the handoff again when that is killed. All state
// belongs to the one loop in run; every other goroutine only waits for something
// and tells the loop.
//
// Read init.go for the loop, handoff.go for the life of the handoff, answer.go
// for a handoff that does not act, signals.go for how signals come in, upgrade.go,
// trial.go and state.go for how another hotinit takes over, and end.go for how
// everything ends.
package pid1

import (
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/threads"
	"github.com/hotinit/hotinit/internal/trim"
	"github.com/hotinit/hotinit/reaper"
)

// mostPending bounds how many signals init keeps for a handoff that does not
// act upon them. Further signals stay in the kernel's queue.
const mostPending = 1024

// spareThreads is how many threads init keeps in reserve, to start a handoff
// while orphans are reaped and lines are written.
const spareThreads = 3

type pid1 struct {
	args []string // hotinit's own, for the handoff
	dir  string   // the working directory that hotinit was started in

	kept    map[string]int    // the descriptors that init holds for the handoff, by name
	records map[string][]byte // what the handoff needs to know of each program if it is started again

	closer   closer
	hand     *handoff // nil while there is none
	attempts attempts
	retry    *time.Timer // starts a handoff

	pending []signal // not acknowledged yet, oldest first
	lastSeq uint64
	orphans uint64 // how many were reaped
	gone    int    // a child of init's own that has ended and is not reaped yet
	answers answers

	signals  chan signal
	messages chan received
	reaped   chan int

	upgrade upgrade
	sources []source      // where signals come from
	caught  int           // the pipe of those that cannot be blocked, -1 for none
	still   chan struct{} // what freeze stops says so

	trim        trim.Timer
	warn        bool  // print which orphans were reaped
	json        bool  // lines are JSON objects
	greeted     bool  // a Hello has said whether to
	unsaid      []int // orphans that were reaped before that
	parent      int   // init's own, when it was started
	parentDeath int   // the signal that init gets when its own parent ends, 0 for none
	suspend     bool  // stop with the app, where a shell means hotinit by a job control signal
	suspended   bool  // the app got such a signal, and no SIGCONT since
	steps       int   // since the last garbage collection
}

// signal is one that the handoff has not acknowledged.
type signal struct {
	seq    uint64
	sig    unix.Signal // 0 for none: only the acknowledgement is wanted
	hangup bool        // SIGHUP from the kernel: the terminal is gone
}

// Run is init's whole life. args is hotinit's own command line. Run returns the
// status to exit with, once the app and everything that it left has ended.
func Run(args []string) int {
	// The collector's periodic run would wake an idle PID 1 every two minutes.
	// collect runs it instead, when there was something to do.
	debug.SetGCPercent(-1)

	p := newInit(args)
	// The handoff looks for a relative command in this directory. Init itself
	// moves to /, so that it keeps no mount busy.
	p.dir, _ = os.Getwd()
	_ = unix.Chdir("/")
	if os.Getpid() != 1 {
		// The kernel gives orphans to PID 1, or to a subreaper, prctl(2).
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			say.Line("cannot become a subreaper: %v; orphans of the app go to the system's init", err)
		}
	}
	p.keepInherited()
	if err := p.listen(); err != nil {
		say.Line("%v", err)
		return exitcode.Failure
	}
	status := p.run()
	p.removeCgroups()
	return status
}

func newInit(args []string) *pid1 {
	return &pid1{
		args:     args,
		retry:    stopped(),
		answers:  newAnswers(),
		signals:  make(chan signal),
		messages: make(chan received),
		reaped:   make(chan int),
		kept:     make(map[string]int),
		upgrade:  newUpgrade(),
		caught:   -1,
		parent:   os.Getppid(),
		still:    make(chan struct{}),
	}
}

// stopped returns a timer that does not run.
func stopped() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// keepInherited keeps the descriptors beyond 0, 1 and 2 that hotinit was started
// with, since the app may get them. Go's own descriptors are close-on-exec.
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
			p.kept[message.Inherited+name] = fd
		}
	}
}

// run is the loop that owns all of init's state.
func (p *pid1) run() int {
	if p.hand == nil {
		p.start()
	}
	// Everything waits for the handoff to start, and there is no orphan yet: so
	// the threads and the reaper start meanwhile.
	go threads.Reserve(spareThreads)
	go reaper.Orphans(func(pid int) { p.reaped <- pid })
	for {
		signals := p.signals
		if len(p.pending) >= mostPending {
			signals = nil // the kernel keeps them
		}
		select {
		case s := <-signals:
			p.queue(s)

		case r := <-p.messages:
			if r.from != p.hand {
				r.discard()
				break // its handoff is gone, and all that it sent was read
			}
			if r.opened {
				p.hand.opening = false
				r.done <- struct{}{}
				p.flush()
				break
			}
			if r.m == nil {
				p.lost()
				break
			}
			if verdict, ok := r.m.(*message.Exit); ok && !p.upgrade.tries() {
				return p.end(verdict)
			}
			p.take(r)
			p.flush()
			p.stopWithApp()

		case pid := <-p.reaped:
			p.noteReaped(pid)
			if p.hand == nil || pid != p.hand.child.PID {
				p.orphan(pid)
			}

		case <-p.retry.C:
			p.start()

		case a := <-p.upgrade.answers:
			p.tried(a)

		case <-p.upgrade.limit.C:
			p.tooLate()

		case <-p.answers.due.C:
			if sig := p.unanswered(); sig != 0 {
				return p.endByItself(sig)
			}

		case <-p.answers.probe.C:
			p.queue(signal{})

		case <-p.answers.last.C:
			say.Line("not everything has ended %v after %s (--stop-timeout); hotinit ends it by itself",
				time.Since(p.answers.since).Round(time.Millisecond), unix.SignalName(p.answers.stop))
			return p.endAlone(exitcode.Signaled(unix.SIGKILL), 0, "it was told to stop ("+unix.SignalName(p.answers.stop)+")")
		}
		if p.hand == nil && p.attempts.hopeless() {
			say.Line("the handoff cannot be started; everything is ended")
			return p.endAlone(exitcode.Failure, lastGrace, "the handoff cannot be started")
		}
		p.collect()
	}
}

// handle acts upon one message of the handoff.
func (p *pid1) handle(m message.Message) {
	p.works()
	switch m := m.(type) {
	case *message.Hello:
		p.attempts.succeeded()
		first := !p.greeted
		p.warn, p.suspend, p.parentDeath, p.greeted = m.Warn, m.Suspend, m.ParentDeath, true
		p.answers.stops, p.answers.timeout = m.Stops, m.StopTimeout
		p.json = m.JSON
		say.SetJSON(m.JSON)
		for _, pid := range p.unsaid {
			p.orphan(pid)
		}
		p.unsaid = nil
		if m.ParentDeath != 0 {
			// -p of tini: init gets this signal when its own parent has ended. One that
			// has ended by now is not reported, prctl(2).
			_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(m.ParentDeath), 0, 0, 0)
			if first && os.Getppid() != p.parent {
				p.queue(signal{sig: unix.Signal(m.ParentDeath)})
			}
		}
	case *message.Terminal:
		// The kernel sends the foreground group SIGHUP and SIGCONT, and read
		// recognises them as init's own, TIOCNOTTY(2const).
		_ = unix.IoctlSetInt(m.Number, unix.TIOCNOTTY, 0)
		unix.Close(m.FD)
	case *message.Keep:
		p.keep(m.Name, m.FD)
	case *message.Output:
		p.keep(message.OutputName, m.FD)
		_ = unix.Dup3(m.FD, 1, 0)
		_ = unix.Dup3(m.FD, 2, 0)
	case *message.Drop:
		p.drop(m.Name)
	case *message.Record:
		p.trim.Touch()
		if state, complete := p.hand.join.Add(m); complete {
			p.record(m.Program, state)
			p.acknowledged(m.Seq)
		}
	case *message.Forget:
		delete(p.records, m.Program)
		for name := range p.kept {
			if m.Kept != "" && strings.HasPrefix(name, m.Kept) {
				p.drop(name)
			}
		}
	case *message.Acted:
		p.acknowledged(m.Seq)
	case *message.Ask:
		p.queue(signal{})
	case *message.Upgrade:
		p.beginUpgrade(m)
	}
}

// mostEarly bounds how many orphans are remembered until the handoff has said Hello.
const mostEarly = 64

// orphan notes that a process was reaped that was not init's own child.
func (p *pid1) orphan(pid int) {
	switch {
	case !p.greeted && len(p.unsaid) < mostEarly:
		p.unsaid = append(p.unsaid, pid)
	case p.greeted && p.warn:
		say.Line("reaped orphan process %d", pid)
	}
}

// record keeps the state of a program. The message lies in a buffer that is used
// again, so the state is copied.
func (p *pid1) record(program string, state []byte) {
	if p.records == nil {
		p.records = make(map[string][]byte)
	}
	p.records[program] = append(p.records[program][:0], state...)
}

func (p *pid1) keep(name string, fd int) {
	p.drop(name)
	p.kept[name] = fd
}

func (p *pid1) drop(name string) {
	if fd, ok := p.kept[name]; ok {
		p.closer.close(fd)
		delete(p.kept, name)
	}
}

// closer closes a descriptor, and waits only for so long: close(2) asks the server
// of a file system, which may not answer. It is used all the time, and so makes no
// garbage.
type closer struct {
	done  chan struct{}
	limit *time.Timer
}

func (c *closer) close(fd int) {
	if c.done == nil {
		c.done, c.limit = make(chan struct{}, 1), stopped()
	}
	go closeThen(fd, c.done)
	c.limit.Reset(100 * time.Millisecond)
	select {
	case <-c.done:
		c.limit.Stop()
	case <-c.limit.C:
		c.done = nil // whoever waits in close(2) has it
	}
}

func closeThen(fd int, done chan<- struct{}) {
	unix.Close(fd)
	done <- struct{}{}
}

// noteReaped notes that go-reap has reaped a process.
func (p *pid1) noteReaped(pid int) {
	if p.hand != nil && pid == p.hand.child.PID {
		p.hand.reaped = true
		return
	}
	if t := p.upgrade.trial; t != nil && pid == t.child.PID {
		t.reaped = true
		return
	}
	if pid == p.gone {
		p.gone = 0
		return
	}
	p.orphans++
}

// queue appends a signal for the handoff.
func (p *pid1) queue(s signal) {
	p.lastSeq++
	s.seq = p.lastSeq
	p.pending = append(p.pending, s)
	p.expect(s)
	p.flush()
}

// acknowledged removes the signals up to seq: the handoff has acted upon them.
func (p *pid1) acknowledged(seq uint64) {
	n := 0
	for n < len(p.pending) && p.pending[n].seq <= seq {
		p.noteStop(p.pending[n].sig)
		p.answered(p.pending[n])
		n++
	}
	p.pending = p.pending[n:]
	if len(p.pending) == 0 {
		p.pending = nil
	}
	if n > 0 {
		p.expectNext()
	}
}

// flush sends the handoff the signals that were not sent to it yet. Where its
// socket is full, the rest follows after its next message.
func (p *pid1) flush() {
	if p.hand == nil || p.hand.opening {
		return
	}
	if p.hand.trial && p.upgrade.stage == settled {
		if p.hand.link.Send(&message.Upgraded{}) != nil {
			return
		}
		p.hand.trial = false
	}
	for _, s := range p.pending {
		if s.seq <= p.hand.sent {
			continue
		}
		if p.hand.link.Send(&message.Signal{Seq: s.seq, Signal: int(s.sig), Hangup: s.hangup, Reaped: p.orphans}) != nil {
			return
		}
		p.hand.sent = s.seq
	}
}

// mostSteps is after how many steps of the loop init collects its garbage: some 50
// bytes for each. A first collection makes it half a megabyte larger for good.
const mostSteps = 16384

// collect bounds the memory of an init whose periodic collection is off.
func (p *pid1) collect() {
	if p.steps++; p.steps >= mostSteps {
		p.steps = 0
		runtime.GC()
	}
}
