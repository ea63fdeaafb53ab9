package threads

import (
	"os"
	"testing"
)

func count(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Skip(err)
	}
	return len(tasks)
}

func TestReserveMakesThreadsThatStay(t *testing.T) {
	const n = 30
	Reserve(n)
	had := count(t)
	if had < n {
		t.Fatalf("there are %d threads", had)
	}
	// They are there for the next time.
	Reserve(n - 10)
	if got := count(t); got > had {
		t.Errorf("there were %d threads, and now are %d", had, got)
	}
}
