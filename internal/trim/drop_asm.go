//go:build amd64 || arm64

package trim

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// bounds are the addresses of the code and of the constant data, which the
// linker defines.
func bounds() (text, etext, rodata, erodata uintptr)

func drop() {
	text, etext, rodata, erodata := bounds()
	give(text, etext)
	give(rodata, erodata)
}

// give unmaps the whole pages of a part of the executable that is never
// written to: MADV_DONTNEED of madvise(2) has them read from the file again,
// which is in the page cache. It is of no account if that fails.
func give(from, to uintptr) {
	page := uintptr(os.Getpagesize())
	from = (from + page - 1) / page * page
	to = to / page * page
	if from < to {
		_, _, _ = syscall.RawSyscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED)
	}
}
