package watch

import (
	"time"

	"github.com/hotinit/hotinit/internal/release"
)

// identity is what a look at the path shows: where it leads, the file there, and
// the checksum file and the signature beside it. While these are unchanged, nothing happened. The
// same file by another way (a turned link to a hard link) is another identity.
type identity struct {
	real           string
	file, checksum release.Stamp
	signature      release.Stamp // where it matters
	fault          string        // why the path could not be followed to its end
}

// exam is the result of reading the file.
type exam struct {
	release release.Release
	fault   string // why it can't be started; "" when it can
}

// observation is what one look found. Its place in the list and at say when it
// was made.
type observation struct {
	at       time.Duration // since the watch began
	id       identity
	writer   release.Writer
	finished bool  // the kernel reported a close after writing, or a rename into place
	fresh    bool  // changed so recently that a further change may leave the stamp the same
	coarse   bool  // on a file system that reports nothing: only another look finds such a change
	exam     *exam // the file was read as well
}

// baseline is what earlier observations led to.
type baseline struct {
	shown    release.Release // what the path was last known to hold
	expected release.Release // what runs, or is being started
	any      bool            // there is a judged one
	judged   identity        // concluded upon already
	fresh    bool            // judged was concluded while fresh
}

// knows reports whether s shows only what an earlier verdict covers.
func (b baseline) knows(s observation) bool {
	again := b.fresh && (s.finished || s.coarse && !s.fresh)
	return b.any && s.id == b.judged && !again && s.exam == nil
}

// holds reports whether the release that the path was last known to hold is
// still there, unmodified.
func (b baseline) holds(id identity) bool {
	f := id.file
	r := b.shown
	return r.Ino != 0 && r.Real == id.real && r.Dev == f.Dev && r.Ino == f.Ino && r.Size == f.Size && r.MTime == f.MTime && r.CTime == f.CTime
}

// again reports whether content that is not what runs, since it was rejected, was
// put there once more. Whoever did that is to be told what became of it.
func (b baseline) again(ex *exam) bool {
	r, s := ex.release, b.shown
	return ex.fault == "" && !r.Same(b.expected) && (r.Dev != s.Dev || r.Ino != s.Ino || r.MTime != s.MTime)
}

type verdictKind uint8

const (
	verdictIgnore  verdictKind = iota // nothing new
	verdictWait                       // look again at until, or when something is reported
	verdictExamine                    // read it and look again
	verdictAct                        // a new finished release
	verdictRefuse                     // something new that can't be started; what runs stays
)

type verdict struct {
	kind   verdictKind
	until  time.Duration
	reason string // of a refusal, or of a wait that takes long
}

const (
	longestLook = 30 * time.Second // between looks at a file that a writer holds open
	longWrite   = time.Minute      // a writer that holds it unchanged for so long is worth a word
)

// decide turns a list of observations, the newest last, into a verdict. It is a
// pure function.
//
// A file is finished when no process has it open for writing. Where the kernel
// cannot say that, it is finished when the kernel reported its close or its
// rename into place, or when it has not changed for the time settle. Only a
// finished file is examined. A file that cannot be started may become one that
// can (chmod after cp, the checksum file after the program), so a fault counts
// only after settle.
func decide(b baseline, seen []observation, settle time.Duration) verdict {
	if len(seen) == 0 {
		return verdict{}
	}
	now := seen[len(seen)-1]
	if b.knows(now) || !b.any && now.exam == nil && b.holds(now.id) {
		return verdict{}
	}

	// What is known of the file as it is now.
	var ex *exam
	finished, outdated := false, false
	since, exAt := now.at, time.Duration(0)
	for i := len(seen) - 1; i >= 0 && seen[i].id == now.id; i-- {
		s := seen[i]
		since = s.at
		if ex == nil && s.exam != nil && !finished && !outdated {
			// What was read while a change could leave the stamps as they are,
			// and go unreported, says nothing once it can't any more.
			outdated = now.coarse && !now.fresh && s.fresh
			if !outdated {
				ex, exAt = s.exam, s.at
			}
		}
		if s.finished {
			finished = true // and an examination before it says nothing of what was written
		}
	}
	settled := since + settle

	if now.id.fault != "" || now.id.file == (release.Stamp{}) {
		if now.at < settled {
			return verdict{kind: verdictWait, until: settled}
		}
		if now.id.fault != "" {
			return verdict{kind: verdictRefuse, reason: now.id.fault}
		}
		return verdict{kind: verdictRefuse, reason: "was removed"}
	}

	if now.writer == release.WriterOpen {
		v := verdict{kind: verdictWait, until: now.at + min(max((now.at-since)/2, settle), max(longestLook, settle))}
		if now.at-since >= longWrite {
			v.reason = "is held open for writing; waiting until it is closed"
		}
		return v
	}
	if now.writer == release.WriterUnknown && !finished && now.at < settled {
		return verdict{kind: verdictWait, until: settled}
	}

	switch {
	case ex == nil:
		return verdict{kind: verdictExamine}
	case ex.release.Same(b.shown) && !b.again(ex):
		return verdict{}
	case ex.fault != "" && now.at < settled:
		return verdict{kind: verdictWait, until: settled}
	case ex.fault != "" && exAt < settled:
		return verdict{kind: verdictExamine} // once more: its interpreter may have come later
	case ex.fault != "":
		return verdict{kind: verdictRefuse, reason: ex.fault}
	case ex.release.Same(b.expected):
		return verdict{}
	}
	return verdict{kind: verdictAct}
}

// remember appends s and forgets what can't matter any more, so that a file
// that is written for hours doesn't fill the memory: of the observations of one
// state it keeps the first, the last, the last that was reported finished and
// the last that was examined. decide says of them what it says of all.
func remember(seen []observation, s observation) []observation {
	if n := len(seen); n > 0 && seen[n-1].id != s.id {
		seen = seen[:0]
	}
	seen = append(seen, s)
	finished, examined := 0, 0
	for i, s := range seen {
		if s.finished {
			finished = i
		}
		if s.exam != nil {
			examined = i
		}
	}
	kept := seen[:0]
	for i, s := range seen {
		if i == 0 || i == finished || i == examined || i == len(seen)-1 {
			kept = append(kept, s)
		}
	}
	return kept
}

// conclude is the baseline after a verdict on the last observation.
func conclude(b baseline, seen []observation, v verdict) baseline {
	if len(seen) == 0 {
		return b
	}
	now := seen[len(seen)-1]
	if v.kind == verdictWait || v.kind == verdictExamine || b.knows(now) {
		return b
	}
	b.judged, b.any, b.fresh = now.id, true, now.fresh
	var ex *exam
	for i := len(seen) - 1; i >= 0 && seen[i].id == now.id; i-- {
		if seen[i].exam != nil {
			ex = seen[i].exam
			break
		}
	}
	if ex != nil && (v.kind != verdictRefuse && ex.fault == "") {
		b.shown = ex.release
	}
	if v.kind == verdictAct {
		b.expected = ex.release
	}
	return b
}
