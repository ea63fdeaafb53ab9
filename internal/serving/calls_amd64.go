package serving

import "golang.org/x/sys/unix"

// Old calls that newer architectures do without.
const (
	sysPoll      = unix.SYS_POLL
	sysSelect    = unix.SYS_SELECT
	sysEpollWait = unix.SYS_EPOLL_WAIT
)
