package release

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// execCheck asks the kernel whether the open file could be executed now,
// without executing it. x/sys/unix has no wrapper that takes an empty path and
// keeps the process.
func execCheck(fd int) error {
	argv := [2]*byte{&emptyString[0], nil}
	envp := [1]*byte{nil}
	_, _, errno := unix.Syscall6(unix.SYS_EXECVEAT, uintptr(fd),
		uintptr(unsafe.Pointer(&emptyString[0])),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envp[0])),
		unix.AT_EMPTY_PATH|atExecveCheck, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
