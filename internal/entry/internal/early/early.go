// Package early reads RLIMIT_NOFILE before Go's package syscall raises it.
//
// Invariant: this package imports nothing, so it is initialised before package
// syscall, whose initialiser raises the soft limit and keeps the old one to
// itself. (Packages are initialised in the order of their import paths once
// what they import is: "github.com/..." sorts before "syscall".)
package early

// Limit is struct rlimit64, see getrlimit(2).
type Limit struct{ Cur, Max uint64 }

// NoFile is the limit that this process was started with, if Known.
var (
	NoFile Limit
	Known  = noFile(&NoFile)
)
