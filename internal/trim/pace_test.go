package trim

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// TestTheLimitFollowsWhatIsInUse: with a limit below what is in use the collector
// would run all the time.
func TestTheLimitFollowsWhatIsInUse(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	Pace()
	until := func(what string, is func(limit int64) bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !is(debug.SetMemoryLimit(-1)); runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("the limit is %d and never %s", debug.SetMemoryLimit(-1), what)
			}
			runtime.GC()
		}
	}
	const size = 64 << 20
	big := make([]byte, size)
	until("more than what is in use", func(limit int64) bool { return limit >= 2*size })
	runtime.KeepAlive(big)
	until("as it was", func(limit int64) bool { return limit < 2*size })
}
