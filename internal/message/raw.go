package message

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The socket never blocks, so these are raw system calls. Go's scheduler would
// wake its monitor thread at each ordinary one: two switches for each message.

func sendmsg(fd int, b, rights []byte) error {
	iov := unix.Iovec{Base: unsafe.SliceData(b)}
	iov.SetLen(len(b))
	msg := unix.Msghdr{Iov: &iov}
	msg.SetIovlen(1)
	if len(rights) > 0 {
		msg.Control = unsafe.SliceData(rights)
		msg.SetControllen(len(rights))
	}
	_, _, e := syscall.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	if e != 0 {
		return e
	}
	return nil
}

func recvmsg(fd int, b, oob []byte) (n, oobn, flags int, err error) {
	iov := unix.Iovec{Base: unsafe.SliceData(b)}
	iov.SetLen(len(b))
	msg := unix.Msghdr{Iov: &iov}
	msg.SetIovlen(1)
	msg.Control = unsafe.SliceData(oob)
	msg.SetControllen(len(oob))
	r, _, e := syscall.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
	if e != 0 {
		return 0, 0, 0, e
	}
	return int(r), int(msg.Controllen), int(msg.Flags), nil
}
