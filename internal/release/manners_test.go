package release

import (
	"testing"
	"time"
)

// On an idle machine it yields after each block, and on a busy one it does not wait for
// ever.
func TestADigestGivesTheProcessorAwayForABoundedTime(t *testing.T) {
	for _, turn := range []time.Duration{0, time.Microsecond, 20 * time.Millisecond, time.Hour} {
		var clock time.Time
		yields := 0
		m := manners{
			now:   func() time.Time { return clock },
			yield: func() { yields++; clock = clock.Add(turn) },
		}
		const steps = 1000
		for range steps {
			m.step()
		}
		want := steps
		if turn > 0 {
			want = min(steps, int((mostGiven+turn-1)/turn))
		}
		if yields != want {
			t.Errorf("where others take %v at each turn, it yields %d times in %d steps, not %d", turn, yields, steps, want)
		}
	}
}
