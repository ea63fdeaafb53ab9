package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/release"
)

// Poll values of Options. A positive Poll is an interval: everything is looked
// at so often, beside inotify.
const (
	PollAuto time.Duration = 0  // every DefaultPoll, and only what reports nothing by itself
	PollOff  time.Duration = -1 // never
)

const (
	DefaultPoll   = 2 * time.Second
	DefaultSettle = 200 * time.Millisecond
)

// Options say what to watch.
type Options struct {
	Command string               // path of the file that generations run; "" for none
	Check   release.CheckOptions // how it will be run
	Paths   []Path               // more to watch
	Ignore  []string             // patterns as in .gitignore, for Paths; added to gitignore.Default
	Poll    time.Duration        // PollAuto, PollOff or an interval
	Settle  time.Duration        // quiet that is waited for where nothing better is known; 0: DefaultSettle
	Before  *Before              // what Paths are compared with, nil: what the watch finds when it begins
	Begun   func()               // called once a change of each of Paths is seen from then on; nil: nobody wants to know
	Log     func(string)         // messages for the operator, each said once; nil drops them
}

// Path is one --watch.
type Path struct {
	Pattern string      // a file, a directory with everything below it, or a glob
	Signal  unix.Signal // what current is to get; 0: a new generation is wanted
}

// Kind of event.
type EventKind uint8

const (
	NewRelease   EventKind = iota + 1 // Command has new finished content
	PathsChanged                      // something under one of Paths changed
)

// Event is what the watcher has to tell.
type Event struct {
	Kind    EventKind
	Release release.Release // of NewRelease
	File    *release.File   // of NewRelease: Release held open, checked; the receiver closes it
	Signal  unix.Signal     // of PathsChanged, from its Path
	What    string          // a path, for the log
	Reason  string          // what happened to it, for the log: "has new content"
}

// Watcher watches. Its methods may be called from any goroutine.
type Watcher struct {
	events  chan Event
	running chan release.Release
	stop    chan struct{}
	stopped chan struct{}
	once    sync.Once
	polls   atomic.Bool
}

// New begins to watch. Nothing is said of Command before Running has told what
// there is to compare with; of Paths, what has changed since o.Before counts, or what changes
// from now on.
func New(o Options) (*Watcher, error) {
	l, err := newLoop(o, all)
	if err != nil {
		return nil, err
	}
	go l.run()
	return l.Watcher, nil
}

// Events delivers. What is not taken yet is replaced by what is newer, so a
// slow receiver gets the newest release only.
func (w *Watcher) Events() <-chan Event { return w.events }

// Polls reports whether something is looked at in intervals.
func (w *Watcher) Polls() bool { return w.polls.Load() }

// Closed is closed once the watch has ended.
func (w *Watcher) Closed() <-chan struct{} { return w.stopped }

// Running tells which release runs, or is being started: its content at
// Command is no news. The first call compares at once, so what changed while
// nobody watched is found. Call it again whenever another release is started
// or taken back, whether the watcher asked for it or not.
func (w *Watcher) Running(r release.Release) {
	select {
	case w.running <- r:
	case <-w.stop:
	}
}

// Close ends the watch, in the middle of reading a file too. Events stay open
// and silent.
func (w *Watcher) Close() {
	w.once.Do(func() { close(w.stop) })
	<-w.stopped
}

// loop is the one goroutine that owns the lifecycle. Everything that may block
// (looking, reading) runs beside it and reports back.
type loop struct {
	*Watcher
	o       Options
	log     func(string)
	now     func() time.Duration // since the watch began
	queue   *queue
	notes   chan []note
	mounts  chan struct{}
	found   chan answer
	cmd     *command
	eyes    func(query) view
	trees   []*tree
	said    map[string]bool
	failing map[int]bool    // targets whose watches could not be set
	refused map[string]bool // what was said of them since all were set
	mounted func(out chan<- struct{}) (end func())
	since   time.Duration // when the first of what wants a new generation was found
	release *Event        // not taken yet
	changes []*Event      // likewise, at most one for each of trees
	poll    *time.Timer
}

// An answer is what a look beside the loop found.
type answer struct {
	target int
	view   view // of the command
	scan   scan // of a tree
}

func newLoop(o Options, h *hub) (*loop, error) {
	if o.Settle <= 0 {
		o.Settle = DefaultSettle
	}
	if o.Log == nil {
		o.Log = func(string) {}
	}
	l := &loop{
		Watcher: &Watcher{
			events: make(chan Event), running: make(chan release.Release),
			stop: make(chan struct{}), stopped: make(chan struct{}),
		},
		o: o, log: o.Log, said: map[string]bool{}, failing: map[int]bool{}, refused: map[string]bool{}, mounted: mounts.watch,
		notes: make(chan []note), mounts: make(chan struct{}, 1), found: make(chan answer),
	}
	began := time.Now()
	l.now = func() time.Duration { return time.Since(began) }
	o.Check.Done = l.stop
	l.queue = newQueue(1+len(o.Paths), h, l.notes, l.stop)
	if o.Command != "" {
		path, err := absolute(o.Command)
		if err != nil {
			return nil, err
		}
		l.cmd = &command{path: path, settle: o.Settle, log: o.Log, dirty: true}
		l.eyes = eyes{
			path: path, check: o.Check, poll: o.Poll > 0,
			apply: func(n []need) (bool, error) { return l.queue.apply(0, n) },
		}.look
	}
	if err := l.plant(); err != nil {
		return nil, err
	}
	return l, nil
}

// absolute leaves ".." in the path: what it leads to depends on the symbolic
// links before it.
func absolute(path string) (string, error) {
	if filepath.IsAbs(path) {
		return path, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("cannot watch %s: the working directory is not known: %w", path, err)
	}
	return dir + "/" + path, nil
}

func (l *loop) run() {
	defer close(l.stopped)
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	l.poll = time.NewTimer(time.Hour)
	l.poll.Stop()
	polling := false
	if l.o.Poll >= 0 {
		defer func() { l.poll.Stop() }()
	}
	defer l.mounted(l.mounts)()

	for {
		wake := l.advance()
		if wake != 0 {
			timer.Reset(max(wake-l.now(), 0))
		} else {
			timer.Stop()
		}
		if want := l.wantsPoll(); want != polling {
			polling = want
			l.polls.Store(want)
			if want {
				l.poll.Reset(l.interval())
			} else {
				l.poll.Stop()
			}
		}
		events, event := l.pending()

		select {
		case notes := <-l.notes:
			for _, n := range notes {
				l.note(n)
			}
		case <-l.mounts:
			l.noteAll()
		case a := <-l.found:
			l.answer(a)
		case r := <-l.running:
			if l.cmd != nil {
				l.cmd.running(r)
			}
		case <-timer.C:
		case <-l.poll.C:
			l.pollAll()
			l.poll.Reset(l.interval())
		case events <- event:
			l.taken(event)
		case <-l.stop:
			// Looks that hang in the file system are left to themselves: they
			// find nobody to report to and end.
			l.queue.close()
			if l.cmd != nil {
				l.cmd.file.Close()
			}
			if l.release != nil {
				l.release.File.Close()
			}
			return
		}
	}
}

// advance starts what is to be done now, and tells when to come back.
func (l *loop) advance() (wake time.Duration) {
	now := l.now()
	earliest := func(at time.Duration) {
		if at != 0 && (wake == 0 || at < wake) {
			wake = at
		}
	}
	if l.cmd != nil {
		q, at := l.cmd.next(now)
		if q != nil {
			go l.report(func() answer { return answer{target: 0, view: l.eyes(*q)} })
		}
		earliest(at)
	}
	if l.release != nil || l.changed() {
		if on, until := l.burst(); on {
			earliest(until)
		}
	}
	for i, t := range l.trees {
		q, at := t.next(now)
		if q != nil {
			go l.report(func() answer { return answer{target: i + 1, scan: t.eyes(*q)} })
		}
		earliest(at)
	}
	return wake
}

// report runs a look and hands over what it found, unless nobody waits any more.
func (l *loop) report(look func() answer) {
	a := look()
	select {
	case l.found <- a:
	case <-l.stop:
		a.view.file.Close()
	}
}

func (l *loop) answer(a answer) {
	if a.target == 0 {
		l.grumble(0, a.view.err)
		if e := l.cmd.found(l.now(), a.view); e != nil {
			l.wanted()
			if l.release != nil {
				l.release.File.Close()
			}
			l.release = e
		}
		return
	}
	l.grumble(a.target, a.scan.err)
	first := !l.trees[a.target-1].have
	if first && l.o.Begun != nil && !slices.ContainsFunc(l.trees, func(t *tree) bool { return !t.have && t != l.trees[a.target-1] }) {
		defer l.o.Begun()
	}
	if e := l.trees[a.target-1].found(l.now(), a.scan); e != nil {
		if e.Signal == 0 {
			l.wanted()
		}
		l.changes[a.target-1] = e
	}
}

// changed reports whether a tree wants a new generation.
func (l *loop) changed() bool {
	return slices.ContainsFunc(l.changes, func(e *Event) bool { return e != nil && e.Signal == 0 })
}

// wanted notes that a new generation is wanted from now on.
func (l *loop) wanted() {
	if l.release == nil && !l.changed() {
		l.since = l.now()
	}
}

// burst reports whether more of what wants a new generation is on its way: a
// checkout that changes the program and files beside it is one change. It also
// tells for how long that is believed.
func (l *loop) burst() (on bool, until time.Duration) {
	until = l.since + longestNoise
	if l.now() >= until {
		return false, 0
	}
	for _, t := range l.trees {
		if t.signal == 0 && t.have && (t.loud || t.busy) {
			return true, until
		}
	}
	return l.cmd != nil && l.cmd.undecided(), until
}

// grumble says once that a watch could not be set, and once that it can again.
// A limit that is reached concerns everything: it is said of the first path
// only.
func (l *loop) grumble(target int, err error) {
	if err == nil {
		if l.failing[target] {
			delete(l.failing, target)
			if len(l.failing) == 0 {
				clear(l.refused)
				l.log("inotify works again; polling no more than before")
			}
		}
		return
	}
	l.failing[target] = true
	about := err.Error()
	if limit := limitOf(err); limit != nil {
		about = limit.Error()
	}
	if l.refused[about] {
		return
	}
	l.refused[about] = true
	next := "; looking every " + l.interval().String() + " instead"
	if l.o.Poll < 0 {
		next = "; what changes there will go unnoticed, for polling is off"
	}
	l.log("cannot watch " + err.Error() + next)
}

func (l *loop) say(text string) {
	if !l.said[text] {
		l.said[text] = true
		l.log(text)
	}
}

func (l *loop) note(n note) {
	switch {
	case n.target == overflow:
		l.say("inotify lost reports, for there were too many at once; looking at everything again")
		l.noteAll()
	case n.target == 0:
		if l.cmd != nil {
			l.cmd.note(n)
		}
	default:
		l.trees[n.target-1].note(l.now(), n)
	}
}

func (l *loop) noteAll() {
	if l.cmd != nil {
		l.cmd.note(note{})
	}
	for _, t := range l.trees {
		t.note(l.now(), note{})
	}
}

func (l *loop) interval() time.Duration { return interval(l.o.Poll) }

func (l *loop) wantsPoll() bool {
	if l.o.Poll < 0 {
		return false
	}
	want := l.cmd != nil && l.cmd.polled
	for _, t := range l.trees {
		want = want || t.polled
	}
	return want
}

func (l *loop) pollAll() {
	if l.cmd != nil && l.cmd.polled {
		l.cmd.note(note{})
	}
	for _, t := range l.trees {
		if t.polled {
			t.look()
		}
	}
}

// pending is the next event and where it goes: a nil channel while there is none.
func (l *loop) pending() (chan<- Event, Event) {
	burst, _ := l.burst()
	if l.release != nil && !burst {
		return l.events, *l.release
	}
	for _, e := range l.changes {
		if e != nil && (e.Signal != 0 || !burst) {
			return l.events, *e
		}
	}
	return nil, Event{}
}

// taken forgets what was delivered, and what a generation that starts now has
// in it anyway.
func (l *loop) taken(e Event) {
	if e.Kind == NewRelease {
		l.release = nil
	}
	for i, c := range l.changes {
		switch {
		case c == nil:
		case e.Signal != 0 && *c == e:
			l.changes[i] = nil
			return
		case e.Signal == 0 && c.Signal == 0:
			l.changes[i] = nil
		}
	}
}
