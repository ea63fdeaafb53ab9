// Package entry knows the signal state and the limits that hotinit was started
// with, and keeps signals from being lost before hotinit can read them.
//
// Invariant: every signal that can be blocked is blocked from hotinit's first
// instruction on. It stays pending until init reads it. Inherited returns the
// signal state that an app must get, as if the app had been executed directly.
//
// Go's runtime installs handlers for nearly all signals before main runs. A
// SIGTERM that arrives before that kills the process, and the runtime does not
// remember which signals were ignored. There are two ways around this, and both
// lead to the same state:
//
//   - The official build is linked with -ldflags '-E hotinit_entry'. The kernel
//     then starts hotinit_entry (entry_GOARCH.s) instead of Go's own entry
//     point. Exact reports true.
//   - A plain build reads the state that the runtime has left (init below).
//     EnsureBlocked then executes hotinit a second time with all signals blocked.
//     The signals that the runtime unblocks (stubborn, deadly) have their default
//     action until CatchUnblockable is called.
//
// hotinit_entry does the following, and then jumps to Go's own entry point,
// _rt0_GOARCH_linux, with the stack as the kernel made it. docs/design.md has a
// table with the reason for each step and what it saves.
//
//   - It saves the signal mask and the dispositions, and blocks all signals.
//   - It ends with a line where a limit is too low for Go's runtime (limits.go).
//   - It starts the handoff (amd64), with one end of a pair of sockets, so that
//     the Go runtimes of both processes start at the same time. Init takes it
//     over with TakeHandoff. The child shares the memory until it executes
//     hotinit, so it has a stack and an argv of its own.
//   - It changes Go's table of signals (runtime.sigtable, see signals.h): the
//     signals that the runtime would unblock in every thread stay blocked. SIGURG
//     is not blocked, since Go uses it for preemption: it gets a handler at once,
//     and no signal from Go reaches a goroutine. (Goroutines are preempted at
//     function calls only.) SIGSEGV, SIGBUS and SIGFPE, which become panics, are
//     unblocked once they have a handler, see catchFaults.
//   - It lets the threads of Go's runtime sleep a millisecond longer than they ask
//     for. The monitor thread wakes every 20 microseconds as long as the process does
//     something, which takes the processor from what is done.
//   - It puts GOMAXPROCS=1 into the environment that Go's runtime sees. Each
//     further processor of the scheduler costs time at the start, memory, and
//     threads. It hides GODEBUG, GOGC, GOMEMLIMIT and GOTRACEBACK, which are meant
//     for the app. Environ returns all of them as they were.
//
// The table is found by its content. If a Go release changes it, hotinit_entry
// leaves it alone, and Fallback reports true: the signals that the runtime
// unblocks are then as in a plain build.
//
// Read entry.go, then entry_amd64.s, then catch.go for the signals that are
// neither blocked nor passed on by Go's runtime.
//
// The package imports internal/early and a few small packages of the standard
// library, because it must be initialised before nearly everything else.
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

// Written by hotinit_entry before Go's runtime starts. The pointers lead outside
// the heap, so the garbage collector ignores them.
var (
	entered      bool
	savedMask    uint64
	savedActions [signals]sigaction // the one for signal N is at N-1

	table unsafe.Pointer // Go's table of signals; nil where it was not recognised
	//lint:ignore U1000 hotinit_catch reads it
	self uint32 // PID
	//lint:ignore U1000 hotinit_entry fills it
	urgent sigaction // for SIGURG, where the table was found

	slack int64 // the timer slack that hotinit was started with; 0 where it was not changed

	processors *byte // GOMAXPROCS=VALUE of the environment; nil where it was not set

	variables     *byte // the first string of the environment
	variableCount int

	handoffPID   int
	handoffPIDFD = int32(-1)
	handoffPair  [2]int32
	handoffThird int32 // a copy of descriptor 3, where 3 was inherited
	//lint:ignore U1000 hotinit_entry fills it
	handoffArgv [62]uintptr
	//lint:ignore U1000 the handoff's stack until it has executed hotinit
	handoffStack [4096]byte
)

// Early is a handoff that hotinit_entry has started.
type Early struct {
	PID, PIDFD int
	Socket     int // init's end of the pair of sockets; the handoff has the other end as 3
	// Third is the number in the handoff of the descriptor 3 that hotinit was
	// started with, 0 if there was none. All other inherited descriptors have
	// their own numbers there.
	Third int
}

// TakeHandoff returns the handoff that hotinit_entry has started. A second call
// returns none.
//
// hotinit_entry starts one on amd64 where the command line begins with a flag or
// a path and has no flag that looks like --help or --version, where 0, 1 and 2
// are open, and where GOMAXPROCS is not in the environment.
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

// DropHandoff ends the handoff that hotinit_entry has started, if there is one,
// for a command line that needs none.
func DropHandoff() {
	e, ok := TakeHandoff()
	if !ok {
		return
	}
	_ = syscall.Close(e.Socket)
	_ = syscall.Close(e.PIDFD)
	// It is this process's child and has not been waited for, so the PID is its.
	_ = syscall.Kill(e.PID, syscall.SIGKILL)
	for {
		if _, err := syscall.Wait4(e.PID, nil, 0, nil); err != syscall.EINTR {
			return
		}
	}
}

// held reports whether the signals of signals.h are kept from Go's runtime.
func held() bool { return table != nil }

// Fallback reports whether the entry point ran and did not recognise Go's table
// of signals: hotinit was built with a Go release that it does not know, and a
// signal that arrives before CatchUnblockable is called can be lost.
func Fallback() bool { return entered && !held() }

// Table returns the address of Go's table of signals as hotinit_entry found it,
// nil if it did not. Tests compare it with the executable's symbol table.
func Table() unsafe.Pointer { return table }

var inherited Signals

func init() {
	inherited = saved()
	if held() {
		catchFaults()
	}
	if entered {
		restoreProcessors()
	}
	if slack > 0 {
		// This is the first thread, in which the generations are started.
		_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerslack, uintptr(slack), 0)
	}
	if v, ok := syscall.Getenv(carrier); ok {
		// The variable is hotinit's own: no app may see it.
		_ = syscall.Unsetenv(carrier)
		if s, h, ok := decode(v, syscall.Getpid()); ok && (!entered || h != nil) {
			inherited, carried, handed = s, true, h
		}
	}
}

// restoreProcessors undoes hotinit_entry's change of the environment.
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
	// Go's runtime keeps SIGHUP and SIGINT ignored where they were, and installs
	// no handler for SIGTSTP, SIGTTIN, SIGTTOU, 32 and 34. It has unblocked the
	// signals that it needs in this thread.
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

const prSetTimerslack = 29 // PR_SET_TIMERSLACK

// TimerSlack returns the timer slack that hotinit was started with, in nanoseconds,
// prctl(2), where that is not the slack of every thread: else 0.
func TimerSlack() int64 { return slack }

// Inherited returns the signal state that hotinit was started with.
func Inherited() Signals { return inherited }

// Exact reports whether the entry point ran. If it did not, Inherited is partly
// a guess: only HUP, INT, TSTP, TTIN, TTOU, 32 and 34 can be known to be ignored,
// and the signals that Go's runtime needs count as not blocked.
func Exact() bool { return entered }

// NoFile returns the RLIMIT_NOFILE that hotinit was started with, before Go's
// package syscall raised it. It is known on amd64 and arm64 only.
func NoFile() (syscall.Rlimit, bool) {
	return syscall.Rlimit{Cur: early.NoFile.Cur, Max: early.NoFile.Max}, early.Known
}

// Restore sets the mask and the dispositions that the process was started with,
// for a command that does not run as init, so that Ctrl-C ends it. Faults,
// SIGCHLD and SIGURG stay with Go's runtime. SIGPIPE is ignored, which to Go means
// what it always does: writing to a socket that nobody reads is an error, and writing
// to such a standard output ends the process.
func Restore() {
	if !entered {
		return
	}
	mask := savedMask
	savedActions[syscall.SIGPIPE-1] = sigaction{handler: sigIgn}
	for n := 1; n <= signals; n++ {
		if s := syscall.Signal(n); s != syscall.SIGCHLD && s != syscall.SIGURG && !slices.Contains(faults[:], s) {
			_ = action(n, &savedActions[n-1], nil) // fails for KILL and STOP
		} else {
			mask &^= 1 << (n - 1)
		}
	}
	// One thread is enough: the kernel delivers a signal to a thread that does not
	// block it, signal(7).
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

// action is rt_sigaction(2). os/signal cannot read a disposition.
func action(n int, set, old *sigaction) error {
	_, _, e := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(n),
		uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), setSize, 0, 0)
	if e != 0 {
		return e
	}
	return nil
}
