// Package cgrouptest has what tests of cgroups need.
package cgrouptest

import "golang.org/x/sys/unix"

// Hierarchy mounts the hierarchy of cgroups (v2) where nobody else sees it, see
// fsmount(2), and returns its root. So a test needs no directory that it is mounted
// at, and leaves no mount behind, however it ends.
func Hierarchy() (int, error) {
	fs, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
}
