//go:build amd64 || arm64

package trim

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// bounds returns the addresses of the code and of the constant data, which the
// linker defines.
func bounds() (text, etext, rodata, erodata uintptr)

func drop() {
	text, etext, rodata, erodata := bounds()
	give(text, etext)
	give(rodata, erodata)
}

// give unmaps the whole pages of a read-only part of the executable. After
// MADV_DONTNEED, see madvise(2), the kernel maps them from the page cache again
// when they are used. A failure costs memory only.
func give(from, to uintptr) {
	page := uintptr(os.Getpagesize())
	from = (from + page - 1) / page * page
	to = to / page * page
	if from < to {
		_, _, _ = syscall.RawSyscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED)
	}
}
