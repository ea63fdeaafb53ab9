package roll

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/machine"
)

// full explores also what takes minutes: it is for who changed a decision.
var full = flag.Bool("full", false, "explore three instances, which takes minutes")

// fleet are the instances of one program, each with the machine that hotinit runs.
type fleet struct {
	all    []*machine.State
	policy *machine.Policy
	swaps  int // generations that were started in a turn
}

func policy() *machine.Policy {
	return &machine.Policy{Ready: machine.ReadyOther, InTurn: true, OnExit: machine.Restart, RetireSignal: 15, Probation: 1, StopSignals: map[int]int{15: 15}}
}

// newFleet has n instances, which run release a, and have for long.
func newFleet(t *testing.T, n int) *fleet {
	f := &fleet{policy: policy()}
	for range n {
		f.all = append(f.all, &machine.State{Next: 1})
	}
	for i := range n {
		for _, ev := range []machine.Event{{Kind: machine.Boot}, {Kind: machine.Started, N: 1, Release: "a"}, {Kind: machine.Ready, N: 1}, {Kind: machine.ProbationOver, N: 1}} {
			if wrong := f.tell(i, ev); wrong != "" {
				t.Fatal(wrong)
			}
		}
	}
	return f
}

func (f *fleet) clone() *fleet {
	c := &fleet{policy: f.policy, swaps: f.swaps}
	for _, s := range f.all {
		own := s.Clone()
		c.all = append(c.all, &own)
	}
	return c
}

// tell tells an instance an event, and does what follows. It returns what is wrong.
func (f *fleet) tell(i int, ev machine.Event) string {
	if wrong := f.act(i, ev); wrong != "" {
		return wrong
	}
	for range 1000 {
		step, ok := Next(f.all)
		if !ok {
			f.policy = policy()
			f.policy.Rolling = Rolling(f.all)
			return ""
		}
		if wrong := f.act(step.N, step.Event); wrong != "" {
			return wrong
		}
	}
	return "it does not come to rest"
}

func (f *fleet) act(i int, ev machine.Event) string {
	before := f.all[i].Clone()
	next, effects := machine.Next(before, f.policy, ev)
	*f.all[i] = next
	for _, e := range effects {
		switch e.Kind {
		case machine.Withdraw:
			for j := range f.all {
				if j != i {
					if wrong := f.act(j, Withdrawn(e, fmt.Sprintf("instance %d", i))); wrong != "" {
						return wrong
					}
				}
			}
		case machine.Prepare:
			if before.Current() == nil || next.Current() == nil {
				continue // it has died: nobody is left to be replaced
			}
			f.swaps++
			for j, s := range f.all {
				if j != i && starts(s) && s.Current() != nil {
					return fmt.Sprintf("instances %d and %d are replaced at a time", j, i)
				}
			}
		}
	}
	return ""
}

// normal makes states that differ only in how far they have counted the same.
func (f *fleet) normal() {
	for _, s := range f.all {
		kept := s.Gens[:0]
		for _, g := range s.Gens {
			if g.Phase < machine.Retiring {
				kept = append(kept, g)
			}
		}
		s.Gens = kept
		by := map[int]int{}
		for i := range s.Gens {
			g := &s.Gens[i]
			by[g.N] = 10 - len(s.Gens) + i
			g.N = by[g.N]
		}
		s.Next, s.Fails, s.Status, s.Reason = 10, min(s.Fails, 1), 0, ""
		if s.LeaveN = 0; s.Leave != machine.NoLeave {
			s.LeaveN = 1
		}
		for i := range s.GoodReleases {
			s.GoodReleases[i].N = 0
		}
		for i := range s.Rejected {
			s.Rejected[i].Reason = ""
		}
	}
}

func (f *fleet) key() string {
	var b strings.Builder
	for _, s := range f.all {
		fmt.Fprintf(&b, "%+v\n", *s)
	}
	return b.String()
}

// moment is an event for one instance.
type moment struct {
	i  int
	ev machine.Event
}

// possible is all that can happen to the processes of the instances: those of release b
// may fail, those of a fail where deaths says so.
func (f *fleet) possible(deaths bool) (all []moment) {
	for i, s := range f.all {
		add := func(ev machine.Event) { all = append(all, moment{i, ev}) }
		for t := range machine.Timers(*s, *f.policy) {
			add(t.Event())
		}
		if s.Leave != machine.NoLeave {
			add(machine.Event{Kind: machine.LeaveLost, N: s.LeaveN}) // the handoff was killed
		}
		for _, g := range s.Gens {
			switch g.Phase {
			case machine.Preparing:
				release := g.Release
				if g.Source == machine.Newest {
					release = "b"
				}
				add(machine.Event{Kind: machine.Started, N: g.N, Release: release})
				if release == "b" {
					add(machine.Event{Kind: machine.NotStarted, N: g.N, Release: release, Reason: "is bad", Status: 126})
				}
			case machine.Candidate:
				add(machine.Event{Kind: machine.Ready, N: g.N})
				if g.Release == "b" {
					add(machine.Event{Kind: machine.Exited, N: g.N, Status: 3, Reason: "ended"})
				}
			case machine.Current:
				if g.Release == "b" || deaths {
					add(machine.Event{Kind: machine.Exited, N: g.N, Status: 3, Reason: "ended"})
				}
			}
		}
	}
	return all
}

// explore walks all that can follow once each of the instances was told an event.
func explore(t *testing.T, f *fleet, told machine.Event, deaths bool, rest func(*fleet) string) (states int) {
	type node struct {
		f    *fleet
		from string
		by   moment
	}
	nodes := map[string]node{}
	var story func(at string) string
	story = func(at string) string {
		n := nodes[at]
		if n.from == "" {
			return ""
		}
		return story(n.from) + fmt.Sprintf("\n%d: %v %+v", n.by.i, n.by.ev.Kind, n.by.ev)
	}
	for i := range f.all {
		if wrong := f.tell(i, told); wrong != "" {
			t.Fatal(wrong)
		}
	}
	f.normal()
	first := f.key()
	nodes[first] = node{f: f}
	for queue := []string{first}; len(queue) > 0; {
		at := queue[0]
		queue = queue[1:]
		before := nodes[at].f
		moments := before.possible(deaths)
		if len(moments) == 0 || !before.underWay() {
			if wrong := rest(before); wrong != "" {
				t.Fatalf("%s\n%s\nafter%s", wrong, before.key(), story(at))
			}
		}
		for _, m := range moments {
			after := before.clone()
			if wrong := after.tell(m.i, m.ev); wrong != "" {
				t.Fatalf("%s\n%s\nby %d: %v %+v after%s", wrong, before.key(), m.i, m.ev.Kind, m.ev, story(at))
			}
			after.normal()
			k := after.key()
			if _, ok := nodes[k]; ok {
				continue
			}
			if nodes[k] = (node{after, at, m}); len(nodes) > 300000 {
				t.Fatalf("more states than there can be, as after%s", story(k))
			}
			queue = append(queue, k)
		}
	}
	return len(nodes)
}

// underWay reports whether something is being started, or will be.
func (f *fleet) underWay() bool {
	for _, s := range f.all {
		if s.Situation() != machine.Serving || s.Leave != machine.NoLeave {
			return true
		}
	}
	return false
}

// runs is what the instances run, as "a a b".
func (f *fleet) runs() string {
	var names []string
	for _, s := range f.all {
		names = append(names, s.Current().Release)
	}
	return strings.Join(names, " ")
}

// allTheSame is the promise: a roll that is over leaves no mixture.
func allTheSame(f *fleet) string {
	runs := f.runs()
	if !strings.Contains(runs, "a") || !strings.Contains(runs, "b") {
		return ""
	}
	// What has proven itself in one of them stays there, whatever it does elsewhere.
	rejected := false
	for _, s := range f.all {
		if slices.ContainsFunc(s.GoodReleases, func(g machine.Good) bool { return g.Release == "b" }) {
			return ""
		}
		rejected = rejected || s.Rejection("b") != nil
	}
	if rejected {
		return "it comes to rest with a mixture: " + runs
	}
	return ""
}

func TestInstancesAreReplacedOneAfterTheOtherWhateverFails(t *testing.T) {
	for _, ev := range []machine.Event{{Kind: machine.Changed, Release: "b"}, {Kind: machine.Changed}, {Kind: machine.Deployed, Release: "b"}, {Kind: machine.Reload}} {
		t.Logf("two instances, %v: %d states", ev.Kind, explore(t, newFleet(t, 2), ev, true, allTheSame))
	}
	if *full {
		t.Logf("three instances: %d states", explore(t, newFleet(t, 3), machine.Event{Kind: machine.Changed}, false, allTheSame))
	}
}

func TestTheTurnGoesByNumberAndOnceAround(t *testing.T) {
	f := newFleet(t, 4)
	for i := range f.all {
		_ = f.tell(i, machine.Event{Kind: machine.Changed, Release: "b"})
	}
	for i, s := range f.all {
		if got := f.runs(); strings.Count(got, "b") != i {
			t.Fatalf("after %d turns they run %s", i, got)
		}
		g := s.Gens[len(s.Gens)-1]
		for _, ev := range []machine.Event{{Kind: machine.Started, N: g.N, Release: "b"}, {Kind: machine.Ready, N: g.N}} {
			if wrong := f.tell(i, ev); wrong != "" {
				t.Fatal(wrong)
			}
		}
	}
	if f.underWay() || f.runs() != "b b b b" || f.swaps != 4 || f.policy.Rolling {
		t.Errorf("they run %s, after %d swaps", f.runs(), f.swaps)
	}
}

func TestABrokenReleaseStopsAtTheFirst(t *testing.T) {
	f := newFleet(t, 4)
	for i := range f.all {
		_ = f.tell(i, machine.Event{Kind: machine.Changed, Release: "b"})
	}
	_ = f.tell(0, machine.Event{Kind: machine.Started, N: 2, Release: "b"})
	_ = f.tell(0, machine.Event{Kind: machine.Exited, N: 2, Status: 3, Reason: "ended"})
	if f.underWay() || f.runs() != "a a a a" || f.swaps != 1 {
		t.Errorf("they run %s, after %d swaps", f.runs(), f.swaps)
	}
	for i, s := range f.all {
		if s.Rejection("b") == nil {
			t.Errorf("instance %d would start it still", i)
		}
	}
}

func TestWhereALaterOneFailsAllGoBackInTurn(t *testing.T) {
	f := newFleet(t, 3)
	for i := range f.all {
		_ = f.tell(i, machine.Event{Kind: machine.Changed, Release: "b"})
	}
	for i := range 2 {
		_ = f.tell(i, machine.Event{Kind: machine.Started, N: 2, Release: "b"})
		_ = f.tell(i, machine.Event{Kind: machine.Ready, N: 2})
	}
	_ = f.tell(2, machine.Event{Kind: machine.NotStarted, N: 2, Release: "b", Reason: "is bad", Status: 126})
	for i := range 2 {
		if got := f.all[1].Situation(); i == 0 && got != machine.Waiting {
			t.Errorf("the second one is %v while the first one goes back", got)
		}
		_ = f.tell(i, machine.Event{Kind: machine.Started, N: 3, Release: "a"})
		_ = f.tell(i, machine.Event{Kind: machine.Ready, N: 3})
	}
	if f.underWay() || f.runs() != "a a a" {
		t.Errorf("they run %s", f.runs())
	}
}

func TestWhoEndedForGoodIsNotWaitedFor(t *testing.T) {
	f := newFleet(t, 3)
	_ = f.tell(0, machine.Event{Kind: machine.Halt, Signal: 15})
	for i := range f.all {
		_ = f.tell(i, machine.Event{Kind: machine.Changed, Release: "b"})
	}
	if got := f.all[1].Situation(); got != machine.Swapping {
		t.Errorf("the second one is %v while the first one stops", got)
	}
}

// What came after the release that failed elsewhere is not it, and is tried.
func TestNewerContentOutlivesTheFailureOfWhatWasBefore(t *testing.T) {
	f := newFleet(t, 2)
	for i := range f.all {
		_ = f.tell(i, machine.Event{Kind: machine.Changed, Release: "b"})
	}
	_ = f.tell(0, machine.Event{Kind: machine.Started, N: 2, Release: "b"})
	_ = f.tell(1, machine.Event{Kind: machine.Changed, Release: "c"})
	_ = f.tell(0, machine.Event{Kind: machine.Exited, N: 2, Status: 3, Reason: "ended"})
	if got := f.all[1]; got.Newest != "c" || got.Situation() != machine.Swapping {
		t.Fatalf("the second one is %v, and the newest it knows of is %s", got.Situation(), got.Newest)
	}
	_ = f.tell(1, machine.Event{Kind: machine.Started, N: 2, Release: "c"})
	_ = f.tell(1, machine.Event{Kind: machine.Ready, N: 2})
	if f.runs() != "a c" {
		t.Errorf("they run %s", f.runs())
	}
}
