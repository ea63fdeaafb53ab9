package trim

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	least = 24 << 20 // bytes that are used before anything is collected
	spare = 16 << 20 // bytes for garbage, beside as much as there is in use
)

// Pace has the collector run where there is garbage, and never for the time that has
// passed: its periodic run would wake an idle process every two minutes for ever. It
// may use more memory where more is in use (many programs), since it would run all
// the time otherwise.
func Pace() {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(least)
	watchCollections()
}

// collection is garbage from the beginning: its finalizer runs after each collection.
type collection struct{ _ [16]byte }

func watchCollections() {
	runtime.SetFinalizer(&collection{}, func(*collection) {
		debug.SetMemoryLimit(limit(inUse()))
		watchCollections()
	})
}

// inUse is what the last collection has left.
func inUse() int64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return int64(sample[0].Value.Uint64())
}

func limit(live int64) int64 { return max(least, 2*live+spare) }
