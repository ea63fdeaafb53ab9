//go:build amd64

package spawn

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// stackBytes is enough: the linker limits chains of nosplit functions to 800
// bytes, and no signal handler runs in the child.
const stackBytes = 4096

// forkShared starts the child in this process's memory, with a stack of its own,
// as posix_spawn(3) does in C libraries. A copy costs page tables, and a fault for
// each page that either process writes: an eighth of a start's page faults. The
// child writes only to its image and its stack, so both must stay until it has
// executed the program or ended.
//
// A child that changes its user gets a copy: the change would mark this process's
// memory as not dumpable too (PR_GET_DUMPABLE in prctl(2)).
//
// It returns EINVAL if the kernel, or an emulator, cannot do it.
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
	// A function value points to the code's address.
	code := **(**uintptr)(unsafe.Pointer(&child))

	// All signals are blocked until AfterFork, and so in the child.
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

// cloneShared makes the system call trap, clone(2) or clone3(2), with arguments
// that give the child a stack. The child calls the code with im and does not
// return. What the arguments point to belongs to im.
//
//go:noescape
func cloneShared(trap, a, b, c uintptr, im *image, code uintptr) (pid, errno uintptr)

//go:noinline
//go:norace
//go:nosplit
func runChild(im *image) { im.child() }
