package watch

import (
	"testing"
	"time"
)

const ms = time.Millisecond

var (
	running = Release{Dev: 1, Ino: 1, Size: 10, MTime: 1, CTime: 1, Digest: Digest{1}}
	newer   = Release{Dev: 1, Ino: 2, Size: 10, MTime: 2, CTime: 2, Digest: Digest{2}}
	oldID   = identity{file: stamp{dev: 1, ino: 1, size: 10, mtime: 1, ctime: 1, mode: 0o100755}}
	newID   = identity{file: stamp{dev: 1, ino: 2, size: 10, mtime: 2, ctime: 2, mode: 0o100755}}
	grownID = identity{file: stamp{dev: 1, ino: 2, size: 20, mtime: 3, ctime: 3, mode: 0o100755}}
	goneID  = identity{}
	lostID  = identity{fault: "cannot be followed: /x: too many levels of symbolic links"}
	judged  = baseline{shown: running, expected: running, any: true, judged: oldID}
	fine    = &exam{release: newer}
	copied  = &exam{release: Release{Ino: 2, Size: 10, Digest: Digest{1}}}
	half    = &exam{release: Release{Ino: 2, Size: 10}, fault: "truncated ELF file"}
)

func TestDecide(t *testing.T) {
	const settle = 100 * ms
	at := func(n int, s sight) sight { s.at = time.Duration(n) * ms; return s }
	for _, c := range []struct {
		name string
		base baseline
		seen []sight
		want verdict
	}{
		{"nothing seen", judged, nil, verdict{}},
		{"what was there before", judged, []sight{{id: oldID}}, verdict{}},
		{"what runs, at the first look", baseline{shown: running, expected: running}, []sight{{id: oldID}}, verdict{}},
		{"new, nobody writes", judged, []sight{{id: newID, writer: writerNone}}, verdict{kind: verdictExamine}},
		{"new, closed after writing", judged, []sight{{id: newID, finished: true}}, verdict{kind: verdictExamine}},
		{"new, nothing known of writers", judged, []sight{{id: newID}}, verdict{kind: verdictWait, until: 100 * ms}},
		{"new, quiet for long enough", judged, []sight{at(0, sight{id: newID}), at(100, sight{id: newID})}, verdict{kind: verdictExamine}},
		{"still growing", judged, []sight{at(0, sight{id: newID}), at(100, sight{id: grownID})}, verdict{kind: verdictWait, until: 200 * ms}},
		{"closed, then written again", judged, []sight{at(0, sight{id: newID, finished: true}), at(50, sight{id: grownID})}, verdict{kind: verdictWait, until: 150 * ms}},
		{"being written", judged, []sight{{id: newID, writer: writerOpen}}, verdict{kind: verdictWait, until: 100 * ms}},
		{"closed by one, held by another", judged, []sight{{id: newID, writer: writerOpen, finished: true}}, verdict{kind: verdictWait, until: 100 * ms}},
		{"examined, then opened for writing", judged, []sight{{id: newID, writer: writerNone, exam: fine}, at(1, sight{id: newID, writer: writerOpen})}, verdict{kind: verdictWait, until: 101 * ms}},
		{"a writer that pauses is asked less often", judged, []sight{{id: newID, writer: writerOpen}, at(10000, sight{id: newID, writer: writerOpen})}, verdict{kind: verdictWait, until: 15000 * ms}},
		{"a writer that pauses for long", judged, []sight{{id: newID, writer: writerOpen}, at(60000, sight{id: newID, writer: writerOpen})}, verdict{kind: verdictWait, until: 90000 * ms, reason: "is held open for writing; waiting until it is closed"}},
		{"examined and fine", judged, []sight{{id: newID, writer: writerNone}, {id: newID, writer: writerNone, exam: fine}}, verdict{kind: verdictAct}},
		{"examined, closed since", judged, []sight{{id: newID, exam: fine, writer: writerNone}, {id: newID, finished: true}}, verdict{kind: verdictExamine}},
		{"examined, changed since", judged, []sight{{id: newID, exam: fine, writer: writerNone}, {id: grownID, writer: writerNone}}, verdict{kind: verdictExamine}},
		{"the same bytes", judged, []sight{{id: newID, writer: writerNone, exam: copied}}, verdict{}},
		{"the same bytes, not to be started", judged, []sight{{id: newID, writer: writerNone, exam: &exam{release: copied.release, fault: "not executable"}}}, verdict{}},
		{"what is being started already", baseline{shown: running, expected: newer, any: true, judged: oldID}, []sight{{id: newID, writer: writerNone, exam: fine}}, verdict{}},
		{"what ran, while another is started", baseline{shown: newer, expected: newer, any: true, judged: newID}, []sight{{id: oldID, writer: writerNone, exam: &exam{release: running}}}, verdict{kind: verdictAct}},
		{"incomplete, may go on", judged, []sight{{id: newID, writer: writerNone, exam: half}}, verdict{kind: verdictWait, until: 100 * ms}},
		{"incomplete, looked at again", judged, []sight{{id: newID, writer: writerNone, exam: half}, at(100, sight{id: newID, writer: writerNone})}, verdict{kind: verdictExamine}},
		{"incomplete for good", judged, []sight{{id: newID, writer: writerNone}, at(100, sight{id: newID, writer: writerNone, exam: half})}, verdict{kind: verdictRefuse, reason: "truncated ELF file"}},
		{"refused before", baseline{shown: running, expected: running, any: true, judged: newID}, []sight{{id: newID, writer: writerNone}}, verdict{}},
		{"gone", judged, []sight{{id: goneID}}, verdict{kind: verdictWait, until: 100 * ms}},
		{"gone for long", judged, []sight{{id: goneID}, at(100, sight{id: goneID})}, verdict{kind: verdictRefuse, reason: "was removed"}},
		{"gone and said", baseline{shown: running, expected: running, any: true, judged: goneID}, []sight{{id: goneID}}, verdict{}},
		{"never there", baseline{shown: running, expected: running}, []sight{{id: goneID}, at(100, sight{id: goneID})}, verdict{kind: verdictRefuse, reason: "was removed"}},
		{"no way there", judged, []sight{{id: lostID}, at(100, sight{id: lostID})}, verdict{kind: verdictRefuse, reason: lostID.fault}},
		{"written in the tick it was judged in", baseline{shown: running, expected: running, any: true, judged: oldID, fresh: true}, []sight{{id: oldID, finished: true, writer: writerNone}}, verdict{kind: verdictExamine}},
		{"polled after the tick it was judged in", baseline{shown: running, expected: running, any: true, judged: oldID, fresh: true}, []sight{{id: oldID, coarse: true}, at(100, sight{id: oldID, coarse: true})}, verdict{kind: verdictExamine}},
		{"polled after the tick it was examined in", baseline{shown: newer, expected: newer, any: true, judged: newID, fresh: true}, []sight{{id: newID, coarse: true, fresh: true, finished: true, exam: fine}, at(100, sight{id: newID, coarse: true})}, verdict{kind: verdictExamine}},
		{"polled after the tick, and examined again", baseline{shown: newer, expected: newer, any: true, judged: newID, fresh: true}, []sight{{id: newID, coarse: true, fresh: true, exam: fine}, at(100, sight{id: newID, coarse: true}), at(101, sight{id: newID, coarse: true, exam: fine})}, verdict{}},
		{"polled within the tick it was judged in", baseline{shown: running, expected: running, any: true, judged: oldID, fresh: true}, []sight{{id: oldID, coarse: true, fresh: true}}, verdict{}},
		{"closed long after it was judged", judged, []sight{{id: oldID, finished: true, writer: writerNone}}, verdict{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := decide(c.base, c.seen, settle); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// observations makes a list of sights of fuzzing bytes, four bits of time and
// the rest of what was seen each.
func observations(script []byte) []sight {
	ids := []identity{oldID, newID, grownID, goneID, lostID}
	exams := []*exam{nil, fine, copied, half}
	var list []sight
	at := time.Duration(0)
	for len(script) >= 2 {
		a, b := script[0], script[1]
		script = script[2:]
		at += time.Duration(a>>4) * 20 * ms
		s := sight{
			at: at, id: ids[int(a&15)%len(ids)], writer: writer(b & 3 % 3),
			finished: b&4 != 0, fresh: b&8 != 0, coarse: b&16 != 0, exam: exams[b>>6],
		}
		if s.id.file == (stamp{}) {
			s.exam, s.writer = nil, writerUnknown
		}
		list = append(list, s)
	}
	return list
}

// FuzzDecide: a release is only started when the last look proves that it is
// finished, fine and new; what is forgotten changes no verdict; and everything
// that isn't concluded upon names a time in the future to look again.
func FuzzDecide(f *testing.F) {
	f.Add([]byte{0x01, 0x01, 0x01, 0x41})
	f.Add([]byte{0x02, 0x02, 0x52, 0x00, 0x52, 0x81})
	f.Add([]byte{0x03, 0x00, 0xf3, 0x00, 0x11, 0x44})
	const settle = 100 * ms
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 200 {
			return
		}
		b := baseline{shown: running, expected: running}
		var all, kept []sight
		for _, s := range observations(script) {
			all, kept = append(all, s), remember(kept, s)
			v := decide(b, kept, settle)
			if full := decide(b, all, settle); full != v {
				t.Fatalf("%+v of all, %+v of what is remembered\n%+v\n%+v", full, v, all, kept)
			}
			if len(kept) > 4 {
				t.Fatalf("remembers %d", len(kept))
			}
			switch v.kind {
			case verdictAct:
				if s.writer == writerOpen || s.id.fault != "" || s.id.file == (stamp{}) {
					t.Fatalf("started what %+v shows", s)
				}
				after := conclude(b, kept, v)
				if after.expected.Same(b.expected) || after.shown.Same(b.shown) {
					t.Fatalf("started what runs: %+v", after)
				}
				if again := decide(after, []sight{{at: s.at, id: s.id}}, settle); again.kind != verdictIgnore {
					t.Fatalf("started twice: %+v", again)
				}
			case verdictWait:
				if v.until <= s.at {
					t.Fatalf("waits until the past: %+v at %v", v, s.at)
				}
			case verdictRefuse:
				if v.reason == "" || s.writer == writerOpen {
					t.Fatalf("refused %+v for %q", s, v.reason)
				}
				after := conclude(b, kept, v)
				if !after.expected.Same(b.expected) || !after.shown.Same(b.shown) {
					t.Fatalf("what was refused counts: %+v", after)
				}
			}
			b = conclude(b, kept, v)
		}
	})
}
