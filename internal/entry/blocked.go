package entry

import (
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// carrier is the environment variable in which EnsureBlocked and Execute pass the
// signal state to the hotinit that they execute: PID:BLOCKED:IGNORED, the sets in
// hexadecimal. execve(2) keeps the PID, so a value that another process left in
// the environment does not match. Execute adds the number of a descriptor, and
// TrialEnviron another one, with trial for the PID.
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

// trial stands for the PID in what TrialEnviron writes.
const trial = "trial"

func encode(s Signals, pid int) string {
	return strconv.Itoa(pid) + ":" + s.encode()
}

func (s Signals) encode() string {
	return strconv.FormatUint(s.Blocked, 16) + ":" + strconv.FormatUint(s.Ignored, 16)
}

// decode reads a carrier. h is nil where it has no descriptor.
func decode(v string, pid int) (s Signals, h *Handed, ok bool) {
	f := strings.Split(v, ":")
	own := f[0] == strconv.Itoa(pid) && (len(f) == 3 || len(f) == 4)
	if !own && (f[0] != trial || len(f) != 5) {
		return s, nil, false
	}
	var err error
	if s.Blocked, err = strconv.ParseUint(f[1], 16, 64); err != nil {
		return Signals{}, nil, false
	}
	if s.Ignored, err = strconv.ParseUint(f[2], 16, 64); err != nil {
		return Signals{}, nil, false
	}
	if len(f) == 3 {
		return s, nil, true
	}
	fds := [2]int{-1, -1}
	for i, text := range f[3:] {
		if fds[i], err = strconv.Atoi(text); err != nil || fds[i] < 0 {
			return Signals{}, nil, false
		}
	}
	return s, &Handed{State: fds[0], Answer: fds[1]}, true
}
