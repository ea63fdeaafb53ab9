package entry

import (
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// carrier is the environment variable in which EnsureBlocked passes the signal
// state to the hotinit that it executes: PID:BLOCKED:IGNORED, the sets in
// hexadecimal. execve(2) keeps the PID, so a value that another process left in
// the environment does not match.
const carrier = "HOTINIT_ENTRY"

// EnsureBlocked makes sure that all signals are blocked in all threads, except
// those that CatchUnblockable and os/signal receive.
//
// Where the entry point ran nothing is left to do. Otherwise it blocks all signals
// in this thread and executes hotinit again, because execve(2) keeps the mask and
// the other threads' masks cannot be changed. It does not return then.
// syscall.Exec restores RLIMIT_NOFILE.
//
// argv is the command line of the second execution, argv[0] included. main calls
// EnsureBlocked before it does anything else.
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
	env := append(carriedEnviron(), carrier+"="+encode(inherited, syscall.Getpid()))
	err := syscall.Exec("/proc/self/exe", argv, env)
	_ = procmask(sigSetMask, &before, nil)
	return &Error{"execute /proc/self/exe again with all signals blocked " +
		"(is /proc mounted? a build with -ldflags '-E hotinit_entry' does not need this)", err}
}

// carried is true in the second execution, after EnsureBlocked.
var carried bool

// Error is an operation that failed, and why.
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
