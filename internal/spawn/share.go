//go:build amd64

package spawn

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// stackBytes is plenty: the linker keeps chains of nosplit functions below 800
// bytes, and no signal handler runs in the child.
const stackBytes = 4096

// forkShared starts the child in this process's own memory, on a stack of its
// own, as posix_spawn(3) of C libraries does. A copy costs page tables, and
// then each page that either side writes to: a quarter of all page faults of a
// start. The child changes nothing but its image and its stack, so both have
// to stay until it has executed something or ended.
//
// It is not for a child that changes its user: that marks the memory, which is
// also this process's, as not to be looked at (PR_GET_DUMPABLE in prctl(2)).
//
// Where the kernel has no such clone(2) it says EINVAL, as emulators do.
//
//go:noinline
//go:norace
func (im *image) forkShared() (pid uintptr, err unix.Errno) {
	if im.cred != nil {
		return 0, unix.EINVAL
	}
	im.stack = make([]byte, stackBytes)
	top := uintptr(unsafe.Pointer(unsafe.SliceData(im.stack))) + stackBytes
	const flags = uintptr(unix.SIGCHLD | unix.CLONE_PIDFD | unix.CLONE_VM)

	child := runChild
	// A function value points to where the code's address is.
	code := **(**uintptr)(unsafe.Pointer(&child))

	// All signals are blocked in between, so also in the child.
	runtime_BeforeFork()
	e := uintptr(unix.ENOSYS)
	if im.intoCgroup() {
		im.args.flags |= unix.CLONE_VM
		im.args.stack = uint64(top - stackBytes)
		im.args.stackSize = uint64(top&^15) - im.args.stack
		pid, e = cloneShared(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&im.args)), unsafe.Sizeof(im.args), 0, im, code)
		im.inCgroup = e == 0
	}
	if !im.inCgroup {
		pid, e = cloneShared(unix.SYS_CLONE, flags, top&^15, uintptr(unsafe.Pointer(&im.pidfd)), im, code)
	}
	runtime_AfterFork()
	return pid, unix.Errno(e)
}

// cloneShared makes the system call trap, clone(2) or clone3(2), with these
// arguments, which give the child a stack. From its top the child calls the code
// with im, and does not return. im is where all that they point to lies.
//
//go:noescape
func cloneShared(trap, a, b, c uintptr, im *image, code uintptr) (pid, errno uintptr)

//go:noinline
//go:norace
//go:nosplit
func runChild(im *image) { im.child() }
