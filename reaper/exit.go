package reaper

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/exitcode"
)

// Exit is how a process ended.
type Exit struct {
	Code   int         // what it exited with, if Signal is 0
	Signal unix.Signal // what killed it
	Known  bool        // false: it ended, and nobody can tell how
}

// Status returns what a shell reports: the code, or 128 plus the signal. It is 0 if
// the end is not known: check Known first.
func (e Exit) Status() int {
	if e.Signal != 0 {
		return exitcode.Signaled(e.Signal)
	}
	return e.Code
}

func (e Exit) String() string {
	switch {
	case !e.Known:
		return "ended (its status is not known)"
	case e.Signal != 0:
		s := "killed by signal " + strconv.Itoa(int(e.Signal))
		if name := unix.SignalName(e.Signal); name != "" {
			s += " (" + name + ")"
		}
		return s
	default:
		return "exited with status " + strconv.Itoa(e.Code)
	}
}

// fromWait converts a status of wait4(2).
func fromWait(ws unix.WaitStatus) Exit {
	if ws.Signaled() {
		return Exit{Signal: ws.Signal(), Known: true}
	}
	return Exit{Code: ws.ExitStatus(), Known: true}
}
