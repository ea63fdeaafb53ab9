package upgrade

import (
	"strings"
	"testing"
)

func TestWhatAHotinitSaysIsReadAsItIs(t *testing.T) {
	got, err := Parse([]byte(Own().JSON()))
	if err != nil || got != Own() {
		t.Errorf("%+v, %v; want %+v", got, err, Own())
	}
	for _, text := range []string{"", "{}", "hotinit version 1.0.0", `{"version":"1"}`, `[1]`} {
		if a, err := Parse([]byte(text)); err == nil {
			t.Errorf("%q is taken for %+v", text, a)
		}
	}
}

func TestOnlyAHotinitThatUnderstandsWhatRunsFollows(t *testing.T) {
	make := func(oldest, newest int) About {
		return About{Version: "9", Messages: Versions{oldest, newest}, Records: Versions{oldest, newest}}
	}
	for _, test := range []struct {
		next, runs About
		ok         bool
	}{
		{make(1, 1), make(1, 1), true},
		{make(1, 3), make(1, 2), true},
		{make(2, 3), make(1, 2), true},
		{make(3, 3), make(1, 2), false}, // it does not read what the older one wrote
		{make(1, 1), make(1, 2), false}, // a downgrade that does not know the version
		{make(1, 2), make(2, 2), true},
	} {
		if err := test.next.Follows(test.runs); (err == nil) != test.ok {
			t.Errorf("%+v after %+v: %v", test.next, test.runs, err)
		}
	}
	mixed := make(1, 1)
	mixed.Records.Oldest, mixed.Records.Newest = 2, 2
	if err := mixed.Follows(make(1, 1)); err == nil || !strings.Contains(err.Error(), "records") {
		t.Error(err)
	}
}
