package entry

import (
	"math/bits"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// stubborn are the signals that Go's runtime unblocks in every thread: faults,
// the signals it sends itself, and the first real-time signals, which libc uses.
// The runtime unblocks SIGCHLD too, which is left to os/signal.
var stubborn = [...]syscall.Signal{
	syscall.SIGILL, syscall.SIGTRAP, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGSEGV, syscall.SIGSTKFLT,
	syscall.SIGURG, syscall.SIGPROF, 32, 33, 34,
}

// deadly are the signals that the runtime unblocks because they end a Go program.
var deadly = [...]syscall.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGTERM, syscall.SIGSYS,
}

// faults are the signals that become panics.
var faults = [...]syscall.Signal{syscall.SIGBUS, syscall.SIGFPE, syscall.SIGSEGV}

// Shared with hotinit_catch, a signal handler. It is installed before catchFD is
// known: until then it sets the signal's bit in sentEarly.
var (
	//lint:ignore U1000 hotinit_catch reads it
	catchFD   = -1
	sentEarly uint64
	chained   [signals + 1]uintptr // the handler found for each signal
	faultMask uint64               // the faults that have the handler
)

// Read by hotinit_catch.
var (
	//lint:ignore U1000 hotinit_catch reads it
	childFD int
	//lint:ignore U1000 hotinit_catch adds it to the eventfd(2)
	one uint64 = 1
)

// CatchChildren adds to fd, a non-blocking eventfd(2), upon each SIGCHLD. os/signal
// would keep a thread for it. Nothing else in the process gets SIGCHLD then. fd must
// stay open as long as the process lives.
//
// On architectures other than amd64 and arm64 it returns ENOSYS.
func CatchChildren(fd int) error {
	if catch, _ := handler(); catch == 0 {
		return &Error{"catch SIGCHLD without os/signal on this architecture", syscall.ENOSYS}
	}
	childFD = fd
	return catchOne(int(syscall.SIGCHLD))
}

// Blockable reports whether a signal stays blocked in all threads, so that it can
// be read from a signalfd(2). CatchUnblockable receives the others, except
// SIGCHLD, which os/signal receives.
func Blockable(n syscall.Signal) bool {
	unblocked := stubborn[:]
	if held() {
		unblocked = faults[:]
	}
	return n != syscall.SIGCHLD && n != syscall.SIGURG && !slices.Contains(unblocked, n)
}

// CatchUnblockable writes a byte to fd, the signal's number, for each signal that
// is not Blockable (except SIGCHLD) and was sent by kill(2) or sigqueue(3), or by
// another process with tgkill(2). fd must stay open as long as the process lives.
// It must be non-blocking; a byte for which it has no room is lost.
//
// With the entry point these signals are BUS, FPE, SEGV and URG, and those that
// were sent before this call are written too. Without it, or in Fallback, they
// are also ILL, TRAP, STKFLT, PROF, 32, 33, 34, HUP, INT, QUIT, ABRT, TERM and
// SYS, and only those that are sent after this call are written. (os/signal does
// not pass on 32, 33 and 34.) A signal that was ignored is caught as well. A
// fault, and a signal that a thread of this process sent with tgkill(2), goes on
// to the handler of Go or libc. Children inherit no handler: execve(2) resets them.
//
// On architectures other than amd64 and arm64 it returns ENOSYS.
func CatchUnblockable(fd int) error {
	if catch, _ := handler(); catch == 0 {
		return &Error{"catch signals without os/signal on this architecture", syscall.ENOSYS}
	}
	catchFD = fd
	for set := atomic.SwapUint64(&sentEarly, 0); set != 0; set &= set - 1 {
		_, _ = syscall.Write(fd, []byte{byte(bits.TrailingZeros64(set) + 1)})
	}
	if held() {
		return nil
	}
	self = uint32(syscall.Getpid())
	for _, n := range stubborn {
		if err := catchOne(int(n)); err != nil {
			return err
		}
	}
	for _, n := range deadly {
		if err := catchOne(int(n)); err != nil {
			return err
		}
	}
	return nil
}

// catchFaults installs hotinit_catch for the faults and then unblocks them. A
// fault signal may also have been sent by another process; Go's handler would end
// hotinit for it, so hotinit_entry has blocked the faults too.
func catchFaults() {
	for _, n := range faults {
		if catchOne(int(n)) == nil {
			faultMask |= 1 << (n - 1)
			// Go's runtime reads the table for each new thread.
			*(*int32)(unsafe.Add(table, n*entrySize)) |= sigUnblock
		}
	}
	_ = procmask(sigUnblockMask, &faultMask, nil)
	releaseThreads()
}

// releaseThreads unblocks the signals of faultMask in the threads that exist
// already (Go's monitor, and one that ran its first goroutines). Each is sent a
// SIGURG, for which hotinit_catch changes the thread's mask. Where /proc cannot be
// read these threads keep the faults blocked, and a fault in one of them ends the
// process instead of becoming a panic.
func releaseThreads() {
	fd, err := syscall.Open("/proc/self/task", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer syscall.Close(fd)
	pid := syscall.Getpid()
	var buf [1024]byte // a dozen threads
	n, _ := syscall.ReadDirent(fd, buf[:])
	_, _, names := syscall.ParseDirent(buf[:max(n, 0)], -1, nil)
	for _, name := range names {
		if tid, err := strconv.Atoi(name); err == nil && tid != pid {
			_, _, _ = syscall.RawSyscall(syscall.SYS_TGKILL, uintptr(pid), uintptr(tid), uintptr(syscall.SIGURG))
		}
	}
}

const (
	entrySize  = 24  // of Go's table of signals
	sigUnblock = 128 // _SigUnblock, its flag

	sigUnblockMask = 1 // SIG_UNBLOCK
)

func catchOne(n int) error {
	catch, restorer := handler()
	var old sigaction
	if err := action(n, nil, &old); err != nil {
		return &Error{"read a signal's disposition", err}
	}
	if old.handler == catch {
		return nil
	}
	chained[n] = 0
	if old.handler > sigIgn {
		chained[n] = old.handler
	}
	// SA_ONSTACK: a goroutine's stack is too small for a handler.
	// SA_RESTART: the system calls of Go's runtime do not fail with EINTR.
	set := sigaction{handler: catch, flags: catchFlags, restorer: restorer, mask: ^uint64(0)}
	if err := action(n, &set, nil); err != nil {
		return &Error{"catch a signal", err}
	}
	return nil
}
