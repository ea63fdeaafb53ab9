package spawn

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// clone is the raw clone(2) without a new stack. The stack is the first argument
// on this architecture.
//
//go:norace
//go:nosplit
func clone(flags uintptr, pidfd *int32) (uintptr, syscall.Errno) {
	pid, _, e := syscall.RawSyscall6(unix.SYS_CLONE, 0, flags, uintptr(unsafe.Pointer(pidfd)), 0, 0, 0)
	return pid, e
}
