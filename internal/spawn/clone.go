//go:build !s390x

package spawn

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// clone is the raw clone(2) without a new stack. The order of its arguments
// depends on the architecture, see its NOTES.
//
//go:norace
//go:nosplit
func clone(flags uintptr, pidfd *int32) (uintptr, syscall.Errno) {
	pid, _, e := syscall.RawSyscall6(unix.SYS_CLONE, flags, 0, uintptr(unsafe.Pointer(pidfd)), 0, 0, 0)
	return pid, e
}
