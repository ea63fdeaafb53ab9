package machine

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// world bounds an exploration: how many generations there are at once (more of
// them are only more of the same), and of which releases.
type world struct {
	gens     int
	releases []string
	holds    bool // swaps are put on hold
	forks    bool // handoffs are lost between the fork of a process and its execution
}

// policies are the settings that the machine is explored with, each in a world.
func policies() map[string]Policy {
	base := Policy{
		Interval: time.Second, ReadyTimeout: time.Minute,
		DrainTimeout: time.Minute, StopTimeout: 9 * time.Second, Probation: 10 * time.Second,
		ReloadSignal: 1, RetireSignal: 15, StopSignals: map[int]int{15: 15, 2: 2}, Verbosity: 2,
	}
	with := func(f func(*Policy)) Policy { p := base; f(&p); return p }
	return map[string]Policy{
		"default":       base,
		"restart":       with(func(p *Policy) { p.OnExit = Restart; p.MaxOld = 1 }),
		"on failure":    with(func(p *Policy) { p.OnExit = RestartOnFailure; p.Probation = 0 }),
		"kill old late": with(func(p *Policy) { p.KillOldDelay = time.Second; p.AutoRestart = time.Hour }),
		"start_server":  with(func(p *Policy) { p.RetryFirst = true; p.OnExit = Restart; p.DrainTimeout, p.StopTimeout = 0, 0 }),
		"watchdog":      with(func(p *Policy) { p.Ready = ReadyNotify; p.Watchdog = time.Second }),
		"sockets":       with(func(p *Policy) { p.Ready = ReadyAuto }),
		"accept":        with(func(p *Policy) { p.Ready = ReadyAccept; p.ReadyTimeout = 0; p.OnExit = Restart }),
		"stall":         with(func(p *Policy) { p.Ready = ReadyOther; p.StallTimeout = time.Second; p.OnStall = true }),
		"once":          with(func(p *Policy) { p.Once, p.Retries = true, 2; p.MaxRuntime = time.Hour }),
		"max runtime":   with(func(p *Policy) { p.MaxRuntime = time.Hour; p.OnExit = Restart; p.RetryFirst, p.RetryLater = true, true }),
		"hold":          with(func(p *Policy) { p.Ready = ReadyOther; p.OnExit = Restart }),
		"through": with(func(p *Policy) {
			p.Ready = ReadyOther
			p.Through = true
			p.LeaveTimeout = time.Minute
			p.OnExit = Restart
		}),
		"instances": with(func(p *Policy) {
			p.Ready = ReadyOther
			p.InTurn = true
			p.OnExit = Restart
		}),
		"own writes": with(func(p *Policy) { p.Ready = ReadyOther; p.Probation = time.Hour }),
	}
}

// full explores also what takes minutes: it is for who changed a decision.
var full = flag.Bool("full", false, "explore each policy with two releases, which takes minutes")

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
		evs := []Event{{Kind: Boot}, {Kind: Boot, Release: w.releases[0]}, {Kind: Halt, Signal: 15}}
		for _, r := range w.releases {
			evs = append(evs, Event{Kind: Recalled, Release: r}, Event{Kind: Recalled, Release: r, Reason: "it failed"})
			if s.lastGood(r) != "" { // what it was rolled back to
				evs = append(evs, Event{Kind: Recalled, Release: r, Reason: "it was rolled back by hand", ByHand: true})
			}
		}
		return evs
	}
	evs := []Event{
		{Kind: Reload}, {Kind: Rollback}, {Kind: Halt, Signal: 15}, {Kind: Relay, Signal: 10},
		{Kind: Changed}, {Kind: Resumed}, {Kind: Ready, N: s.Next + 7}, {Kind: Noted},
	}
	if p.needsLeave() {
		evs = append(evs, Event{Kind: LeaveCome, N: s.LeaveN}, Event{Kind: LeaveEnded, N: s.LeaveN, Reason: "no"}, Event{Kind: LeaveLost, N: s.LeaveN},
			Event{Kind: LeaveEnded, N: s.LeaveN + 5})
	}
	if p.InTurn {
		evs = append(evs, Event{Kind: Withdrawn, Reason: "failed", Swap: true})
		for _, r := range w.releases {
			evs = append(evs, Event{Kind: Withdrawn, Release: r, Reason: "failed"}, Event{Kind: Withdrawn, Release: r, Reason: "failed", Swap: true})
		}
	}
	if w.holds {
		evs = append(evs, Event{Kind: Hold}, Event{Kind: Unhold})
	}
	if p.Probation == time.Hour {
		evs = append(evs, Event{Kind: Changed, Path: "/app/log"})
	}
	if p.Ready == ReadyAuto || p.Ready == ReadyAccept {
		evs = append(evs, Event{Kind: Traffic})
	}
	for _, g := range s.GoodReleases {
		evs = append(evs, Event{Kind: Rollback, Release: g.Release})
	}
	for _, r := range w.releases {
		evs = append(evs, Event{Kind: Changed, Release: r}, Event{Kind: Deployed, Release: r})
	}
	for _, t := range timersOf(s, p) {
		evs = append(evs, t.Event())
	}
	for _, g := range s.Gens {
		switch p.Ready {
		case ReadyAuto, ReadyAccept:
			evs = append(evs, Event{Kind: Waits, N: g.N}, Event{Kind: Accepted, N: g.N}, Event{Kind: Notified, N: g.N}, Event{Kind: Blind, N: g.N, Reason: "it is another user's"}, Event{Kind: BlindOver, N: g.N})
		case ReadyNotify, ReadyInterval:
			evs = append(evs, Event{Kind: Notified, N: g.N})
		default:
			evs = append(evs, Event{Kind: Ready, N: g.N})
		}
		if p.StallTimeout > 0 {
			evs = append(evs, Event{Kind: Stalled, N: g.N, Reason: "12 connections wait"}, Event{Kind: StallOver, N: g.N})
		}
		if p.Watchdog > 0 {
			evs = append(evs, Event{Kind: Triggered, N: g.N}) // whenever the app likes
		}
		switch g.Phase {
		case Preparing:
			releases := w.releases
			if g.Source == Held {
				releases = []string{g.Release}
			}
			for _, r := range releases {
				if w.forks {
					evs = append(evs, Event{Kind: Forked, N: g.N, Release: r, PID: 100})
				}
				evs = append(evs, Event{Kind: Started, N: g.N, Release: r}, Event{Kind: NotStarted, N: g.N, Release: r, Status: 126, Reason: "is bad"})
			}
			evs = append(evs, Event{Kind: NotStarted, N: g.N, Status: 127, Reason: "does not exist"}, Event{Kind: Retried, N: g.N})
			if g.PID != 0 {
				evs = append(evs, Event{Kind: Resumed, N: g.N})
			}
		case Candidate, Current, Retiring:
			evs = append(evs, Event{Kind: Exited, N: g.N, Status: 3, Reason: "ended"})
			if p.OnExit == RestartOnFailure || p.Once {
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
func normal(s State, p *Policy) State {
	s = s.Clone()
	// Whatever happens to what lingers, nothing follows.
	s.Gens = slices.DeleteFunc(s.Gens, func(g Gen) bool { return g.Phase == Lingering })
	if s.Next > 2 {
		s.Next = len(s.Gens) + 3
	}
	for i := range s.Gens {
		g := &s.Gens[i]
		g.N = s.Next - len(s.Gens) + i
		g.Beats, g.Extended, g.Start, g.Cause = 0, 0, 0, 0 // the cause is only said
		g.Traffic = min(g.Traffic, 1)
		if g.Phase != Preparing {
			g.PID = 0 // only of one that is prepared it says that it was forked
		}
		if g.Phase >= Current {
			g.Withdrawn = false
		}
		if g.Phase != Candidate {
			g.Waits, g.Accepted, g.Blind, g.Lived, g.Traffic = false, false, false, false, 0
		}
		if g.Phase >= Retiring {
			g.Overran = false
		}
		if g.Phase == Retiring && g.Terminated {
			// It will never serve again.
			g.Release, g.Source, g.Proven, g.Stalled, g.Notified = "", Newest, false, false, false
		}
		if p.Ready != ReadyAuto && g.Phase != Candidate {
			g.Notified = false
		}
	}
	for i := range s.GoodReleases {
		s.GoodReleases[i].N = 0
		if p.Ready != ReadyAuto {
			s.GoodReleases[i].Notified = false
		}
	}
	if p.Ready != ReadyAuto {
		s.SpeaksNotify = false
	}
	s.BlindSaid, s.StopReason = false, ""
	if !p.needsLeave() {
		s.Asked = 0 // it is only said
	}
	s.Fails = min(s.Fails, max(2, p.Retries))
	if s.LeaveN = 0; s.Leave != NoLeave {
		s.LeaveN = 1
	}
	s.Swaps = min(s.Swaps, mostSwaps)
	s.Status = min(s.Status, 1) // only whether it is 0 is looked at
	s.PendingSignals = nil
	s.Reason = ""
	for i := range s.Rejected {
		s.Rejected[i].Reason = ""
	}
	slices.SortFunc(s.Rejected, func(a, b Rejection) int { return cmp.Compare(a.Release, b.Release) })
	if s.Stop != 0 {
		// No other generation is started, so that no release is chosen.
		s.GoodReleases, s.Rejected, s.Fails, s.Newest, s.SpeaksNotify, s.OnHold = nil, nil, 0, "", false, false
		for i := range s.Gens {
			g := &s.Gens[i]
			*g = Gen{N: g.N, Phase: g.Phase, PID: g.PID, Terminated: g.Terminated, Killed: g.Killed, Hung: g.Hung, Overran: g.Overran}
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
	for i := range s.GoodReleases {
		name(&s.GoodReleases[i].Release)
	}
	name(&s.Newest)
	name(&s.Note)
	name(&s.Want)
	name(&s.BackTo)
	name(&s.DueTo)
	for i := range s.Rejected {
		name(&s.Rejected[i].Release)
	}
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
	text := func(s string) { b = append(append(b, s...), '|') }
	for _, g := range s.Gens {
		b = append(b, byte(g.N), byte(g.Phase), byte(g.Source), byte(g.Beats), byte(g.Traffic),
			flags(g.Terminated, g.Killed, g.Proven, g.Hung, g.Stalled, g.PID != 0, g.Overran, g.Withdrawn),
			flags(g.Waits, g.Accepted, g.Notified, g.Blind, g.Lived))
		text(g.Release)
	}
	b = append(b, byte(s.Next), byte(s.Stop), byte(s.Fails), byte(s.Status), byte(s.Swaps),
		flags(s.Again, s.Back, s.Served, s.RestartDue, s.Over, s.SpeaksNotify, s.Delayed, s.OnHold))
	b = append(b, flags(s.Noted, s.Due, s.LeaveLate), byte(s.DueBy), byte(s.Asked), byte(s.Leave), byte(s.LeaveN))
	text(s.Note)
	text(s.Want)
	text(s.BackTo)
	text(s.DueTo)
	text(s.Newest)
	for _, g := range s.GoodReleases {
		b = append(b, flags(g.Notified))
		text(g.Release)
	}
	b = append(b, '/')
	for _, r := range s.Rejected {
		b = append(b, flags(r.ByHand))
		text(r.Release)
	}
	for _, sig := range s.PendingSignals {
		b = append(b, byte(sig))
	}
	return string(b)
}

// A node is a state that can be reached, with the first way to it.
type node struct {
	state State
	from  int
	ev    Event
}

// explored is all that can be reached.
type explored struct {
	nodes []node
	edges int // steps, also those that lead to where they began
}

// story is the way to a state, a line for each event.
func (x *explored) story(at int) string {
	var lines []string
	for ; at != 0; at = x.nodes[at].from {
		lines = append(lines, fmt.Sprintf("%+v", x.nodes[at].ev))
	}
	slices.Reverse(lines)
	return strings.Join(lines, "\n")
}

// explore walks all states that can be reached, breadth first, and checks each step,
// that the end can be reached from each state, and that what has to end does.
func explore(t *testing.T, p *Policy, w world) *explored {
	x := &explored{nodes: []node{{state: State{Next: 1}}}}
	known := map[string]int{key(x.nodes[0].state): 0}
	var leads [][]int // to, from
	var ends []int
	lives := hopes(p)
	for at := 0; at < len(x.nodes); at++ {
		s := x.nodes[at].state
		leads = append(leads, nil)
		if s.Over {
			ends = append(ends, at)
			continue
		}
		timers := Timers(s, *p)
		for _, ev := range possible(s, p, w) {
			full, effects := Next(s, p, ev)
			if wrong := check(s, ev, full, effects, p); wrong != "" {
				t.Fatalf("%s\nin the state\n%+v\nby the event %+v\nwhich leads to\n%+v\nwith %+v\nafter\n%s", wrong, s, ev, full, effects, x.story(at))
			}
			x.edges++
			after := normal(full, p)
			to := -1 // more generations than there shall be
			if len(after.Gens) <= w.gens {
				k := key(after)
				n, ok := known[k]
				if !ok {
					n = len(x.nodes)
					known[k] = n
					x.nodes = append(x.nodes, node{after, at, ev})
				}
				to = n
			}
			for _, l := range lives {
				l.step(&move{at, to, &s, &full, timers, ev})
			}
			if to >= 0 && to != at {
				leads[at] = append(leads[at], to)
			}
		}
	}
	x.reachTheEnd(t, leads, ends)
	for _, l := range lives {
		if states := l.graph.Forever(); states != nil {
			slices.Sort(states)
			at := states[0]
			t.Fatalf("%s may never end: it can stay in %d states, of which this is one:\n%+v\nafter\n%s", l.name, len(states), x.nodes[at].state, x.story(at))
		}
	}
	return x
}

// reachTheEnd walks backwards from the ends: it has to come to every state.
func (x *explored) reachTheEnd(t *testing.T, leads [][]int, ends []int) {
	t.Helper()
	back := make([][]int, len(x.nodes))
	for from, list := range leads {
		for _, to := range list {
			back[to] = append(back[to], from)
		}
	}
	reach := make([]bool, len(x.nodes))
	for len(ends) > 0 {
		at := ends[len(ends)-1]
		ends = ends[:len(ends)-1]
		if !reach[at] {
			reach[at] = true
			ends = append(ends, back[at]...)
		}
	}
	for at := range x.nodes {
		if !reach[at] {
			t.Fatalf("no way leads from this state to the end:\n%+v\nafter\n%s", x.nodes[at].state, x.story(at))
		}
	}
}

func TestEveryReachableStateKeepsThePromises(t *testing.T) {
	for name, p := range policies() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world{holds: name == "hold", forks: name == "default"}
			walk := func(gens int, releases ...string) {
				w.gens, w.releases = gens, releases
				x := explore(t, &p, w)
				t.Logf("%d generations of %d releases: %d states, %d edges", gens, len(releases), len(x.nodes), x.edges)
			}
			if raced {
				walk(2, "a")
				return
			}
			if _, large := map[string]bool{"sockets": true, "accept": true, "watchdog": true, "own writes": true, "through": true, "instances": true, "hold": true}[name]; *full || !large {
				walk(2, "a", "b")
			}
			walk(3, "a")
		})
	}
}

// events is how many events the random stories of a policy have together.
// HOTINIT_TEST_EVENTS sets another number, of all policies.
func events(t *testing.T) int {
	t.Helper()
	if text := os.Getenv("HOTINIT_TEST_EVENTS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n / len(policies())
	}
	return 20_000
}

func TestLongRandomStoriesKeepThePromises(t *testing.T) {
	for name, p := range policies() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(1, 2))
			for left := events(t); left > 0; {
				s := State{Next: 1}
				var story []Event
				for range 200 {
					left--
					evs := possible(s, &p, world{releases: []string{"a", "b"}, holds: true, forks: true})
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
