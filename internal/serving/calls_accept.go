//go:build !386 && !s390x

package serving

import "golang.org/x/sys/unix"

const sysAccept = unix.SYS_ACCEPT
