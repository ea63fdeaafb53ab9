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
// those it sends itself, and the first real-time ones, which libc uses.
// SIGCHLD, which it unblocks too, is left to os/signal.
var stubborn = [...]syscall.Signal{
	syscall.SIGILL, syscall.SIGTRAP, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGSEGV, syscall.SIGSTKFLT,
	syscall.SIGURG, syscall.SIGPROF, 32, 33, 34,
}

// deadly are those that it unblocks because they end a Go program.
var deadly = [...]syscall.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGTERM, syscall.SIGSYS,
}

// faults are those that become panics.
var faults = [...]syscall.Signal{syscall.SIGBUS, syscall.SIGFPE, syscall.SIGSEGV}

// Shared with hotinit_catch, a signal handler. It is in place before there is a
// descriptor: until then, it sets the signal's bit in sentEarly.
var (
	//lint:ignore U1000 hotinit_catch reads it
	catchFD   = -1
	sentEarly uint64
	chained   [signals + 1]uintptr // the handler found for each signal
	faultMask uint64               // faults that it handles
	monitor   int32                // the thread of Go's monitor
)

// Blockable tells whether a signal stays blocked in all threads, so that it can
// be read from a signalfd(2). The others are for CatchUnblockable, and SIGCHLD
// for os/signal.
func Blockable(n syscall.Signal) bool {
	unblocked := stubborn[:]
	if held() {
		unblocked = faults[:]
	}
	return n != syscall.SIGCHLD && n != syscall.SIGURG && !slices.Contains(unblocked, n)
}

// CatchUnblockable makes the signals that are not Blockable (but for SIGCHLD)
// arrive at fd, each as one byte, its number, when somebody sends them by
// kill(2) or sigqueue(3), or another process does by tgkill(2). fd must be open
// as long as the process lives, and be non-blocking: what does not fit is lost.
//
// These are BUS, FPE, SEGV and URG, also when they were sent before this call;
// where the entry point did not run, those sent after it, and ILL, TRAP,
// STKFLT, PROF, 32, 33, 34, HUP, INT, QUIT, ABRT, TERM and SYS as well:
// os/signal refuses to hand on 32, 33 and 34. Where such a signal is ignored, it
// is caught all the same. A fault, and what threads send each other by
// tgkill(2), goes on to Go's (or libc's) handler. A child has none of this:
// execve(2) resets handlers.
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

// catchFaults has hotinit_catch in place for what may be a fault or a signal
// that somebody sent, before it lets go of such signals: hotinit_entry had
// blocked them too, as Go's handler would end hotinit for one that was sent.
func catchFaults() {
	for _, n := range faults {
		if catchOne(int(n)) == nil {
			faultMask |= 1 << (n - 1)
			// Threads to come ask the table.
			*(*int32)(unsafe.Add(table, n*entrySize)) |= sigUnblock
		}
	}
	_ = procmask(sigUnblockMask, &faultMask, nil)
	releaseThreads()
}

// releaseThreads unblocks the signals of faultMask in the threads that there are
// already (Go's monitor, and one that ran its first goroutines): each gets a
// SIGURG, upon which hotinit_catch changes the mask. Where /proc cannot be read
// they keep them blocked, and a fault there ends the process instead of
// becoming a panic.
//
// The first of them, the monitor, also gets a timer slack of 1 ms, prctl(2). It
// sleeps for 20 µs at a time while a program starts, and on one processor takes
// a third of the time. A system call that blocks keeps the others from running
// for that much longer, which is the kind of thing that hotinit avoids. (No other
// thread may have the slack: what it starts would inherit it.)
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
	for _, name := range names { // in the order in which they were started
		if tid, err := strconv.Atoi(name); err == nil && tid != pid {
			if monitor == 0 {
				monitor = int32(tid)
			}
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
	// SA_RESTART: no system call of Go's ends for it with EINTR.
	set := sigaction{handler: catch, flags: catchFlags, restorer: restorer, mask: ^uint64(0)}
	if err := action(n, &set, nil); err != nil {
		return &Error{"catch a signal", err}
	}
	return nil
}
