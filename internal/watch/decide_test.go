package watch

import (
	"testing"
	"time"

	"github.com/hotinit/hotinit/internal/release"
)

const ms = time.Millisecond

var (
	running = release.Release{Dev: 1, Ino: 1, Size: 10, MTime: 1, CTime: 1, Digest: release.Digest{1}}
	newer   = release.Release{Dev: 1, Ino: 2, Size: 10, MTime: 2, CTime: 2, Digest: release.Digest{2}}
	oldID   = identity{file: release.Stamp{Dev: 1, Ino: 1, Size: 10, MTime: 1, CTime: 1, Mode: 0o100755}}
	newID   = identity{file: release.Stamp{Dev: 1, Ino: 2, Size: 10, MTime: 2, CTime: 2, Mode: 0o100755}}
	grownID = identity{file: release.Stamp{Dev: 1, Ino: 2, Size: 20, MTime: 3, CTime: 3, Mode: 0o100755}}
	goneID  = identity{}
	lostID  = identity{fault: "cannot be followed: /x: too many levels of symbolic links"}
	judged  = baseline{shown: running, expected: running, any: true, judged: oldID}
	fine    = &exam{release: newer}
	copied  = &exam{release: release.Release{Ino: 2, Size: 10, Digest: release.Digest{1}}}
	half    = &exam{release: release.Release{Ino: 2, Size: 10}, fault: "truncated ELF file"}
)

func TestDecide(t *testing.T) {
	const settle = 100 * ms
	at := func(n int, s observation) observation { s.at = time.Duration(n) * ms; return s }
	for _, c := range []struct {
		name string
		base baseline
		seen []observation
		want verdict
	}{
		{"nothing seen", judged, nil, verdict{}},
		{"what was there before", judged, []observation{{id: oldID}}, verdict{}},
		{"what runs, at the first look", baseline{shown: running, expected: running}, []observation{{id: oldID}}, verdict{}},
		{"new, nobody writes", judged, []observation{{id: newID, writer: release.WriterNone}}, verdict{kind: verdictExamine}},
		{"new, closed after writing", judged, []observation{{id: newID, finished: true}}, verdict{kind: verdictExamine}},
		{"new, nothing known of writers", judged, []observation{{id: newID}}, verdict{kind: verdictWait, until: 100 * ms}},
		{"new, quiet for long enough", judged, []observation{at(0, observation{id: newID}), at(100, observation{id: newID})}, verdict{kind: verdictExamine}},
		{"still growing", judged, []observation{at(0, observation{id: newID}), at(100, observation{id: grownID})}, verdict{kind: verdictWait, until: 200 * ms}},
		{"closed, then written again", judged, []observation{at(0, observation{id: newID, finished: true}), at(50, observation{id: grownID})}, verdict{kind: verdictWait, until: 150 * ms}},
		{"being written", judged, []observation{{id: newID, writer: release.WriterOpen}}, verdict{kind: verdictWait, until: 100 * ms}},
		{"closed by one, held by another", judged, []observation{{id: newID, writer: release.WriterOpen, finished: true}}, verdict{kind: verdictWait, until: 100 * ms}},
		{"examined, then opened for writing", judged, []observation{{id: newID, writer: release.WriterNone, exam: fine}, at(1, observation{id: newID, writer: release.WriterOpen})}, verdict{kind: verdictWait, until: 101 * ms}},
		{"a writer that pauses is asked less often", judged, []observation{{id: newID, writer: release.WriterOpen}, at(10000, observation{id: newID, writer: release.WriterOpen})}, verdict{kind: verdictWait, until: 15000 * ms}},
		{"a writer that pauses for long", judged, []observation{{id: newID, writer: release.WriterOpen}, at(60000, observation{id: newID, writer: release.WriterOpen})}, verdict{kind: verdictWait, until: 90000 * ms, reason: "is held open for writing; waiting until it is closed"}},
		{"examined and fine", judged, []observation{{id: newID, writer: release.WriterNone}, {id: newID, writer: release.WriterNone, exam: fine}}, verdict{kind: verdictAct}},
		{"examined, closed since", judged, []observation{{id: newID, exam: fine, writer: release.WriterNone}, {id: newID, finished: true}}, verdict{kind: verdictExamine}},
		{"examined, changed since", judged, []observation{{id: newID, exam: fine, writer: release.WriterNone}, {id: grownID, writer: release.WriterNone}}, verdict{kind: verdictExamine}},
		{"the same bytes", judged, []observation{{id: newID, writer: release.WriterNone, exam: copied}}, verdict{}},
		{"the same bytes, not to be started", judged, []observation{{id: newID, writer: release.WriterNone, exam: &exam{release: copied.release, fault: "not executable"}}}, verdict{}},
		{"what is being started already", baseline{shown: running, expected: newer, any: true, judged: oldID}, []observation{{id: newID, writer: release.WriterNone, exam: fine}}, verdict{}},
		{"what ran, while another is started", baseline{shown: newer, expected: newer, any: true, judged: newID}, []observation{{id: oldID, writer: release.WriterNone, exam: &exam{release: running}}}, verdict{kind: verdictAct}},
		{"incomplete, may go on", judged, []observation{{id: newID, writer: release.WriterNone, exam: half}}, verdict{kind: verdictWait, until: 100 * ms}},
		{"incomplete, looked at again", judged, []observation{{id: newID, writer: release.WriterNone, exam: half}, at(100, observation{id: newID, writer: release.WriterNone})}, verdict{kind: verdictExamine}},
		{"incomplete for good", judged, []observation{{id: newID, writer: release.WriterNone}, at(100, observation{id: newID, writer: release.WriterNone, exam: half})}, verdict{kind: verdictRefuse, reason: "truncated ELF file"}},
		{"refused before", baseline{shown: running, expected: running, any: true, judged: newID}, []observation{{id: newID, writer: release.WriterNone}}, verdict{}},
		{"gone", judged, []observation{{id: goneID}}, verdict{kind: verdictWait, until: 100 * ms}},
		{"gone for long", judged, []observation{{id: goneID}, at(100, observation{id: goneID})}, verdict{kind: verdictRefuse, reason: "was removed"}},
		{"gone and said", baseline{shown: running, expected: running, any: true, judged: goneID}, []observation{{id: goneID}}, verdict{}},
		{"never there", baseline{shown: running, expected: running}, []observation{{id: goneID}, at(100, observation{id: goneID})}, verdict{kind: verdictRefuse, reason: "was removed"}},
		{"no way there", judged, []observation{{id: lostID}, at(100, observation{id: lostID})}, verdict{kind: verdictRefuse, reason: lostID.fault}},
		{"written in the tick it was judged in", baseline{shown: running, expected: running, any: true, judged: oldID, fresh: true}, []observation{{id: oldID, finished: true, writer: release.WriterNone}}, verdict{kind: verdictExamine}},
		{"polled after the tick it was judged in", baseline{shown: running, expected: running, any: true, judged: oldID, fresh: true}, []observation{{id: oldID, coarse: true}, at(100, observation{id: oldID, coarse: true})}, verdict{kind: verdictExamine}},
		{"polled after the tick it was examined in", baseline{shown: newer, expected: newer, any: true, judged: newID, fresh: true}, []observation{{id: newID, coarse: true, fresh: true, finished: true, exam: fine}, at(100, observation{id: newID, coarse: true})}, verdict{kind: verdictExamine}},
		{"polled after the tick, and examined again", baseline{shown: newer, expected: newer, any: true, judged: newID, fresh: true}, []observation{{id: newID, coarse: true, fresh: true, exam: fine}, at(100, observation{id: newID, coarse: true}), at(101, observation{id: newID, coarse: true, exam: fine})}, verdict{}},
		{"polled within the tick it was judged in", baseline{shown: running, expected: running, any: true, judged: oldID, fresh: true}, []observation{{id: oldID, coarse: true, fresh: true}}, verdict{}},
		{"closed long after it was judged", judged, []observation{{id: oldID, finished: true, writer: release.WriterNone}}, verdict{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := decide(c.base, c.seen, settle); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// observations makes a list of observations of fuzzing bytes, four bits of time and
// the rest of what was seen each.
func observations(script []byte) []observation {
	ids := []identity{oldID, newID, grownID, goneID, lostID}
	exams := []*exam{nil, fine, copied, half}
	var list []observation
	at := time.Duration(0)
	for len(script) >= 2 {
		a, b := script[0], script[1]
		script = script[2:]
		at += time.Duration(a>>4) * 20 * ms
		s := observation{
			at: at, id: ids[int(a&15)%len(ids)], writer: release.Writer(b & 3 % 3),
			finished: b&4 != 0, fresh: b&8 != 0, coarse: b&16 != 0, exam: exams[b>>6],
		}
		if s.id.file == (release.Stamp{}) {
			s.exam, s.writer = nil, release.WriterUnknown
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
		var all, kept []observation
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
				if s.writer == release.WriterOpen || s.id.fault != "" || s.id.file == (release.Stamp{}) {
					t.Fatalf("started what %+v shows", s)
				}
				after := conclude(b, kept, v)
				if after.expected.Same(b.expected) || after.shown.Same(b.shown) {
					t.Fatalf("started what runs: %+v", after)
				}
				if again := decide(after, []observation{{at: s.at, id: s.id}}, settle); again.kind != verdictIgnore {
					t.Fatalf("started twice: %+v", again)
				}
			case verdictWait:
				if v.until <= s.at {
					t.Fatalf("waits until the past: %+v at %v", v, s.at)
				}
			case verdictRefuse:
				if v.reason == "" || s.writer == release.WriterOpen {
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
