package reaper

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ReleaseTraced lets go the children that have stopped for this process as their
// tracer: each goes on by itself, with the signal that it stopped at. A child makes
// its parent the tracer with PTRACE_TRACEME, ptrace(2), and hotinit traces nobody.
//
// The kernel takes the thread that forked the child for the tracer, and detaches
// for no other. So ReleaseTraced must be called on that thread.
//
// It is called upon SIGCHLD. No pidfd reports such a stop.
func ReleaseTraced() {
	for {
		var info siginfo
		// Without WNOWAIT, so that a child that stays stopped (SIGSTOP) is found
		// once. Without WEXITED an end stays where Process finds it. WALL: a thread
		// of a child can be traced alone.
		err := waitid(unix.P_ALL, 0, &info, unix.WSTOPPED|unix.WNOHANG|unix.WALL)
		if err != nil || info.pid == 0 {
			return
		}
		if info.code == cldTrapped {
			detach(int(info.pid), unix.Signal(info.status))
		}
	}
}

// Stopped reports whether a child has stopped, which ReleaseTraced is to see. Any
// thread may ask.
func Stopped() bool {
	var info siginfo
	err := waitid(unix.P_ALL, 0, &info, unix.WSTOPPED|unix.WNOHANG|unix.WNOWAIT|unix.WALL)
	return err == nil && info.pid != 0
}

func detach(pid int, sig unix.Signal) {
	// Only who is traced gets a SIGTRAP from its own execve(2). It looks as if the
	// process had sent it to itself by kill(2).
	const siUser = 0
	var stop siginfo
	_, _, e := syscall.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_GETSIGINFO, uintptr(pid), 0, uintptr(unsafe.Pointer(&stop)), 0, 0)
	if e != 0 || sig == unix.SIGTRAP && stop.code == siUser && int(stop.pid) == pid {
		sig = 0 // an error: the whole process has stopped, and stays so
	}
	_, _, _ = syscall.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_DETACH, uintptr(pid), 0, uintptr(sig), 0, 0)
}
