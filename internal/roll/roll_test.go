package roll

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
)

// fleet is a State and what its instances run: the release before or the new one.
type fleet struct {
	s        State
	runs     map[int]string // "old" or "new"; "" for one that has not started
	removing map[int]bool
	want     map[int]string // what the busy one is told to become
	outcomes int
	ok       bool
}

func (f *fleet) clone() *fleet {
	c := *f
	c.s.Alive, c.s.Left, c.s.Moved, c.s.Removed = slices.Clone(f.s.Alive), slices.Clone(f.s.Left), slices.Clone(f.s.Moved), slices.Clone(f.s.Removed)
	c.runs, c.removing, c.want = map[int]string{}, map[int]bool{}, map[int]string{}
	for n, r := range f.runs {
		c.runs[n] = r
	}
	for n, r := range f.removing {
		c.removing[n] = r
	}
	for n, r := range f.want {
		c.want[n] = r
	}
	return &c
}

// tell has the state decide, and does what it says. It returns what is wrong.
func (f *fleet) tell(ev Event) string {
	switch ev.Kind {
	case Current:
		if r, ok := f.want[ev.N]; ok {
			f.runs[ev.N] = r
		}
		delete(f.want, ev.N)
	case Rejected:
		delete(f.want, ev.N)
	case Failed:
		f.runs[ev.N] = "old"
	case Ended:
		delete(f.runs, ev.N)
		delete(f.want, ev.N)
		delete(f.removing, ev.N)
	}
	for _, e := range f.s.Next(ev) {
		switch e.Kind {
		case Add:
			if _, ok := f.runs[e.N]; ok {
				return "an instance is added that there is"
			}
			f.runs[e.N] = "old"
			for _, r := range f.runs {
				if r == "new" && !f.s.Rolling() {
					f.runs[e.N] = "new"
				}
			}
		case Remove:
			f.removing[e.N] = true
		case Swap:
			if len(f.want) > 0 {
				return "two are replaced at once"
			}
			f.want[e.N] = "new"
		case Back:
			for n := range f.want {
				if n != e.N {
					return "two are replaced at once"
				}
			}
			f.want[e.N] = "old"
		case Outcome:
			f.outcomes++
			f.ok = e.OK
			// What is added during a roll comes to run what the rest runs by its own start.
			seen := map[string]bool{}
			for n, r := range f.runs {
				if !f.removing[n] {
					seen[r] = true
				}
			}
			if len(seen) > 1 {
				return fmt.Sprintf("the roll ends half on each: %v", f.runs)
			}
			if !e.OK && seen["new"] || e.OK && seen["old"] {
				return fmt.Sprintf("the roll ends with %v, and they run %v", e.OK, f.runs)
			}
			for n := range f.runs {
				f.runs[n] = "old" // the next roll's release is another one
			}
		}
	}
	if len(f.s.Left) > 0 && !f.s.Rolling() {
		return "some are left, and nothing will come to them"
	}
	if (len(f.want) > 0) != f.s.Rolling() {
		return "it waits for nobody, or for somebody it does not know of"
	}
	return ""
}

// TestEveryRollEndsOnOneRelease walks everything that can happen to three instances.
func TestEveryRollEndsOnOneRelease(t *testing.T) {
	type node struct {
		f    *fleet
		from string
		ev   Event
	}
	key := func(f *fleet) string {
		f.s.Reason = ""
		return fmt.Sprint(f.s.Alive, f.s.Left, f.s.Busy, f.s.Moved, f.s.Going, f.s.Again, f.s.Removed, f.runs, f.want, f.removing, f.s.Count)
	}
	first := &fleet{runs: map[int]string{}, removing: map[int]bool{}, want: map[int]string{}}
	if wrong := first.tell(Event{Kind: Resize, Count: 3}); wrong != "" {
		t.Fatal(wrong)
	}
	nodes := map[string]node{key(first): {f: first}}
	queue := []string{key(first)}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		f := nodes[at].f
		evs := []Event{{Kind: Changed}, {Kind: Current, N: 9}}
		if f.s.Count < 4 {
			evs = append(evs, Event{Kind: Resize, Count: 3}, Event{Kind: Resize, Count: 2}, Event{Kind: Resize, Count: f.s.Count - 1})
		}
		for n := range f.want {
			evs = append(evs, Event{Kind: Current, N: n})
			if !f.s.Going {
				evs = append(evs, Event{Kind: Rejected, N: n, Reason: "is bad"})
			}
		}
		for n, r := range f.runs {
			if r == "new" {
				evs = append(evs, Event{Kind: Failed, N: n, Reason: "died"})
			}
			evs = append(evs, Event{Kind: Ended, N: n, Reason: "died"})
		}
		for _, ev := range evs {
			if ev.Kind == Resize && ev.Count < 1 {
				continue
			}
			after := f.clone()
			if wrong := after.tell(ev); wrong != "" {
				story := fmt.Sprintf("%+v", ev)
				for k := at; nodes[k].from != ""; k = nodes[k].from {
					story = fmt.Sprintf("%+v\n%s", nodes[k].ev, story)
				}
				t.Fatalf("%s\nafter\n%s\n%+v", wrong, story, after.s)
			}
			k := key(after)
			if _, ok := nodes[k]; !ok {
				nodes[k] = node{after, at, ev}
				queue = append(queue, k)
			}
			if len(nodes) > 100000 {
				t.Fatal("more states than there can be")
			}
		}
	}
	t.Logf("%d states", len(nodes))
}

func kinds(effects []Effect) (list []Effect) {
	for _, e := range effects {
		if e.Kind != Say {
			e.Text = ""
			list = append(list, e)
		}
	}
	return list
}

func TestARollThatIsRejectedAtTheThirdInstanceGoesBack(t *testing.T) {
	var s State
	s.Next(Event{Kind: Resize, Count: 4})
	for i, step := range []struct {
		ev   Event
		want []Effect
	}{
		{Event{Kind: Changed}, []Effect{{Kind: Swap, N: 0}}},
		{Event{Kind: Current, N: 0}, []Effect{{Kind: Swap, N: 1}}},
		{Event{Kind: Current, N: 3}, nil}, // it died, and was restarted alone
		{Event{Kind: Current, N: 1}, []Effect{{Kind: Swap, N: 2}}},
		{Event{Kind: Rejected, N: 2, Reason: "exited with 1"}, []Effect{{Kind: Back, N: 0}}},
		{Event{Kind: Current, N: 0}, []Effect{{Kind: Back, N: 1}}},
		{Event{Kind: Current, N: 1}, []Effect{{Kind: Outcome}}},
	} {
		if got := kinds(s.Next(step.ev)); !reflect.DeepEqual(got, step.want) {
			t.Fatalf("step %d: %+v, not %+v", i, got, step.want)
		}
	}
}

func TestACountThatChangesAddsAndRemoves(t *testing.T) {
	var s State
	if got := s.Next(Event{Kind: Resize, Count: 2}); !reflect.DeepEqual(got, []Effect{{Kind: Add, N: 0}, {Kind: Add, N: 1}}) {
		t.Fatal(got)
	}
	if got := s.Next(Event{Kind: Resize, Count: 1}); !reflect.DeepEqual(got, []Effect{{Kind: Remove, N: 1}}) {
		t.Fatal(got)
	}
	if got := s.Next(Event{Kind: Resize, Count: 3}); !reflect.DeepEqual(got, []Effect{{Kind: Add, N: 2}}) {
		t.Fatal(got)
	}
	if got := s.Next(Event{Kind: Ended, N: 1}); !reflect.DeepEqual(got, []Effect{{Kind: Add, N: 1}}) {
		t.Fatal(got)
	}
}
