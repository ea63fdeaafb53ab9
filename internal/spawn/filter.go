package spawn

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rights is a control message with one descriptor, see cmsg(3).
type rights struct {
	header unix.Cmsghdr
	fd     int32
	_      int32 // CMSG_SPACE is aligned
}

// layFilter lays out what the child needs to install Spec.Filter and to send the
// descriptor of its notifications.
func (im *image) layFilter(s *Spec) {
	im.filter = &unix.SockFprog{Len: uint16(len(s.Filter)), Filter: unsafe.SliceData(s.Filter)}
	im.filterFlags, im.filterPrivs = uintptr(s.FilterFlags), s.FilterPrivs
	r := &im.filterRight
	r.header.Level, r.header.Type = unix.SOL_SOCKET, unix.SCM_RIGHTS
	r.header.SetLen(unix.CmsgLen(4))
	im.filterIov.Base = &im.byte[0]
	im.filterIov.SetLen(1)
	im.filterMsg.Iov = &im.filterIov
	im.filterMsg.SetIovlen(1)
	im.filterMsg.Control = (*byte)(unsafe.Pointer(r))
	im.filterMsg.SetControllen(unix.CmsgSpace(4))
}

// installFilter comes before the gate: so the parent has given the descriptor to
// whoever keeps it before there is a program that waits for an answer. It also
// comes before the change of user, while CAP_SYS_ADMIN may still be there.
//
//go:noinline
//go:norace
//go:nosplit
func (im *image) installFilter() {
	if im.filterPrivs {
		if e := sys6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); e != 0 {
			im.fail(stageFilter, e)
		}
	}
	fd, _, e := syscall.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, im.filterFlags, uintptr(unsafe.Pointer(im.filter)))
	if e != 0 {
		im.fail(stageFilter, e)
	}
	if im.filterFlags&unix.SECCOMP_FILTER_FLAG_NEW_LISTENER != 0 {
		im.filterRight.fd = int32(fd)
		e = sys(unix.SYS_SENDMSG, im.filterTo, uintptr(unsafe.Pointer(&im.filterMsg)), unix.MSG_NOSIGNAL)
		if e != 0 {
			im.fail(stageFilter, e)
		}
		sys(unix.SYS_CLOSE, fd, 0, 0)
	}
	sys(unix.SYS_CLOSE, im.filterTo, 0, 0)
}

// receiveListener receives what installFilter sent: -1 where it failed, which
// the child's report tells, or where the child has ended.
func receiveListener(fd int) int {
	var b [1]byte
	oob := make([]byte, unix.CmsgSpace(4))
	for {
		_, n, _, _, err := unix.Recvmsg(fd, b[:], oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1
		}
		msgs, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil || len(msgs) == 0 {
			return -1
		}
		fds, err := unix.ParseUnixRights(&msgs[0])
		if err != nil || len(fds) == 0 {
			return -1
		}
		return fds[0]
	}
}
