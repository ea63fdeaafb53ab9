package spawn

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// cloneArgs is the kernel's struct clone_args, see clone(2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal uint64
	stack, stackSize, tls, setTID, setTIDSize     uint64
	cgroup                                        uint64
}

// intoCgroup sets the arguments of clone3(2) for a child in Spec.Cgroup. It
// reports whether a cgroup is wanted.
//
//go:norace
//go:nosplit
func (im *image) intoCgroup() bool {
	if im.cgroup < 0 {
		return false
	}
	im.args = cloneArgs{
		flags:      unix.CLONE_PIDFD | unix.CLONE_INTO_CGROUP,
		pidfd:      uint64(uintptr(unsafe.Pointer(&im.pidfd))),
		exitSignal: uint64(unix.SIGCHLD),
		cgroup:     uint64(im.cgroup),
	}
	return true
}

// cloneInto starts a child in Spec.Cgroup with a copy of the memory. If it fails
// (no clone3(2), a filter that forbids it, a cgroup that was removed), the child
// can still be started in this process's cgroup.
//
//go:norace
//go:nosplit
func (im *image) cloneInto() (uintptr, syscall.Errno) {
	if !im.intoCgroup() {
		return 0, unix.ENOSYS
	}
	pid, _, e := syscall.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&im.args)), unsafe.Sizeof(im.args), 0)
	im.inCgroup = e == 0
	return pid, e
}
