//go:build !amd64

package serving

// Calls that this architecture does without.
const (
	sysPoll      = -2
	sysSelect    = -3
	sysEpollWait = -4
)
