package entry

import "syscall"

const (
	firstCaught = 32
	lastCaught  = 34
)

// Read by hotinit_catch, in a signal handler: written before it is installed.
var (
	catchFD int
	chained [lastCaught - firstCaught + 1]uintptr
)

// CatchUnblockable makes the signals 32, 33 and 34 arrive at fd, each as one
// byte, its number. fd must be open as long as the process lives, and be
// non-blocking: what does not fit is lost.
//
// Go's runtime unblocks these three in every thread, and os/signal refuses to
// hand them on: their default action would end a hotinit that is not PID 1.
// (The first real-time signals belong to libc, which uses 32 to cancel threads
// and 33 to have every thread change its user ID; Go's runtime does the latter
// itself where there is no libc, with a handler for 33.) So signals that one
// thread sends another by tgkill(2) go to the handler found here, as before;
// those sent by kill(2) or sigqueue(3) are what fd gets. A child has none of
// this: execve(2) resets handlers.
//
// On architectures other than amd64 and arm64 it returns ENOSYS.
func CatchUnblockable(fd int) error {
	catch, restorer := handler()
	if catch == 0 {
		return &Error{"catch signals 32, 33 and 34 on this architecture", syscall.ENOSYS}
	}
	catchFD = fd
	for n := firstCaught; n <= lastCaught; n++ {
		var old sigaction
		if err := action(n, nil, &old); err != nil {
			return &Error{"read a signal's disposition", err}
		}
		if old.handler == catch {
			continue
		}
		chained[n-firstCaught] = 0
		if old.handler > sigIgn {
			chained[n-firstCaught] = old.handler
		}
		// SA_ONSTACK: a goroutine's stack is too small for a handler.
		// SA_RESTART: no system call of Go's ends for it with EINTR.
		set := sigaction{handler: catch, flags: catchFlags, restorer: restorer, mask: ^uint64(0)}
		if err := action(n, &set, nil); err != nil {
			return &Error{"catch a signal", err}
		}
	}
	return nil
}
