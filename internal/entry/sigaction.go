package entry

// sigaction is the kernel's struct sigaction, which differs from libc's.
// hotinit_entry fills an array of them: its size, 32 bytes, is known there.
type sigaction struct {
	handler  uintptr
	flags    uintptr
	restorer uintptr
	mask     uint64
}
