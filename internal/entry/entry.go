// Package entry knows what hotinit was started with, and that no signal sent
// since then was lost.
//
// Invariant: from hotinit's first instruction on every signal that can be
// blocked is blocked, so that it waits (pending) until init reads it; and
// Inherited tells what an app must get back, as if it had been executed
// directly.
//
// Go's runtime installs handlers for nearly all signals before main runs: a
// SIGTERM that arrives then kills the process, and which signals were ignored
// is forgotten. There are two ways around it, and one code path after both:
//
//   - The official build is linked with -ldflags '-E hotinit_entry'. Then the
//     kernel starts hotinit_entry (entry_GOARCH.s) instead of Go's own entry
//     point. Exact reports true.
//   - A plain build learns what it still can (init below), and EnsureBlocked
//     executes hotinit a second time with all signals blocked. Those that Go's
//     runtime unblocks (stubborn, deadly) are not: they have their default
//     action until CatchUnblockable.
//
// What hotinit_entry does before it goes on to Go's own entry point:
//
//   - It saves the mask and the dispositions, and blocks all signals.
//   - It starts the handoff (amd64), as spawn would, with a pair of sockets, so that
//     the two Go runtimes come up side by side and not one after the other: a
//     sixth of a start. Init takes it over, see TakeHandoff. The child shares the
//     memory until it executes itself, so it has a stack and an argv of its own.
//   - It changes the flags that Go's table of signals (runtime.sigtable) has for
//     those that the runtime would unblock in every thread (signals.h), so that
//     they stay blocked. SIGURG is unblocked all the same, for preemption: it
//     gets a handler at once, and Go none. (Threads are preempted at calls then,
//     which they make all the time.) SEGV, BUS and FPE, which become panics, are
//     let go once they have one, see catchFaults. If the table looks other than
//     expected, nothing of this is done.
//   - It sets how often Go's monitor thread wakes to see whether two minutes have
//     passed without a garbage collection (runtime.forcegcperiod) to never:
//     hotinit collects by itself.
//   - It puts GOMAXPROCS=1 into the environment that Go's runtime sees. What each
//     further processor of its scheduler needs costs time at each start, and
//     memory for good, and it starts fewer threads with one. What is started
//     with GOMAXPROCS of its own gets it, see init.
//
// Read entry.go, then entry_amd64.s, then catch.go for the signals that are
// neither blocked nor handed on by Go's runtime.
//
// Only internal/early and small packages of the standard library are imported:
// this must be ready before nearly everything else.
package entry

import (
	"slices"
	"syscall"
	"unsafe"

	"github.com/hotinit/hotinit/internal/entry/internal/early"
)

// Signals is the part of a process's signal state that survives execve(2).
// Bit N-1 stands for signal N.
type Signals struct{ Blocked, Ignored uint64 }

const (
	signals = 64 // Linux has signals 1 to 64 (but for MIPS), see signal(7)

	sigIgn     = 1 // SIG_IGN
	sigBlock   = 0 // SIG_BLOCK
	sigSetMask = 2 // SIG_SETMASK
	setSize    = 8 // sizeof(kernel sigset_t)
)

// Written by hotinit_entry before there is a Go runtime. The pointers lead
// outside the heap: the garbage collector has no interest in them.
var (
	entered      bool
	savedMask    uint64
	savedActions [signals]sigaction // the one for signal N is at N-1

	table unsafe.Pointer // Go's table of signals, where it was found and changed
	//lint:ignore U1000 hotinit_catch reads it
	self uint32 // PID
	//lint:ignore U1000 hotinit_entry fills it
	urgent sigaction // SIGURG's, where the table was found

	processors *byte // GOMAXPROCS=VALUE, where it was in the environment

	handoffPID   int
	handoffPIDFD = int32(-1)
	handoffPair  [2]int32
	handoffThird int32 // a copy of descriptor 3, where that was inherited
	//lint:ignore U1000 hotinit_entry fills it
	handoffArgv [62]uintptr
	//lint:ignore U1000 the handoff's until it has executed itself
	handoffStack [4096]byte
)

// Early is a handoff that hotinit_entry has started.
type Early struct {
	PID, PIDFD int
	Socket     int // init's end of the pair of sockets, of which it has the other at 3
	// Third is where it has the descriptor 3 that hotinit was started with, 0 if
	// there was none. All others that were inherited have their own numbers.
	Third int
}

// TakeHandoff gives the handoff that hotinit_entry has started, if any, once.
//
// It is there, on amd64, where the command line began with a flag or a path,
// 0, 1 and 2 were open, and GOMAXPROCS was not in the environment.
func TakeHandoff() (Early, bool) {
	if handoffPID == 0 {
		return Early{}, false
	}
	e := Early{PID: handoffPID, PIDFD: int(handoffPIDFD), Socket: int(handoffPair[1]), Third: int(handoffThird)}
	handoffPID = 0
	_ = syscall.Close(int(handoffPair[0]))
	if handoffThird > 0 {
		_ = syscall.Close(int(handoffThird))
	}
	return e, true
}

// held tells whether the signals of signals.h are kept from Go's runtime.
func held() bool { return table != nil }

var inherited Signals

func init() {
	inherited = saved()
	if held() {
		catchFaults()
	}
	if entered {
		restoreProcessors()
	}
	if v, ok := syscall.Getenv(carrier); ok {
		// It is hotinit's own: no app may see it.
		_ = syscall.Unsetenv(carrier)
		if s, ok := decode(v, syscall.Getpid()); ok && !entered {
			inherited, carried = s, true
		}
	}
}

// restoreProcessors makes the environment what it was.
func restoreProcessors() {
	if processors == nil {
		_ = syscall.Unsetenv(gomaxprocs)
		return
	}
	n := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(processors), n)) != 0 {
		n++
	}
	_ = syscall.Setenv(gomaxprocs, string(unsafe.Slice(processors, n)[len(gomaxprocs)+1:]))
}

const gomaxprocs = "GOMAXPROCS"

func saved() Signals {
	if entered {
		s := Signals{Blocked: savedMask}
		for i := range savedActions {
			if savedActions[i].handler == sigIgn {
				s.Ignored |= 1 << i
			}
		}
		return s
	}
	// Go's runtime leaves SIGHUP and SIGINT alone where they were ignored, and
	// has no handler for SIGTSTP, SIGTTIN, SIGTTOU, 32 and 34. It has unblocked
	// in this thread the signals that it needs itself.
	var s Signals
	_ = procmask(sigBlock, nil, &s.Blocked)
	for n := 1; n <= signals; n++ {
		var a sigaction
		if action(n, nil, &a) == nil && a.handler == sigIgn {
			s.Ignored |= 1 << (n - 1)
		}
	}
	return s
}

// Inherited is the signal state that hotinit itself was started with.
func Inherited() Signals { return inherited }

// Exact reports whether the entry point ran. If not, the dispositions other
// than those of HUP, INT, TSTP, TTIN, TTOU, 32 and 34 are taken to be the
// default, and the signals that Go's runtime needs to be unblocked.
func Exact() bool { return entered }

// NoFile is the RLIMIT_NOFILE that hotinit was started with, before Go's
// package syscall raised it. It is not known on architectures other than amd64
// and arm64.
func NoFile() (syscall.Rlimit, bool) {
	return syscall.Rlimit{Cur: early.NoFile.Cur, Max: early.NoFile.Max}, early.Known
}

// Restore gives the process the mask and the dispositions that it was started
// with, for a command that is no init: Ctrl-C ends it. Faults, SIGCHLD and
// SIGURG stay Go's.
func Restore() {
	if !entered {
		return
	}
	mask := savedMask
	for n := 1; n <= signals; n++ {
		if s := syscall.Signal(n); s != syscall.SIGCHLD && s != syscall.SIGURG && !slices.Contains(faults[:], s) {
			_ = action(n, &savedActions[n-1], nil) // of KILL and STOP there is none
		} else {
			mask &^= 1 << (n - 1)
		}
	}
	// In this thread alone, which suffices: a signal to the process goes to a
	// thread that does not block it, signal(7).
	_ = procmask(sigSetMask, &mask, nil)
}

// procmask is rt_sigprocmask(2) for the current thread.
func procmask(how int, set, old *uint64) error {
	_, _, e := syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, uintptr(how),
		uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), setSize, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// action is rt_sigaction(2). os/signal cannot ask for a disposition.
func action(n int, set, old *sigaction) error {
	_, _, e := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(n),
		uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), setSize, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}
