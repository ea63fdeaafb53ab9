package main

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A brood is what one parent leaves behind when it ends. The larger it is, the
// fewer processes are started that are no orphans.
const brood = 50

// leave starts n processes whose parent ends before anybody waited for them.
// Every second one ends while its parent still runs and is handed on as a
// zombie, the others are handed on alive: init has to collect both kinds.
func leave(n int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// None of them has a stack that a signal handler could use.
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return fmt.Errorf("cannot block signals: %w", err)
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)

	for n > 0 {
		count := min(n, brood)
		pid := startBrood(count)
		if pid == -int(unix.EAGAIN) { // the limit of processes: until some are collected
			runtime.Gosched()
			continue
		}
		if pid < 0 {
			return fmt.Errorf("cannot start a process: %w", unix.Errno(-pid))
		}
		for {
			_, err := unix.Wait4(pid, nil, 0, nil)
			if err == nil {
				break
			}
			if err != unix.EINTR {
				return fmt.Errorf("cannot wait for process %d: %w", pid, err)
			}
		}
		n -= count
	}
	return nil
}

// startBrood starts a process that starts n more and ends, and returns its PID
// or a negative error number. All of them share this process's memory, so that
// nothing has to be copied to start one, and touch none of it, not even a
// stack: they live in registers and system calls, hence in assembly. A fork(2)
// of a Go process for each would take ten times as long.
func startBrood(n int) (pid int)

// child forks a process that waits for a signal to end it, in a session of its
// own where asked to.
func child(session bool) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if _, errno := forkSleeper(session); errno != 0 {
		return fmt.Errorf("cannot fork: %w", errno)
	}
	return nil
}

// outlive leaves two processes that nobody asked to end: one in the
// generation's process group and one in a session of its own.
func outlive() error {
	if err := child(false); err != nil {
		return err
	}
	return child(true)
}

//go:noinline
//go:norace
func forkSleeper(session bool) (uintptr, unix.Errno) {
	pid, errno := rawFork()
	if errno != 0 || pid != 0 {
		return pid, errno
	}
	if session {
		unix.RawSyscall(unix.SYS_SETSID, 0, 0, 0)
	}
	defaultAction(unix.SIGTERM)
	for {
		unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
	}
}

// defaultAction undoes what Go's runtime has done about a signal. A struct
// sigaction of zeros is SIG_DFL.
//
//go:norace
func defaultAction(s unix.Signal) {
	var action [4]uint64
	unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
}

// endBy ends this process by a signal whose default action is to end one.
func endBy(s unix.Signal) {
	unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	defaultAction(s)
	unix.Kill(unix.Getpid(), s)
	select {}
}

//go:norace
func rawFork() (uintptr, unix.Errno) {
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	return pid, errno
}
