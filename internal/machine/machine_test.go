package machine

import (
	"reflect"
	"testing"
)

func TestARenamedReleaseIsRenamedEverywhere(t *testing.T) {
	named := func(a, b string) State {
		return State{
			Gens:     []Gen{{N: 1, Release: a}, {N: 2, Release: b}},
			Good:     []Good{{b, 0}, {a, 1}},
			Rejected: a,
			Want:     a,
		}
	}
	s := named("file", "other")
	s.Rename("file", "content")
	if want := named("content", "other"); !reflect.DeepEqual(s, want) {
		t.Errorf("%+v, want %+v", s, want)
	}
}
