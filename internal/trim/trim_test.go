package trim

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// mapped is how many KiB of this executable's read-only parts are mapped.
func mapped(t *testing.T) int {
	t.Helper()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Skip(err)
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	sum, ours := 0, false
	for line := range strings.Lines(string(smaps)) {
		f := strings.Fields(line)
		switch {
		case len(f) >= 6 && strings.Contains(f[0], "-"):
			ours = f[5] == exe && !strings.Contains(f[1], "w")
		case ours && len(f) == 3 && f[0] == "Rss:":
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
	}
	return sum
}

func TestDropGivesBackPagesOfTheExecutable(t *testing.T) {
	before := mapped(t)
	drop()
	if after := mapped(t); after >= before {
		t.Errorf("%d KiB of the executable were mapped before and %d KiB after", before, after)
	}
}

func TestTouchAgainDoesNotStartASecondTimer(t *testing.T) {
	var timer Timer
	timer.Touch()
	first := timer.timer
	timer.Touch()
	if timer.timer != first {
		t.Error("there are two timers")
	}
	if !first.Stop() {
		t.Error("the timer is not running")
	}
}

func TestTheHeapIsCollectedOnceEnoughHasHappened(t *testing.T) {
	timer := Timer{Collect: 2}
	collections := func() uint32 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NumForcedGC
	}
	before := collections()
	for i, want := range []uint32{0, 1, 1, 2} {
		timer.touched.Add(1)
		timer.give()
		if got := collections() - before; got != want {
			t.Errorf("after %d times: %d collections instead of %d", i+1, got, want)
		}
	}
}
