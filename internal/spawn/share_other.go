//go:build !amd64

package spawn

import "golang.org/x/sys/unix"

// forkShared needs a few instructions of assembly.
func (im *image) forkShared() (uintptr, unix.Errno) { return 0, unix.EINVAL }
