package handoff

import (
	"testing"
	"time"

	"github.com/hotinit/hotinit/internal/machine"
)

func TestAStartIsCountedOnceAndASwapByItsEnd(t *testing.T) {
	var c counts
	begin := func(n int, cause machine.Cause, st machine.State) {
		c.begins(machine.Effect{Kind: machine.Prepare, N: n, Cause: cause}, &st)
	}
	end := func(n int, ok bool, st machine.State) {
		c.decided(machine.Effect{Kind: machine.Outcome, N: n, OK: ok}, &st)
	}
	serving := machine.State{Gens: []machine.Gen{{N: 1, Phase: machine.Current, Release: "a"}}}

	begin(1, machine.ByBoot, machine.State{})
	end(1, true, serving) // no swap: nothing served before
	begin(2, machine.ByChange, serving)
	begin(2, machine.ByChange, serving) // a handoff that goes on
	end(2, true, serving)
	begin(3, machine.ByReload, serving)
	end(3, false, machine.State{Gens: serving.Gens, Rejected: []machine.Rejection{{Release: "b"}}})
	begin(4, machine.ByChange, serving)
	begin(5, machine.ByChange, serving) // newer content
	end(5, false, machine.State{Gens: append(serving.Gens, machine.Gen{N: 5, Phase: machine.Retiring, Release: "c"})})
	c.decided(machine.Effect{Kind: machine.Outcome, N: 6, None: true}, &serving)
	end(4, false, serving) // it was counted

	for cause, want := range map[machine.Cause]int{machine.ByBoot: 1, machine.ByChange: 3, machine.ByReload: 1} {
		if got := c.Starts[int(cause)]; got != want {
			t.Errorf("%d starts by %v, want %d", got, cause, want)
		}
	}
	for how, want := range [swapEnds]uint64{swapDone: 1, swapRejected: 1, swapSuperseded: 2} {
		if got := c.Swaps[how].sample(nil).Count; got != want {
			t.Errorf("%d swaps are %s, want %d", got, swapNames[how], want)
		}
	}
}

func TestADurationIsInItsBucketAndAllLarger(t *testing.T) {
	var d durations
	for _, took := range []time.Duration{0, 100 * time.Millisecond, 101 * time.Millisecond, time.Minute, time.Hour} {
		d.add(took)
	}
	s := d.sample(nil)
	if s.Count != 5 || s.Value != 3660.201 {
		t.Errorf("%d observations with a sum of %v", s.Count, s.Value)
	}
	for _, b := range s.Buckets {
		want := uint64(3)
		switch {
		case b.Bound == 0.1:
			want = 2
		case b.Bound >= 60:
			want = 4
		}
		if b.Count != want {
			t.Errorf("%d up to %v, want %d", b.Count, b.Bound, want)
		}
	}
	short := durations{Buckets: []int{1, 1}} // of a record that knows fewer bounds
	short.add(time.Hour)
	if s := short.sample(nil); s.Count != 3 {
		t.Errorf("%d observations", s.Count)
	}
}
