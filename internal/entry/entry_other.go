//go:build !amd64 && !arm64

package entry

const catchFlags = 0

// handler returns 0: there is no hotinit_catch on this architecture.
func handler() (catch, restorer uintptr) { return 0, 0 }
