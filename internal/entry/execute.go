package entry

import (
	"runtime"
	"strconv"
	"syscall"
	"unsafe"
)

// Handed is what the hotinit before has left to this one.
type Handed struct {
	State int // the descriptor of its state
	// Answer is the socket where the hotinit before waits for an answer: this
	// process is only to try the state. It is -1 in the hotinit that takes its
	// place.
	Answer int
}

var handed *Handed

// TakeHanded returns what the hotinit before has left, nil where this is the first
// one.
func TakeHanded() *Handed { return handed }

// Execute executes another hotinit, from an open file, in the place of this one.
// The descriptor state stays open for it, which TakeHanded returns there. It gets
// the environment, the signal state, the RLIMIT_NOFILE and the timer slack that the
// first hotinit was started with. Signals that come meanwhile stay pending: those that Go's
// runtime cannot block are blocked in this thread, and execve(2) ends all others.
// It returns only where it failed, and nothing has changed then.
func Execute(file int, argv []string, state int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var limit syscall.Rlimit
	limitErr := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	all := ^uint64(0)
	var before uint64
	if err := procmask(sigSetMask, &all, &before); err != nil {
		return &Error{"block signals", err}
	}
	if slack > 0 {
		_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerslack, uintptr(slack), 0) // execve(2) keeps it
	}
	env := append([]string{carrier + "=" + encode(inherited, syscall.Getpid()) + ":" + strconv.Itoa(state)}, carriedEnviron()...)
	// Not execveat(2): syscall.Exec waits for threads that are being started.
	err := syscall.Exec("/proc/self/fd/"+strconv.Itoa(file), argv, env)
	if limitErr == nil {
		// syscall.Exec has lowered it. syscall.Setrlimit would make it forget what
		// to lower it to.
		_, _, _ = syscall.RawSyscall6(syscall.SYS_PRLIMIT64, 0, syscall.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
	}
	_ = procmask(sigSetMask, &before, nil)
	return err
}

// TrialEnviron is the environment of a process that tries a state: Execute's, but
// for the descriptor of the answer.
func TrialEnviron(state, answer int) []string {
	return append([]string{carrier + "=" + trial + ":" + inherited.encode() +
		":" + strconv.Itoa(state) + ":" + strconv.Itoa(answer)}, carriedEnviron()...)
}
