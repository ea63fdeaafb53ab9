package order

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// clone returns a copy that shares nothing with s.
func (s *State) clone() *State {
	c := *s
	c.programs = make(map[string]*Program, len(s.programs))
	for name, p := range s.programs {
		q := *p
		c.programs[name] = &q
	}
	c.before = make(map[string][]string, len(s.before))
	for name, list := range s.before {
		c.before[name] = slices.Clone(list)
	}
	c.names, c.queue = slices.Clone(s.names), slices.Clone(s.queue)
	return &c
}

// key names a state. What is only said is left out of it.
func key(s *State) string {
	b := make([]byte, 0, 96)
	flags := func(bits ...bool) {
		var v byte
		for i, bit := range bits {
			if bit {
				v |= 1 << i
			}
		}
		b = append(b, v)
	}
	for _, name := range s.names {
		p := s.programs[name]
		b = append(append(b, name...), byte(p.Phase), byte(p.Result), byte(min(p.Status, 1)))
		flags(p.Held, p.Done, p.Again, p.Gone, p.Unwant, p.Told, p.Slot, p.queued)
		flags(p.Once, p.Essential, p.Scheduled, p.Timed)
		b = append(b, strings.Join(p.After, ",")...)
	}
	b = append(append(b, '/'), strings.Join(s.queue, ",")...)
	b = append(b, byte(s.Starts), byte(min(s.Status, 1)))
	flags(s.Pacing, s.Halting, s.Hurried, s.Decided, s.Over)
	return string(b)
}

// world is what an exploration does.
type world struct {
	policy Policy
	specs  []Spec
	hand   bool // somebody stops and starts programs, and changes their files
}

// possible returns every event that can come in a state, and some that come too
// late for it.
func possible(s *State, w *world) []Event {
	evs := []Event{{Kind: Halt, Reason: "SIGTERM"}}
	if s.Halting {
		evs = append(evs, Event{Kind: Hurry})
	}
	if s.Pacing {
		evs = append(evs, Event{Kind: Spaced})
	}
	for _, spec := range w.specs {
		p := s.programs[spec.Name]
		ev := func(kind EventKind) { evs = append(evs, Event{Kind: kind, Name: spec.Name}) }
		if p != nil && p.active() {
			ev(Began)
			ev(Ready)
			ev(Faltered)
			evs = append(evs, Event{Kind: Ended, Name: spec.Name, Status: 1, Reason: "exited with 1"})
			if p.Once || p.Essential {
				evs = append(evs, Event{Kind: Ended, Name: spec.Name, Reason: "exited with 0"})
			}
		}
		if spec.Scheduled {
			ev(Tick)
		}
		if w.hand {
			ev(Hold)
			ev(Release)
			evs = append(evs, Event{Kind: Files, Set: []Spec{spec}})
			if p != nil {
				evs = append(evs, Event{Kind: Files, Gone: []string{spec.Name}})
			}
		}
	}
	if w.hand && len(w.specs) > 1 {
		other := w.specs[0]
		other.After = []string{"nobody"}
		evs = append(evs, Event{Kind: Files, Set: []Spec{other}, Gone: []string{w.specs[1].Name}})
		other.After, other.Once = nil, !other.Once
		evs = append(evs, Event{Kind: Files, Set: []Spec{other}})
	}
	return evs
}

// check says what is wrong with a step, "" if nothing is.
func check(before *State, ev Event, s *State, effects []Effect) string {
	slots, running := 0, 0
	for _, name := range s.names {
		p := s.programs[name]
		if p.Slot {
			slots++
		}
		if p.active() {
			running++
		}
		if p.Held && p.active() && !p.Unwant {
			return name + " runs, and was stopped by hand"
		}
		if p.Gone && !p.active() && !s.Halting {
			return name + " has no file and does not run, and is not forgotten"
		}
		if s.mayStart(p) && !slices.Contains(s.queue, name) {
			return name + " could start, and nothing will start it"
		}
		if p.Unwant && p.active() && p.Phase != Stopping && !slices.ContainsFunc(s.before[name], func(after string) bool {
			q := s.programs[after]
			return q != p && q.Unwant && q.active() && !s.inOneCircle(p, q)
		}) {
			return name + " has to stop, and waits for nobody"
		}
	}
	if slots != s.Starts || running != s.running {
		return "it has miscounted"
	}
	if s.MaxStarts > 0 && s.Starts > s.MaxStarts && before.Starts <= s.MaxStarts {
		return "too many start at once"
	}
	if len(s.queue) > 0 && !s.Halting && !s.Pacing && (s.MaxStarts == 0 || s.Starts < s.MaxStarts) {
		return "somebody may start, and does not"
	}
	starts := 0
	for _, e := range effects {
		p := s.programs[e.Name]
		was := before.programs[e.Name]
		switch e.Kind {
		case Start:
			starts++
			if s.Halting {
				return e.Name + " is started while everything stops"
			}
			if was != nil && was.active() && ev.Kind != Ended {
				return e.Name + " is started, and runs"
			}
			for _, on := range p.After {
				if q := s.programs[on]; q == nil || !q.IsReady() {
					return fmt.Sprintf("%s is started before %s", e.Name, on)
				}
			}
		case Stop:
			if was == nil || !was.active() || was.Phase == Stopping {
				return e.Name + " is stopped, and does not run"
			}
			for _, after := range s.before[e.Name] {
				q := s.programs[after]
				if !s.Hurried && q.Unwant && q.active() && !s.inOneCircle(p, q) {
					return fmt.Sprintf("%s is stopped before %s", e.Name, after)
				}
			}
		case Swap:
			if p.Once || !p.active() {
				return e.Name + " is swapped"
			}
		case Drop:
			if p != nil {
				return e.Name + " is dropped, and known"
			}
		case Finish:
			if running > 0 || before.Over {
				return "it is finished too early, or twice"
			}
		}
	}
	if starts > 1 && s.Spacing {
		return "two are started without a space"
	}
	if s.Over && !before.Over && effects[len(effects)-1].Kind != Finish || before.Over && len(effects) > 0 {
		return "it does not end with its end"
	}
	if p := before.programs[ev.Name]; ev.Kind == Ended && p.active() && p.Essential && !p.Unwant && !(p.Once && ev.Status == 0) && !s.Decided {
		return "an essential program ended, and the rest goes on"
	}
	return ""
}

// first returns the state after all files were read.
func (w *world) first() *State {
	s := New(w.policy)
	s.Next(Event{Kind: Files, Set: w.specs})
	return s
}

// explored counts what was walked.
type explored struct{ states, edges int }

func (x *explored) add(y explored) { x.states += y.states; x.edges += y.edges }

// explore walks all states that can be reached, breadth first, and checks each step,
// that the end can be reached from each state, and that what has to end does.
func explore(t *testing.T, w *world) explored {
	t.Helper()
	type node struct {
		state *State
		from  int
		ev    Event
	}
	nodes := []node{{state: w.first()}}
	known := map[string]int{key(nodes[0].state): 0}
	var back [][]int // from where each is reached
	var ends []int
	edges, lives := 0, hopes(w)
	story := func(at int) string {
		var lines []string
		for ; at != 0; at = nodes[at].from {
			lines = append(lines, fmt.Sprintf("%v %+v", nodes[at].ev.Kind, nodes[at].ev))
		}
		slices.Reverse(lines)
		return strings.Join(lines, "\n")
	}
	back = append(back, nil)
	for at := 0; at < len(nodes); at++ {
		before := nodes[at].state
		if before.Over {
			ends = append(ends, at)
			continue
		}
		for _, ev := range possible(before, w) {
			s := before.clone()
			effects := s.Next(ev)
			if wrong := check(before, ev, s, effects); wrong != "" {
				t.Fatalf("%s\nspecs %+v\nby %v %+v: %+v\nafter\n%s", wrong, w.specs, ev.Kind, ev, effects, story(at))
			}
			edges++
			k := key(s)
			to, ok := known[k]
			if !ok {
				to = len(nodes)
				known[k] = to
				nodes, back = append(nodes, node{s, at, ev}), append(back, nil)
				if len(nodes) > 200000 {
					t.Fatalf("more states than there can be\nspecs %+v\nafter\n%s", w.specs, story(to))
				}
			}
			back[to] = append(back[to], at)
			for _, h := range lives {
				h.step(at, to, before, ev, s)
			}
		}
	}
	reach := make([]bool, len(nodes))
	for len(ends) > 0 {
		at := ends[len(ends)-1]
		ends = ends[:len(ends)-1]
		if !reach[at] {
			reach[at] = true
			ends = append(ends, back[at]...)
		}
	}
	if at := slices.Index(reach, false); at >= 0 {
		t.Fatalf("no way leads from a state to the end\nspecs %+v\nafter\n%s", w.specs, story(at))
	}
	for _, h := range lives {
		if states := h.graph.Forever(); states != nil {
			slices.Sort(states)
			t.Fatalf("%s may never end: it can stay in %d states\nspecs %+v\nafter\n%s", h.name, len(states), w.specs, story(states[0]))
		}
	}
	return explored{len(nodes), edges}
}

// graphs returns every way in which n programs can come after each other, or after
// themselves where loops says so.
func graphs(n int, loops bool) [][]Spec {
	var edges [][2]int
	for i := range n {
		for j := range n {
			if i != j || loops {
				edges = append(edges, [2]int{i, j})
			}
		}
	}
	var all [][]Spec
	for bits := range 1 << len(edges) {
		specs := make([]Spec, n)
		for i := range specs {
			specs[i].Name = string(rune('a' + i))
		}
		for k, e := range edges {
			if bits&(1<<k) != 0 {
				specs[e[0]].After = append(specs[e[0]].After, specs[e[1]].Name)
			}
		}
		all = append(all, specs)
	}
	return all
}

func TestEveryGraphOfThreeIsStartedAndStoppedInOrder(t *testing.T) {
	var all explored
	for i, specs := range graphs(3, false) {
		specs[0].Once = i%2 == 0
		specs[1].Timed = true
		specs[2].Essential = i%3 == 0
		all.add(explore(t, &world{policy: Policy{MaxStarts: 1 + i%2, Spacing: i%4 == 0}, specs: specs}))
	}
	t.Logf("%d states, %d edges", all.states, all.edges)
}

// full explores also what takes minutes: it is for who changed a decision.
var (
	update = flag.Bool("update", false, "rewrite the traces in testdata")
	full   = flag.Bool("full", false, "explore each graph with each kind of program, which takes a minute")
)

func TestEveryGraphOfTwoIsChangedAndHeldInOrder(t *testing.T) {
	var all explored
	for k, kinds := range [][2]Spec{{}, {{Once: true}, {}}, {{Once: true, Scheduled: true}, {Once: true}}, {{Essential: true}, {Once: true, Essential: true}}} {
		for i, specs := range graphs(2, true) {
			if i%4 != k && !*full {
				continue
			}
			for j := range specs {
				kinds[j].Name, kinds[j].After = specs[j].Name, specs[j].After
				specs[j] = kinds[j]
			}
			all.add(explore(t, &world{policy: Policy{MaxStarts: 1 + i%2}, specs: specs, hand: true}))
		}
	}
	t.Logf("%d states, %d edges", all.states, all.edges)
}

// events is how many events the random stories have together. HOTINIT_TEST_EVENTS
// sets another number.
func events(t *testing.T) int {
	t.Helper()
	n := 30_000
	if text := os.Getenv("HOTINIT_TEST_EVENTS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func TestLongRandomStoriesOfFiveKeepThePromises(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for left := events(t); left > 0; {
		w := world{policy: Policy{MaxStarts: random.IntN(3), Spacing: random.IntN(2) == 0}, hand: true}
		for i := range 5 {
			spec := Spec{Name: string(rune('a' + i)), Once: random.IntN(3) == 0, Essential: random.IntN(6) == 0, Timed: random.IntN(2) == 0}
			spec.Scheduled = spec.Once && random.IntN(2) == 0
			for j := range 5 {
				if random.IntN(4) == 0 {
					spec.After = append(spec.After, string(rune('a'+j)))
				}
			}
			w.specs = append(w.specs, spec)
		}
		s := w.first()
		var story []Event
		for range 150 {
			left--
			evs := possible(s, &w)
			ev := evs[random.IntN(len(evs))]
			if ev.Kind == Halt && random.IntN(20) > 0 {
				continue
			}
			before := s.clone()
			story = append(story, ev)
			if wrong := check(before, ev, s, s.Next(ev)); wrong != "" {
				t.Fatalf("%s\nspecs %+v\nafter %+v", wrong, w.specs, story)
			}
		}
	}
}

// c, which came before a, comes after d now: all three come after each other, so that
// there is no order left to stop them in.
func TestAFileThatMakesACircleStopsWhoWaitedForIt(t *testing.T) {
	s := New(Policy{})
	s.Next(Event{Kind: Files, Set: []Spec{{Name: "c", Once: true}, {Name: "a", After: []string{"c"}}, {Name: "d", After: []string{"a"}}}})
	var effects []Effect
	for _, ev := range []Event{
		{Kind: Began, Name: "c"}, {Kind: Ended, Name: "c"}, {Kind: Ready, Name: "a"}, {Kind: Ready, Name: "d"},
		{Kind: Hold, Name: "d"}, {Kind: Hold, Name: "a"},
	} {
		effects = s.Next(ev)
	}
	if s.Find("a").Phase == Stopping {
		t.Fatalf("a does not wait for d, which comes after it: %+v", effects)
	}
	effects = s.Next(Event{Kind: Files, Set: []Spec{{Name: "c", Once: true, After: []string{"d"}}}})
	if s.Find("a").Phase != Stopping {
		t.Errorf("a waits on: %+v", effects)
	}
}
