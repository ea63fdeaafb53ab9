package handoff

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// What hotinit was started with: its directory and its first descriptors.

// absolute returns the absolute path for one that is relative to home.
func absolute(home, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(home, path)
}

// std returns the first three descriptors of a generation. Of the programs that files
// made none reads what hotinit was given to read: they would take it from one another.
func (s *common) std() [3]int {
	std := std()
	if s.member {
		std[0] = s.null
	}
	return std
}

// std returns hotinit's own first three descriptors, -1 for a closed one.
func std() [3]int {
	std := [3]int{0, 1, 2}
	for i := range std {
		if _, err := unix.FcntlInt(uintptr(i), unix.F_GETFD, 0); err != nil {
			std[i] = -1
		}
	}
	return std
}
