//go:build 386 || arm

package spawn

import "golang.org/x/sys/unix"

// The older system calls have 16-bit IDs here, see setuid(2).
const (
	sysSetgroups = unix.SYS_SETGROUPS32
	sysSetgid    = unix.SYS_SETGID32
	sysSetuid    = unix.SYS_SETUID32
)
