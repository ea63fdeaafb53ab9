package handoff

import (
	"os"

	"golang.org/x/sys/unix"
)

// tellAbove tells the NOTIFY_SOCKET that hotinit itself was started with
// (podman's --sdnotify=container, systemd) how it is, sd_notify(3).
func (s *supervisor) tellAbove(text string) {
	address := os.Getenv("NOTIFY_SOCKET")
	if address == "" || s.contract.plain || s.daemon {
		return
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	to := &unix.SockaddrUnix{Name: address}
	// systemd believes the main process, which is init. Root may speak in its
	// name, unix(7); others are believed with NotifyAccess=all.
	init := unix.UnixCredentials(&unix.Ucred{Pid: int32(os.Getppid()), Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid())})
	if unix.Sendmsg(fd, []byte(text), init, to, unix.MSG_NOSIGNAL) != nil {
		_ = unix.Sendmsg(fd, []byte(text), nil, to, unix.MSG_NOSIGNAL)
	}
}
