// Package kernel says what the kernel's answers to newer system calls mean.
//
// Invariant: a call that is not to be had here, for whatever reason, is told
// from one that failed, and never taken for a verdict on what it was asked.
package kernel

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Missing reports whether an error of a newer system call may mean that it is
// not to be had: the kernel is older, or a filter (seccomp(2)) does not know the
// call. Filters answer ENOSYS, or EPERM as Docker's did for years, or EACCES.
// The caller then goes the older way, which gives the real error if there is
// one.
func Missing(err error) bool {
	return errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
}
