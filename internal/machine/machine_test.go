package machine

import (
	"reflect"
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
