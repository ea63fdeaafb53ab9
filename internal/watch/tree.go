package watch

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/gitignore"
)

// tree watches one of Options.Paths: a file, a directory with everything below
// it, or the matches of a glob. A report only says that something happened. A
// sweep of the whole tree finds what changed once it is quiet, so lost reports
// do no harm and a burst is one change. The loop owns it; sweeps run beside the
// loop, one at a time.
type tree struct {
	*extent
	signal unix.Signal
	settle time.Duration
	eyes   func(sweep) scan

	have   bool          // there is a baseline
	marks  []mark        // the baseline
	dirty  bool          // something was reported since the last sweep began
	loud   bool          // something was reported that is not concluded upon
	first  time.Duration // since when
	last   time.Duration
	due    bool // polling: go through it now
	busy   bool
	polled bool
	sum    uint64 // of the sweep before, where two alike are needed

	swept func(scan) // for tests; nil otherwise
}

// extent says what belongs to a tree. It doesn't change, so anybody may ask.
type extent struct {
	pattern string   // as asked for
	base    string   // the directory or file that is followed
	globs   []string // what matters below base; nil: everything
	ignore  gitignore.List
}

func newExtent(pattern string, ignored gitignore.List) (*extent, error) {
	if pattern == "" {
		return nil, fmt.Errorf("cannot watch a path without a name")
	}
	path, err := absolute(pattern)
	if err != nil {
		return nil, err
	}
	x := &extent{pattern: pattern, base: path, ignore: ignored}
	var st unix.Stat_t
	if !strings.ContainsAny(path, "*?[") || unix.Lstat(path, &st) == nil {
		return x, nil // or such a name exists: it means itself
	}
	names := strings.Split(path, "/")
	for i, name := range names {
		if strings.ContainsAny(name, "*?[") {
			x.base = "/" + strings.Join(names[:i], "/")
			x.globs = gitignore.Split(strings.Trim(strings.Join(names[i:], "/"), "/"))
			break
		}
	}
	x.base = filepath.Clean(x.base) // no symbolic link is before a ".." that Clean removes here, or it is not a glob's business
	return x, nil
}

// holds reports whether the path below base, or a directory that it is in, is asked for.
func (x *extent) holds(rel string) bool {
	if x.globs == nil {
		return true
	}
	for end := 0; end < len(rel); end++ {
		if i := strings.IndexByte(rel[end:], '/'); i >= 0 {
			end += i
		} else {
			end = len(rel)
		}
		if gitignore.MatchPath(x.globs, rel[:end]) {
			return true
		}
	}
	return false
}

// wants reports whether something of that name, reported in a directory below
// base, matters.
func (x *extent) wants(dir, name string, isDir bool) bool {
	rel := join(dir, name)
	if x.ignore.Match(rel, isDir) {
		return false
	}
	return x.holds(rel) || isDir && gitignore.Leads(x.globs, rel)
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// A sweep is one way through the tree; it is a copy, for it leaves the loop.
type sweep struct {
	marks []mark // what was there before
	first bool
}

// longestNoise is how long reports may go on before what they are about counts
// though it isn't quiet yet.
const longestNoise = 30 * time.Second

func (t *tree) note(now time.Duration, _ note) {
	if !t.loud {
		t.loud, t.first = true, now
	}
	t.dirty, t.last = true, now
}

// again asks for another sweep after settle.
func (t *tree) again(now time.Duration) {
	t.loud, t.dirty, t.first, t.last = true, true, now, now
}

// look is polling's note.
func (t *tree) look() { t.due = true }

// next is what to do now: a sweep, or when to ask again (0: on a note).
func (t *tree) next(now time.Duration) (*sweep, time.Duration) {
	switch {
	case t.busy:
		return nil, 0
	case !t.have, t.due:
	case !t.dirty:
		return nil, 0
	default:
		if at := min(t.last+t.settle, t.first+max(longestNoise, t.settle)); now < at {
			return nil, at
		}
	}
	t.busy, t.due, t.dirty = true, false, false
	return &sweep{marks: t.marks, first: !t.have}, 0
}

// found takes in what a sweep saw.
func (t *tree) found(now time.Duration, s scan) *Event {
	t.busy = false
	t.polled = s.polled
	if t.swept != nil {
		defer t.swept(s)
	}
	if !t.have {
		t.have = true
		if s.before == nil {
			// What was reported before this sweep began is in it. Left loud, the
			// tree would hold back every release for the longest noise.
			t.marks = s.marks
			t.loud, t.first = t.dirty, now
			return nil
		}
		t.marks = s.before
	}
	noise := t.dirty && now-t.first < longestNoise
	switch {
	case s.changed == 0:
		t.marks = s.marks // touched files have other stamps now
		t.loud, t.first = t.dirty, now
		return nil
	case noise:
		return nil // something was reported meanwhile: it isn't over
	case s.added || s.written || s.polled && s.sum != t.sum:
		// New directories, where something may happen unseen until now; files that
		// somebody is writing; or a file system of which quiet is only known by
		// looking twice.
		t.sum = s.sum
		t.again(now)
		return nil
	}
	t.loud, t.first = t.dirty, now
	t.marks, t.sum = s.marks, 0
	reason := "changed"
	if s.changed > 1 {
		reason = fmt.Sprintf("changed, and %d more with it", s.changed-1)
	}
	what := s.what
	if what == "" {
		what, reason = t.pattern, "changed: something was removed"
	}
	return &Event{Kind: PathsChanged, Signal: t.signal, What: what, Reason: reason}
}

// plant makes the trees of the loop.
func (l *loop) plant() error {
	ignored := gitignore.Parse(append(gitignore.Default(), l.o.Ignore...))
	for i, p := range l.o.Paths {
		x, err := newExtent(p.Pattern, ignored)
		if err != nil {
			return err
		}
		target := i + 1
		t := &tree{extent: x, signal: p.Signal, settle: l.o.Settle}
		eyes := sweeper{
			extent: x, command: l.o.Command, poll: l.o.Poll > 0, stop: l.stop,
			apply: func(n []need) (bool, error) { return l.queue.apply(target, n) },
		}
		t.eyes = func(q sweep) scan {
			if !q.first {
				return eyes.sweep(q)
			}
			before := l.o.Before.take(i, l.stop)
			found := eyes.sweep(sweep{marks: before, first: before == nil})
			found.before = before
			return found
		}
		l.trees = append(l.trees, t)
	}
	l.changes = make([]*Event, len(l.trees))
	l.queue.wants = func(target int, dir, name string, isDir bool) bool {
		return l.trees[target-1].wants(dir, name, isDir)
	}
	return nil
}
