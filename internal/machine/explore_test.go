package machine

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// world bounds an exploration: how many generations there are at once (more of
// them are only more of the same), and of which releases.
type world struct {
	gens     int
	releases []string
}

// policies are the settings that the machine is explored with.
func policies() map[string]Policy {
	base := Policy{
		ByInterval: true, Interval: time.Second, ReadyTimeout: time.Minute,
		DrainTimeout: time.Minute, StopTimeout: 9 * time.Second, Probation: 10 * time.Second,
		ReloadSignal: 1, RetireSignal: 15, StopSignals: map[int]int{15: 15, 2: 2},
	}
	with := func(f func(*Policy)) Policy { p := base; f(&p); return p }
	return map[string]Policy{
		"default":       base,
		"restart":       with(func(p *Policy) { p.OnExit = Restart; p.MaxOld = 1 }),
		"on failure":    with(func(p *Policy) { p.OnExit = RestartOnFailure; p.Probation = 0 }),
		"kill old late": with(func(p *Policy) { p.KillOldDelay = time.Second; p.AutoRestart = time.Hour }),
		"start_server":  with(func(p *Policy) { p.RetryFirst = true; p.OnExit = Restart; p.DrainTimeout, p.StopTimeout = 0, 0 }),
		"watchdog":      with(func(p *Policy) { p.ByInterval = false; p.Watchdog = time.Second }),
	}
}

// timersOf returns the timers that run in a state, in the same order each time,
// so that a random story can be told again.
func timersOf(s State, p *Policy) []Timer {
	return slices.SortedFunc(maps.Keys(Timers(s, *p)), func(a, b Timer) int {
		return cmp.Or(cmp.Compare(a.N, b.N), cmp.Compare(a.Kind, b.Kind))
	})
}

// possible returns every event that can come in a state, and some that come
// too late for it.
func possible(s State, p *Policy, w world) []Event {
	if s.Next == 1 {
		return []Event{{Kind: Boot}}
	}
	evs := []Event{
		{Kind: Reload}, {Kind: Rollback}, {Kind: Halt, Signal: 15}, {Kind: Relay, Signal: 10},
		{Kind: Changed}, {Kind: Resumed}, {Kind: Ready, N: s.Next + 7}, {Kind: Nothing},
	}
	for _, r := range w.releases {
		evs = append(evs, Event{Kind: Changed, Release: r})
	}
	for _, t := range timersOf(s, p) {
		evs = append(evs, t.Event())
	}
	for _, g := range s.Gens {
		evs = append(evs, Event{Kind: Ready, N: g.N})
		if p.Watchdog > 0 {
			// WATCHDOG=trigger, whenever the app likes.
			evs = append(evs, Event{Kind: Expired, N: g.N, Timer: WatchdogTimer})
		}
		switch g.Phase {
		case Preparing:
			releases := w.releases
			if g.Source == Held {
				releases = []string{g.Release}
			}
			for _, r := range releases {
				evs = append(evs, Event{Kind: Started, N: g.N, Release: r}, Event{Kind: NotStarted, N: g.N, Release: r, Status: 126, Reason: "is bad"})
			}
			evs = append(evs, Event{Kind: NotStarted, N: g.N, Status: 127, Reason: "does not exist"})
		case Candidate, Current, Retiring:
			evs = append(evs, Event{Kind: Exited, N: g.N, Status: 3, Reason: "ended"})
			if p.OnExit == RestartOnFailure {
				evs = append(evs, Event{Kind: Exited, N: g.N, Status: 0, Reason: "ended"})
			}
		case Lingering:
			evs = append(evs, Event{Kind: Empty, N: g.N})
		}
	}
	return evs
}

// normal gives states that differ only in how far they have counted, or in what
// nothing is decided by any more, the same form, so that there are finitely
// many, and not too many of them. Each line says why what it takes out does
// not matter; a wrong one would hide what follows from the difference.
func normal(s State) State {
	s = s.Clone()
	// Whatever happens to what lingers, nothing follows.
	s.Gens = slices.DeleteFunc(s.Gens, func(g Gen) bool { return g.Phase == Lingering })
	if s.Next > 2 {
		s.Next = len(s.Gens) + 3
	}
	for i := range s.Gens {
		g := &s.Gens[i]
		g.N = s.Next - len(s.Gens) + i
		g.Beats, g.Extended = 0, 0
		if g.Phase >= Current {
			g.Source = Newest // asked for when it becomes current, and not again
		}
		if g.Phase == Retiring && g.Told {
			g.Release, g.Proven = "", false // it will never serve again
		}
	}
	for i := range s.Good {
		s.Good[i].N = 0
	}
	s.Fails = min(s.Fails, 2)
	s.Status = min(s.Status, 1) // only whether it is 0 is looked at
	s.Held = nil
	s.Reason = ""
	if s.Stop != 0 {
		// No other generation is started, so that no release is chosen.
		s.Good, s.Rejected, s.Fails = nil, "", 0
		for i := range s.Gens {
			s.Gens[i].Release, s.Gens[i].Proven, s.Gens[i].Source = "", false, Newest
		}
	}
	// Releases are only compared: which of them is called a is of no account.
	names := map[string]string{"": ""}
	name := func(release *string) {
		if _, ok := names[*release]; !ok {
			names[*release] = string(rune('a' + len(names) - 1))
		}
		*release = names[*release]
	}
	for i := range s.Gens {
		name(&s.Gens[i].Release)
	}
	for i := range s.Good {
		name(&s.Good[i].Release)
	}
	name(&s.Rejected)
	name(&s.Want)
	return s
}

// key names a state. It is what fmt would print, made with less work.
func key(s State) string {
	flags := func(bits ...bool) (b byte) {
		for i, bit := range bits {
			if bit {
				b |= 1 << i
			}
		}
		return b
	}
	b := make([]byte, 0, 64)
	for _, g := range s.Gens {
		b = append(b, byte(g.N), byte(g.Phase), byte(g.Source), flags(g.Told, g.Killed, g.Proven, g.Hung), byte(g.Beats))
		b = append(append(b, g.Release...), '|')
	}
	b = append(b, byte(s.Next), byte(s.Stop), byte(s.Fails), byte(s.Status), flags(s.Again, s.Back, s.Served, s.Due, s.Over))
	b = append(append(b, s.Want...), '|')
	for _, g := range s.Good {
		b = append(append(b, g.Release...), '|')
	}
	for _, sig := range s.Held {
		b = append(b, byte(sig))
	}
	return string(append(b, s.Rejected...))
}

// check tells what is wrong with a step, "" if nothing is.
func check(before State, ev Event, after State, effects []Effect, p *Policy) string {
	var current, starting int
	seen := 0
	for _, g := range after.Gens {
		if g.N <= seen || g.N >= after.Next {
			return "the generations are not in order"
		}
		seen = g.N
		switch g.Phase {
		case Current:
			current++
		case Preparing, Candidate:
			starting++
		}
	}
	if current > 1 {
		return "two generations are current"
	}
	if starting > 1 {
		return "two generations start at once"
	}
	if before.Over && (len(effects) > 0 || key(before) != key(after)) {
		return "something happens after the verdict"
	}
	exits := 0
	for _, e := range effects {
		if e.Kind == Exit {
			exits++
		}
		if e.Kind == Tell || e.Kind == Kill {
			g := before.Find(e.N)
			if g == nil || g.Phase == Preparing && ev.Kind != Started {
				return fmt.Sprintf("%v to generation %d, which has no process", e.Kind, e.N)
			}
			if e.Kind == Tell && g.Phase == Lingering {
				return fmt.Sprintf("generation %d is told something, and its main process has ended", e.N)
			}
		}
	}
	if exits > 1 || (exits == 1) != (after.Over && !before.Over) {
		return "the verdict is not given exactly once"
	}
	if after.Over {
		return ""
	}
	// The promise: who serves is only told to go once a newer one is ready.
	if was := before.In(Current); was != nil && !was.Hung && before.Stop == 0 && after.Stop == 0 {
		now := after.Find(was.N)
		died := ev.Kind == Exited && ev.N == was.N
		hung := ev.Kind == Expired && ev.N == was.N && (ev.Timer == WatchdogTimer || ev.Timer == DrainTimer)
		if !died && !hung && (now == nil || now.Phase != Current || now.Told || now.Killed) {
			next := after.In(Current)
			if next == nil || next.N <= was.N || next.Told || next.Killed {
				return fmt.Sprintf("generation %d served and goes, and none has taken over", was.N)
			}
		}
	}
	if after.Again && (after.Stop != 0 || after.starting() == nil) {
		return "what is to follow the start under way follows nothing"
	}
	if after.Due && after.Situation() != Down {
		return "a restart is due, and it is not down"
	}
	if after.Situation() == Down && !after.Due {
		return "nothing runs, and nothing will be started"
	}
	if (ev.Kind == Reload || ev.Kind == Changed && ev.Release == "") && before.Stop == 0 && after.Next == before.Next && !after.Again {
		return "what was asked for is forgotten"
	}
	if ev.Kind == Changed && ev.Release != "" && ev.Release == before.Rejected && before.Situation() == Serving && after.Next != before.Next {
		return "a rejected release is started again"
	}
	for t := range Timers(after, *p) {
		if t.Kind != StopTimer && t.Kind != RestartTimer && after.Find(t.N) == nil {
			return fmt.Sprintf("timer %v is for a generation that is gone", t)
		}
	}
	return ""
}

// explore walks all states that can be reached, breadth first.
func explore(t *testing.T, p *Policy, w world) (count int) {
	type node struct {
		state State
		from  string
		ev    Event
	}
	start := State{Next: 1}
	nodes := map[string]node{key(start): {state: start}}
	leads := make(map[string][]string) // to, from
	queue := []string{key(start)}
	var ends []string
	story := func(at string) string {
		var lines []string
		for at != key(start) {
			n := nodes[at]
			lines = append([]string{fmt.Sprintf("%+v", n.ev)}, lines...)
			at = n.from
		}
		return strings.Join(lines, "\n")
	}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		s := nodes[at].state
		for _, ev := range possible(s, p, w) {
			after, effects := Next(s, p, ev)
			if wrong := check(s, ev, after, effects, p); wrong != "" {
				t.Fatalf("%s\nin the state\n%+v\nby the event %+v\nwhich leads to\n%+v\nwith %+v\nafter\n%s", wrong, s, ev, after, effects, story(at))
			}
			if after = normal(after); len(after.Gens) > w.gens {
				continue
			}
			k := key(after)
			leads[k] = append(leads[k], at)
			if _, ok := nodes[k]; ok {
				continue
			}
			nodes[k] = node{after, at, ev}
			if after.Over {
				ends = append(ends, k)
			} else {
				queue = append(queue, k)
			}
		}
	}
	// Every state can reach the end: walk backwards from there.
	reach := make(map[string]bool)
	for len(ends) > 0 {
		at := ends[len(ends)-1]
		ends = ends[:len(ends)-1]
		if reach[at] {
			continue
		}
		reach[at] = true
		ends = append(ends, leads[at]...)
	}
	for k, n := range nodes {
		if !reach[k] {
			t.Fatalf("no way leads from this state to the end:\n%+v\nafter\n%s", n.state, story(k))
		}
	}
	return len(nodes)
}

func TestEveryReachableStateKeepsThePromises(t *testing.T) {
	for name, p := range policies() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Logf("two generations of two releases: %d states", explore(t, &p, world{2, []string{"a", "b"}}))
			t.Logf("three generations of one release: %d states", explore(t, &p, world{3, []string{"a"}}))
		})
	}
}

func TestLongRandomStoriesKeepThePromises(t *testing.T) {
	for name, p := range policies() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(1, 2))
			for range 100 {
				s := State{Next: 1}
				var story []Event
				for range 200 {
					evs := possible(s, &p, world{releases: []string{"a", "b"}})
					ev := evs[random.IntN(len(evs))]
					if ev.Kind == Halt && random.IntN(20) > 0 {
						continue // or all stories would be short
					}
					after, effects := Next(s, &p, ev)
					story = append(story, ev)
					if wrong := check(s, ev, after, effects, &p); wrong != "" {
						t.Fatalf("%s\nafter\n%+v", wrong, story)
					}
					s = after
				}
			}
		})
	}
}
