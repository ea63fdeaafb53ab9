package machine

import (
	"reflect"
	"slices"
	"testing"
)

func TestARenamedReleaseIsRenamedEverywhere(t *testing.T) {
	named := func(a, b string) State {
		return State{
			Gens:         []Gen{{N: 1, Release: a}, {N: 2, Release: b}},
			GoodReleases: []Good{{Release: b}, {Release: a, N: 1}},
			Rejected:     []Rejection{{Release: a}},
			Newest:       a,
			BackTo:       a,
			Want:         a,
		}
	}
	s := named("file", "other")
	s.rename("file", "content")
	if want := named("content", "other"); !reflect.DeepEqual(s, want) {
		t.Errorf("%+v, want %+v", s, want)
	}
}

// A generation may prove good before its content is read. What is read then may be one of
// the releases that are there: none of them was let go for it.
func TestNoGoodReleaseGoesForOneThatIsNotReadYet(t *testing.T) {
	policy := &Policy{}
	s := State{Gens: []Gen{{N: 5, Phase: Current, Release: "?5"}}}
	for _, name := range []string{"a", "b", "c"} {
		s.GoodReleases = append(s.GoodReleases, Good{Release: name})
	}
	names := func(s State) (list []string) {
		for _, g := range s.GoodReleases {
			list = append(list, g.Release)
		}
		return list
	}
	m := &step{s: s, p: policy}
	m.prove(&m.s.Gens[0])
	if got := names(m.s); !slices.Equal(got, []string{"a", "b", "c", "?5"}) {
		t.Errorf("before it is read: %q", got)
	}
	other, same := m.s.Clone(), m.s.Clone()
	other.rename("?5", "d")
	if got := names(other); !slices.Equal(got, []string{"b", "c", "d"}) {
		t.Errorf("a new one: %q", got)
	}
	same.rename("?5", "b")
	if got := names(same); !slices.Equal(got, []string{"a", "c", "b"}) {
		t.Errorf("one that was there: %q", got)
	}
}
