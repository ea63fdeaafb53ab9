package handoff

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/message"
)

// terminal is hotinit's controlling terminal.
type terminal struct {
	link *link
	fd   int // -1 for none
}

// find looks for the terminal. resumed says that the app has its foreground; at
// the start hotinit itself must be in it, for one that was started in the
// background must not take it. free says that the app wants it for a session of
// its own.
func (t *terminal) find(resumed, free bool) {
	for fd := range 3 {
		group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		if err == nil && (group == unix.Getpgrp() || resumed) {
			t.fd = fd
			if free {
				t.free()
			}
			return
		}
	}
}

// free makes init, where it leads the session, let go of its controlling
// terminal, and waits until it has: only then the app's own session can have it
// (--setsid).
func (t *terminal) free() {
	if leader, err := unix.Getsid(0); err != nil || leader != os.Getppid() {
		return // it is a shell's, and stays so
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return
	}
	defer unix.Close(pipe[0])
	err := t.link.SendWait(&message.Terminal{Number: t.fd, FD: pipe[1]})
	unix.Close(pipe[1])
	if err == nil {
		_, _ = unix.Read(pipe[0], make([]byte, 1)) // ends when init closes its copy
	}
}

// give makes a process group the terminal's foreground group. The handoff is in
// the background, where the kernel would send SIGTTOU; that is blocked.
func (t *terminal) give(group int) {
	if t.fd >= 0 {
		_ = unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, group)
	}
}
