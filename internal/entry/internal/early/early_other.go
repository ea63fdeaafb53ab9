//go:build !amd64 && !arm64

package early

// noFile reports false: a system call without package syscall needs assembly.
func noFile(*Limit) bool { return false }
