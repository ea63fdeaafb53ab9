package handoff

import (
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/hook"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/settings"
	"github.com/hotinit/hotinit/internal/spawn"
	"github.com/hotinit/hotinit/internal/version"
	"github.com/hotinit/hotinit/reaper"
)

// reports runs the command of --on-event, for one event after the other, in order. What
// becomes of it changes nothing: it runs beside the loop, what waits for it is bounded,
// and no stop waits for it.
//
// It runs as hotinit itself, since it is hotinit's and not a program's, and may ask it.
// What an event says may come from the app, so it is in the environment alone, cleaned.
type reports struct {
	link    *link
	home    string
	command string
	timeout time.Duration
	start   func(*spawn.Spec) (spawn.Child, error)
	watched bool // somebody wants to know what happens
	asked   bool // somebody has told hotinit to stop
	began   bool
	idle    func() // called once nothing is left to report

	mu       sync.Mutex
	queue    []report
	running  bool // a command does
	dropped  int
	finished bool // nothing more comes
	wake     chan struct{}
	ending   chan struct{} // nothing more is to be run, and what runs is to end
	ended    chan struct{}
}

// report is one event of a program, or of hotinit where program is "".
type report struct {
	machine.Happening
	program string
	when    time.Time
}

const (
	// mostReports is how many events wait for the command.
	mostReports = 64
	// longestReason bounds HOTINIT_EVENT_REASON.
	longestReason = 1024
	// reportName begins the name under which init keeps the command's pidfd.
	reportName = "on-event/"
	// lastReports bounds the wait for the command at the end, where --on-event-timeout
	// does not.
	lastReports = 30 * time.Second
)

// Events of hotinit itself.
const (
	didUpgrade     = "upgraded"
	didRefuse      = "upgrade-rejected"
	didLoseHandoff = "handoff-lost"
	eventVariable  = "HOTINIT_EVENT"
)

func newReports(l *link, home string, t *thread) *reports {
	return &reports{link: l, home: home, start: t.start, idle: func() {}, wake: make(chan struct{}, 1), ending: make(chan struct{}), ended: make(chan struct{})}
}

func (s *reports) configure(cfg *settings.Config) {
	s.command, s.timeout = cfg.OnEvent, cfg.OnEventTimeout
	s.watched = cfg.OnEvent != "" || cfg.LogJSON
}

// begin begins to run the command, after the one that the last handoff has started, if
// that runs still. A handoff in a trial has not begun.
func (s *reports) begin() {
	if s.command == "" {
		return
	}
	s.began, s.running = true, true // see run
	go s.run(adoptKept(s.link, slices.Collect(maps.Keys(s.link.kept)), reportName))
}

// add has the command run for an event, soon.
func (s *reports) add(r report) {
	if s.command == "" {
		return
	}
	r.when = time.Now()
	s.mu.Lock()
	if len(s.queue) < mostReports {
		s.queue = append(s.queue, r)
	} else {
		s.dropped++
	}
	s.mu.Unlock()
	s.stir()
}

func (s *reports) stir() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *reports) run(last []*reaper.Process) {
	defer close(s.ended)
	for _, p := range last {
		s.outlive(p)
	}
	for {
		s.rest()
		r, dropped, ok := s.next()
		if !ok {
			return
		}
		if dropped > 0 {
			say.Line("%d events were not reported: the command of --on-event takes too long", dropped)
		}
		err := s.report(r, dropped)
		select {
		case <-s.ending:
			return
		default:
		}
		if err != nil {
			say.About{Program: r.program, Generation: r.N}.Line("the command of --on-event failed for the event %s%s: %v", r.Kind, r.whose(), err)
		}
	}
}

func (r *report) whose() string {
	if r.program == "" {
		return ""
	}
	return " of " + r.program
}

// next waits for an event. It returns false when there are to be no more.
func (s *reports) next() (r report, dropped int, ok bool) {
	for {
		s.mu.Lock()
		if len(s.queue) > 0 {
			r, dropped = s.queue[0], s.dropped
			s.queue, s.dropped, s.running = s.queue[1:], 0, true
			s.mu.Unlock()
			return r, dropped, true
		}
		finished := s.finished
		s.mu.Unlock()
		if finished {
			return r, 0, false
		}
		select {
		case <-s.wake:
		case <-s.ending:
			return r, 0, false
		}
	}
}

// rest takes in that no command runs.
func (s *reports) rest() {
	s.mu.Lock()
	s.running = false
	left := len(s.queue)
	s.mu.Unlock()
	if left == 0 {
		s.idle()
	}
}

// waiting returns how many events wait for the command, and -1 where none runs either.
func (s *reports) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running && len(s.queue) == 0 {
		return -1
	}
	return len(s.queue)
}

// report runs the command to its end.
func (s *reports) report(r report, dropped int) error {
	c := &hook.Command{Text: s.command, Env: r.environ(dropped), Dir: s.home, Umask: -1, Timeout: s.timeout, Cancel: s.ending, Start: s.start}
	kept := ""
	c.Forked = func(child spawn.Child, _ *os.File) {
		if child.PIDFD >= 0 {
			name := reportName + strconv.Itoa(child.PID)
			if s.link.SendWait(&message.Keep{Name: name, FD: child.PIDFD}) == nil {
				kept = name
			}
		}
	}
	err := c.Run()
	if kept != "" {
		_ = s.link.SendWait(&message.Drop{Name: kept})
	}
	return err
}

// outlive waits for a command that the last handoff has started.
func (s *reports) outlive(p *reaper.Process) {
	null, err := os.Open("/dev/null") // who read what it writes is gone
	if err == nil {
		defer null.Close()
		_ = (&hook.Command{Timeout: s.timeout, Cancel: s.ending}).Await(p, null)
	}
	_ = s.link.SendWait(&message.Drop{Name: reportName + strconv.Itoa(p.PID())})
}

// environ is the environment of the command.
func (r *report) environ(dropped int) (env []string) {
	for _, v := range entry.Environ() {
		if !strings.HasPrefix(v, eventVariable) && !strings.HasPrefix(v, control.Variable+"=") {
			env = append(env, v)
		}
	}
	set := func(name, value string) {
		if value != "" {
			env = append(env, eventVariable+name+"="+say.Clean(value, longestReason))
		}
	}
	number := func(name string, n int, is bool) {
		if is {
			set(name, strconv.Itoa(n))
		}
	}
	set("", r.Kind)
	set("_TIME", r.when.UTC().Format("2006-01-02T15:04:05.000Z"))
	set("_PROGRAM", r.program)
	number("_GENERATION", r.N, r.N != 0)
	set("_RELEASE", r.Release)
	set("_REASON", r.Reason)
	number("_STATUS", r.Status, r.Kind == machine.DidEnd || r.Kind == machine.DidStop)
	number("_DROPPED", dropped, dropped > 0)
	return append(env, control.Variable+"="+strconv.Itoa(os.Getppid()))
}

// end ends what runs, so that nothing waits for it. Where nobody has told hotinit to stop,
// the command has its time for what has happened, until somebody does. It runs in the
// loop.
func (s *reports) end(loop *loop, told bool) {
	if !s.began {
		return
	}
	s.began = false
	if !told && !s.asked {
		s.mu.Lock()
		s.finished = true
		s.mu.Unlock()
		s.stir()
		limit := s.timeout
		if limit == 0 {
			limit = lastReports
		}
		loop.serve(limit, s.ended, true)
	}
	close(s.ending)
	loop.serveUntil(asideLimit, s.ended)
}

// reportTakeover reports that another handoff goes on, and why.
func (s *supervisor) reportTakeover(resumed bool) {
	fd := s.link.take(handedOver)
	if fd >= 0 {
		unix.Close(fd)
		s.link.drop(handedOver)
	}
	last := s.link.last
	switch {
	case s.link.upgraded:
		s.reports.tell(didUpgrade, "hotinit "+version.Number+" has taken over, from "+pathIn(last.File))
	case fd >= 0:
		s.reports.tell(didRefuse, last.Why)
	case resumed:
		s.reports.tell(didLoseHandoff, "the handoff was lost, and another one goes on")
	}
}

// handedOver is the name under which init keeps the executable of an upgrade, while it
// is tried: whoever goes on then knows that no handoff was lost.
const handedOver = "upgrade/tried"

// tell reports an event of hotinit itself.
func (s *reports) tell(kind, reason string) {
	s.add(report{Happening: machine.Happening{Kind: kind, Reason: reason}})
}

// happened is told what an event came to, before it is carried out.
func (s *program) happened(list []machine.Happening) {
	s.news = list
	for _, h := range list {
		s.reports.add(report{Happening: h, program: s.name})
	}
}

// newsOf takes what a line tells of from what has just happened.
func (s *program) newsOf(n int) (event string) {
	for i := len(s.news) - 1; i >= 0; i-- {
		if s.news[i].N == n {
			event = s.news[i].Kind
			s.news = append(s.news[:i:i], s.news[i+1:]...)
			return event
		}
	}
	return ""
}

// generationIn is the generation that a line of the machine begins with, 0 for none.
func generationIn(text string) int {
	rest, ok := strings.CutPrefix(text, "generation ")
	if !ok {
		return 0
	}
	digits := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
	n, _ := strconv.Atoi(digits)
	return n
}
