//go:build !amd64

package handoff

// This architecture has ppoll(2) and pselect6(2) only.
const (
	sysPoll   = -1
	sysSelect = -2
)
