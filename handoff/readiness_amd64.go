package handoff

import "golang.org/x/sys/unix"

// The older forms, which only some architectures have.
const (
	sysPoll   = unix.SYS_POLL
	sysSelect = unix.SYS_SELECT
)
