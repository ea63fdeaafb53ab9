package entry

import (
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// carrier is the environment variable by which EnsureBlocked hands the signal
// state to the hotinit that it executes: PID:BLOCKED:IGNORED, the sets in
// hexadecimal. execve(2) keeps the PID, so a value that leaked from elsewhere
// does not fit.
const carrier = "HOTINIT_ENTRY"

// EnsureBlocked makes sure that hotinit runs with all signals blocked in all
// its threads, but for those that CatchUnblockable and os/signal are for.
//
// Where the entry point ran this is so already, and nothing happens. Else a
// thread's mask could be set, but not that of the others, which inherited
// theirs: so all is blocked in this thread, and hotinit executed again, as
// execve(2) keeps the mask. It does not return then. The limit RLIMIT_NOFILE
// is put back by syscall.Exec.
//
// argv is the command line to go on with, argv[0] included. To be called first
// thing in main.
func EnsureBlocked(argv []string) error {
	if entered || carried {
		return nil
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	all := ^uint64(0)
	var before uint64
	if err := procmask(sigSetMask, &all, &before); err != nil {
		return &Error{"block signals", err}
	}
	env := append(syscall.Environ(), carrier+"="+encode(inherited, syscall.Getpid()))
	err := syscall.Exec("/proc/self/exe", argv, env)
	_ = procmask(sigSetMask, &before, nil)
	return &Error{"execute /proc/self/exe again, so as to start with all signals blocked " +
		"(is /proc mounted? building with -ldflags '-E hotinit_entry' makes it needless)", err}
}

// carried tells that this is the second execution, after EnsureBlocked.
var carried bool

// Error says what could not be done.
type Error struct {
	Op  string
	Err error
}

func (e *Error) Error() string { return "cannot " + e.Op + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

func encode(s Signals, pid int) string {
	return strconv.Itoa(pid) + ":" + strconv.FormatUint(s.Blocked, 16) + ":" + strconv.FormatUint(s.Ignored, 16)
}

func decode(v string, pid int) (Signals, bool) {
	who, sets, _ := strings.Cut(v, ":")
	blocked, ignored, _ := strings.Cut(sets, ":")
	if who != strconv.Itoa(pid) {
		return Signals{}, false
	}
	b, err := strconv.ParseUint(blocked, 16, 64)
	if err != nil {
		return Signals{}, false
	}
	i, err := strconv.ParseUint(ignored, 16, 64)
	if err != nil {
		return Signals{}, false
	}
	return Signals{Blocked: b, Ignored: i}, true
}
