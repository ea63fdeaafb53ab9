package entry

import "syscall"

// stubborn are the signals that Go's runtime unblocks in every thread: faults,
// those it sends itself, and the first real-time ones, which libc uses.
// SIGCHLD, which it unblocks too, is left to os/signal.
var stubborn = [...]syscall.Signal{
	syscall.SIGILL, syscall.SIGTRAP, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGSEGV, syscall.SIGSTKFLT,
	syscall.SIGURG, syscall.SIGPROF, 32, 33, 34,
}

// deadly are those that it unblocks because they end a Go program, where
// hotinit_entry did not keep it from that.
var deadly = [...]syscall.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGTERM, syscall.SIGSYS,
}

// Read by hotinit_catch, in a signal handler: written before it is installed.
var (
	//lint:ignore U1000 hotinit_catch writes to it
	catchFD int
	chained [signals + 1]uintptr // the handler found for each signal
)

// CatchUnblockable makes the signals that cannot be kept blocked in a Go
// program arrive at fd, each as one byte, its number, when somebody sends them
// by kill(2) or sigqueue(3). fd must be open as long as the process lives, and
// be non-blocking: what does not fit is lost.
//
// These are ILL, TRAP, BUS, FPE, SEGV, STKFLT, URG, PROF, 32, 33 and 34; and
// where the entry point did not run HUP, INT, QUIT, ABRT, TERM and SYS.
// os/signal refuses to hand on 32, 33 and 34, whose default action would end
// a hotinit that is not PID 1. Where such a signal is ignored, it is caught all
// the same. A fault, and what threads send each other by tgkill(2), goes on to
// Go's (or libc's) handler. A child has none of this: execve(2) resets
// handlers.
//
// On architectures other than amd64 and arm64 it returns ENOSYS.
func CatchUnblockable(fd int) error {
	catch, restorer := handler()
	if catch == 0 {
		return &Error{"catch signals without os/signal on this architecture", syscall.ENOSYS}
	}
	catchFD = fd
	for _, n := range stubborn {
		if err := catchOne(int(n), catch, restorer); err != nil {
			return err
		}
	}
	if holds {
		return nil
	}
	for _, n := range deadly {
		if err := catchOne(int(n), catch, restorer); err != nil {
			return err
		}
	}
	return nil
}

func catchOne(n int, catch, restorer uintptr) error {
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
