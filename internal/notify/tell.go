package notify

import (
	"os"

	"golang.org/x/sys/unix"
)

// Tell sends text to the service manager that listens at address, the
// NOTIFY_SOCKET that hotinit was started with (systemd, podman's
// --sdnotify=container). pid is in whose name it is sent. Nothing depends on
// it, so errors are ignored.
func Tell(address, text string, pid int) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	to := &unix.SockaddrUnix{Name: address}
	// systemd believes only the main process, unless NotifyAccess=all is set.
	// Root may send in another process's name, unix(7).
	as := unix.UnixCredentials(&unix.Ucred{Pid: int32(pid), Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid())})
	if unix.Sendmsg(fd, []byte(text), as, to, unix.MSG_NOSIGNAL) != nil {
		_ = unix.Sendmsg(fd, []byte(text), nil, to, unix.MSG_NOSIGNAL)
	}
}
