//go:build !amd64 && !arm64

package entry

const catchFlags = 0

// handler has no hotinit_catch to give.
func handler() (catch, restorer uintptr) { return 0, 0 }
