package watch

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/release"
)

// command watches the file that generations are started from. The loop owns
// it; looks run beside the loop, one at a time.
type command struct {
	path   string
	settle time.Duration
	log    func(string)

	armed    bool // Running was called: there is something to compare with
	base     baseline
	seen     []observation
	dirty    bool // something was reported since the last look
	finished bool // and it was a close or a rename
	examine  bool
	busy     bool
	wake     time.Duration // look again then; 0: only when something is reported
	polled   bool
	file     *release.File // of the last examination, until it is concluded upon
	grumbled identity

	concluded func(observation, verdict) // of each look, for tests; nil otherwise
}

// A query is the input of a look. It is a copy, because it leaves the loop.
type query struct {
	examine  bool
	finished bool
	known    identity        // needs no second thought
	other    release.Release // content that is of interest even where it can't be started
}

// A view is the result of a look.
type view struct {
	observation observation
	file        *release.File
	polled      bool  // changes may come unreported
	err         error // a watch could not be set
}

func (c *command) note(n note) {
	c.dirty = true
	c.finished = c.finished || n.finished
}

// running sets the content that runs or is being started.
func (c *command) running(r release.Release) {
	c.base.expected = r
	if !c.armed {
		c.armed = true
		c.base.shown = r
		c.seen = c.seen[:0]
	}
	c.dirty = true
}

// undecided reports whether a report still waits for its verdict.
func (c *command) undecided() bool {
	return c.armed && (c.dirty || c.busy || c.examine || c.wake != 0)
}

// next is what to do now: a query, or when to ask again (0: on a note).
func (c *command) next(now time.Duration) (*query, time.Duration) {
	switch {
	case c.busy:
		return nil, 0
	case c.dirty || c.examine:
	case c.wake != 0 && now >= c.wake:
	default:
		return nil, c.wake
	}
	// What is dirty is looked at first: what was to be examined may be gone.
	q := &query{examine: c.examine && !c.dirty, finished: c.finished, known: c.base.judged, other: c.base.shown}
	c.dirty, c.finished, c.examine, c.wake, c.busy = false, false, false, 0, true
	return q, 0
}

// found takes in the result of a look. It returns an event for the receiver, or
// nil.
func (c *command) found(now time.Duration, v view) *Event {
	c.busy = false
	c.polled = v.polled
	if v.file != nil {
		c.file.Close()
		c.file = v.file
	}
	if !c.armed {
		return nil
	}
	v.observation.at = now
	c.seen = remember(c.seen, v.observation)
	d := decide(c.base, c.seen, c.settle)
	c.base = conclude(c.base, c.seen, d)
	if c.concluded != nil {
		c.concluded(v.observation, d)
	}
	var e *Event
	switch d.kind {
	case verdictWait:
		c.wake = d.until
		if d.reason != "" && c.grumbled != v.observation.id {
			c.grumbled = v.observation.id
			c.log(c.path + ": " + d.reason + "; the running generation stays")
		}
		return nil
	case verdictExamine:
		c.examine = true
		return nil
	case verdictRefuse:
		c.log(c.path + ": " + d.reason + "; the running generation stays")
	case verdictAct:
		e = &Event{Kind: NewRelease, Release: c.base.expected, File: c.file, What: c.path, Reason: "has new content"}
		c.file = nil
	}
	c.file.Close()
	c.file = nil
	return e
}

// How long after a change the stamps of another may be the same. A kernel's
// file times are as coarse as its timer tick (10 ms at most); FAT and old NFS
// servers count in seconds.
const (
	tick       = 50 * time.Millisecond
	coarseTick = 2500 * time.Millisecond
)

// eyes look at the file system for a command; they keep nothing.
type eyes struct {
	path  string
	check release.CheckOptions
	apply func([]need) (added bool, err error)
	poll  bool // told to poll everything
}

func (e eyes) look(q query) view {
	var r route
	var err error
	for range 8 { // each time a watch is new, what it missed must be seen
		r = walk(e.path)
		needs := r.needs
		if r.file != (release.Stamp{}) {
			needs = append(needs, need{path: r.real, inode: inode{r.file.Dev, r.file.Ino}, role: roleFile})
		}
		var added bool
		if added, err = e.apply(needs); !added {
			break
		}
	}
	v := view{polled: r.remote || err != nil || e.poll, err: err}
	s := &v.observation
	s.finished = q.finished
	s.coarse = v.polled
	s.id = identity{file: r.file, fault: r.fault}
	if r.file == (release.Stamp{}) {
		return v
	}
	s.id.real = r.real
	if p, ok := release.ChecksumFile(e.path, r.real); ok {
		s.id.checksum = release.StatStamp(p)
	}
	if e.check.Trust != nil {
		if p, ok := release.SignatureFile(e.path, r.real); ok {
			s.id.signature = release.StatStamp(p)
		}
	}
	s.fresh = isFresh(r.file, s.coarse)
	switch regular := r.file.Mode&unix.S_IFMT == unix.S_IFREG; {
	case regular && (q.examine || s.id != q.known):
		e.touch(&v, q)
	case q.examine:
		// Not opened: that alone would tell a FIFO's writer that it is read.
		s.exam = &exam{fault: release.CheckType(r.file.Mode).Error()}
	}
	return v
}

// touch opens the file, to ask for writers and maybe to read it.
func (e eyes) touch(v *view, q query) {
	f, err := release.OpenUnchecked(e.path)
	if err != nil {
		switch {
		case errors.Is(err, unix.ENOENT):
			v.observation.id = identity{}
		case errors.Is(err, unix.EACCES), errors.Is(err, unix.ELOOP):
			v.observation.id.fault = err.Error()
		default:
			v.observation.exam = &exam{fault: err.Error()}
		}
		return
	}
	s := &v.observation
	s.id.real, s.id.file = f.Real, f.Stamp()
	s.writer = f.Writer()
	if !q.examine || s.writer == release.WriterOpen {
		f.Close()
		return
	}
	v.file = f
	fault := f.Check(e.check, &q.other)
	if errors.Is(fault, unix.EAGAIN) || errors.Is(fault, release.ErrStopped) {
		s.writer = f.Writer()
		return // it goes on changing: no examination
	}
	// A writer that came while it was read: whatever was read, it isn't finished.
	s.writer = f.Writer()
	s.exam = &exam{release: f.Release}
	if fault != nil {
		s.exam.fault = fault.Error()
	}
}

func isFresh(st release.Stamp, coarse bool) bool {
	limit := tick
	if coarse {
		limit = coarseTick
	}
	return time.Since(time.Unix(0, st.CTime)).Abs() < limit
}
