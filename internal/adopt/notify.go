package adopt

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// notification is struct seccomp_notif: a thread waits in a system call.
type notification struct {
	id    uint64
	pid   uint32 // the thread, 0 where it is in no namespace of ours
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

// addition is struct seccomp_notif_addfd.
type addition struct {
	id         uint64
	flags      uint32
	src        uint32
	number     uint32
	numberFlag uint32
}

// answer is what a notified call returns. The zero value is success.
type answer struct {
	errno unix.Errno
	kern  bool // the kernel does the call
}

// kernel leaves a call to the kernel.
var kernel = answer{kern: true}

func ioctl(fd int, request uint, arg unsafe.Pointer) error {
	_, _, e := syscall.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg))
	if e != 0 {
		return e
	}
	return nil
}

// receive waits for a notification. n has to be zero: the kernel looks.
func receive(fd int, n *notification) error {
	*n = notification{}
	return ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(n))
}

// valid reports whether a notification still waits for its answer: its thread
// has not ended, nor been interrupted. Only then what was read by the thread's
// number was that thread's.
func valid(fd int, id uint64) bool {
	return ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id)) == nil
}

func send(fd int, id uint64, a answer) error {
	r := response{id: id, err: -int32(a.errno)}
	if a.kern {
		r.flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
	}
	return ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r))
}

// replace makes the descriptor number of the waiting thread one for src.
func replace(fd int, id uint64, src, number int, cloexec bool) error {
	add := addition{id: id, flags: unix.SECCOMP_ADDFD_FLAG_SETFD, src: uint32(src), number: uint32(number)}
	if cloexec {
		add.numberFlag = unix.O_CLOEXEC
	}
	return ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_ADDFD, unsafe.Pointer(&add))
}

// wakeInPlace has the kernel run the one side on the processor of the other
// (Linux 6.6), which makes a notification cheaper. Without it all works as well.
func wakeInPlace(fd int) {
	_, _, _ = syscall.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
}

// flagsKnown reports whether the kernel knows these flags of seccomp(2): it then
// misses the filter (EFAULT).
func flagsKnown(flags uint) bool {
	_, _, e := syscall.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flags), 0)
	return e == unix.EFAULT
}
