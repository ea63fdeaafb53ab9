// Package early reads RLIMIT_NOFILE before Go's package syscall raises it.
//
// Invariant: this package imports nothing, so it is initialised before package
// syscall, whose initialiser raises the soft limit and keeps the old value to
// itself. (Go initialises packages in the order of their import paths, each after
// its imports, and "github.com/..." sorts before "syscall".)
package early

// Limit is struct rlimit64, see getrlimit(2).
type Limit struct{ Cur, Max uint64 }

// NoFile is the limit that this process was started with. It holds only if Known
// is true.
var (
	NoFile Limit
	Known  = noFile(&NoFile)
)
