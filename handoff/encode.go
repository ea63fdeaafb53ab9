package handoff

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/release"
)

// encode writes the record as JSON, as json.Marshal would but for fields that
// are zero, which are left out. It is read by encoding/json: a record is written
// at every step, first of all while a process waits to be executed, and read only
// after a handoff was lost. To learn the types by reflection would take a
// twentieth of a start.
func (r *record) encode() []byte {
	w := writer{make([]byte, 0, 1024)}
	w.open("", '{')
	w.state("State", &r.State)
	w.int("Forked", r.Forked)
	each(&w, "Releases", r.Releases, func(key string, rel release.Release) { w.release(key, &rel) })
	each(&w, "Since", r.Since, w.time)
	each(&w, "Groups", r.Groups, w.int)
	each(&w, "Texts", r.Texts, w.string)
	list(&w, "Past", len(r.Past), func(i int) {
		p := &r.Past[i]
		w.int("generation", p.N)
		w.time("ended", p.Ended)
		w.string("how", p.How)
		w.int("status", p.Status)
	})
	w.time("Stopped", r.Stopped)
	w.close('}')
	return w.b
}

func (w *writer) state(name string, s *machine.State) {
	w.open(name, '{')
	w.int("Next", s.Next)
	list(w, "Gens", len(s.Gens), func(i int) { w.gen(&s.Gens[i]) })
	w.bool("Again", s.Again)
	w.bool("Back", s.Back)
	w.string("Want", s.Want)
	w.int("Stop", s.Stop)
	w.bool("Served", s.Served)
	w.bool("Due", s.Due)
	w.int("Fails", s.Fails)
	w.int("Status", s.Status)
	if len(s.Held) > 0 {
		w.open("Held", '[')
		for _, n := range s.Held {
			w.comma()
			w.b = strconv.AppendInt(w.b, int64(n), 10)
		}
		w.close(']')
	}
	w.bool("Over", s.Over)
	list(w, "Good", len(s.Good), func(i int) {
		w.string("Release", s.Good[i].Release)
		w.int("N", s.Good[i].N)
	})
	w.string("Rejected", s.Rejected)
	w.string("Reason", s.Reason)
	w.close('}')
}

func (w *writer) gen(g *machine.Gen) {
	w.int("N", g.N)
	w.int("Phase", int(g.Phase))
	w.int("Source", int(g.Source))
	w.string("Release", g.Release)
	w.bool("Told", g.Told)
	w.bool("Killed", g.Killed)
	w.bool("Proven", g.Proven)
	w.bool("Hung", g.Hung)
	w.int("Extended", int(g.Extended))
	w.int("Beats", g.Beats)
	w.int("PID", g.PID)
	w.uint("Start", g.Start)
}

func (w *writer) release(name string, r *release.Release) {
	w.open(name, '{')
	w.string("Path", r.Path)
	w.string("Real", r.Real)
	w.uint("Dev", r.Dev)
	w.uint("Ino", r.Ino)
	w.int("Size", int(r.Size))
	w.int("MTime", int(r.MTime))
	w.int("CTime", int(r.CTime))
	w.uint("Mode", uint64(r.Mode))
	w.int("Kind", int(r.Kind))
	if r.Digest.Known() {
		w.string("Digest", r.Digest.String())
	}
	w.close('}')
}

// writer appends JSON. Each value has a name, but for the outermost.
type writer struct{ b []byte }

func (w *writer) comma() {
	if n := len(w.b); n > 0 && w.b[n-1] != '{' && w.b[n-1] != '[' && w.b[n-1] != ':' {
		w.b = append(w.b, ',')
	}
}

func (w *writer) name(s string) {
	w.comma()
	w.quote(s)
	w.b = append(w.b, ':')
}

func (w *writer) open(name string, bracket byte) {
	if name != "" {
		w.name(name)
	} else {
		w.comma()
	}
	w.b = append(w.b, bracket)
}

func (w *writer) close(bracket byte) { w.b = append(w.b, bracket) }

func (w *writer) quote(s string) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			b, _ := json.Marshal(s) // of a string it does not fail
			w.b = append(w.b, b...)
			return
		}
	}
	w.b = append(append(append(w.b, '"'), s...), '"')
}

func (w *writer) string(name, s string) {
	if s != "" {
		w.name(name)
		w.quote(s)
	}
}

func (w *writer) bool(name string, v bool) {
	if v {
		w.name(name)
		w.b = append(w.b, "true"...)
	}
}

func (w *writer) int(name string, v int) {
	if v != 0 {
		w.name(name)
		w.b = strconv.AppendInt(w.b, int64(v), 10)
	}
}

func (w *writer) uint(name string, v uint64) {
	if v != 0 {
		w.name(name)
		w.b = strconv.AppendUint(w.b, v, 10)
	}
}

func (w *writer) time(name string, t time.Time) {
	if !t.IsZero() {
		w.name(name)
		w.b = append(t.AppendFormat(append(w.b, '"'), time.RFC3339Nano), '"')
	}
}

// list writes objects; one writes the fields of each.
func list(w *writer, name string, n int, one func(i int)) {
	if n == 0 {
		return
	}
	w.open(name, '[')
	for i := range n {
		w.open("", '{')
		one(i)
		w.close('}')
	}
	w.close(']')
}

// each writes a map in the order of its keys, so that equal ones are written
// equally.
func each[K cmp.Ordered, V any](w *writer, name string, m map[K]V, one func(name string, v V)) {
	if len(m) == 0 {
		return
	}
	w.open(name, '{')
	for _, k := range slices.Sorted(maps.Keys(m)) {
		one(keyName(k), m[k])
	}
	w.close('}')
}

func keyName(k any) string {
	if n, ok := k.(int); ok {
		return strconv.Itoa(n)
	}
	return k.(string)
}
