package spawn

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// runtime_BeforeFork blocks all signals in this thread, and makes growth of the
// stack fatal. runtime_AfterFork undoes both. Go's runtime allows other packages
// to link to them. (The third function, for the child, would unblock signals while
// hotinit's handlers are still installed. The child sets dispositions and mask.)
//
//go:linkname runtime_BeforeFork syscall.runtime_BeforeFork
func runtime_BeforeFork()

//go:linkname runtime_AfterFork syscall.runtime_AfterFork
func runtime_AfterFork()

// fork starts the child, with shared memory if possible. It does not return in
// the child.
//
// The child has one thread, and a thread that it does not have may hold any lock
// of the runtime. So until execve(2) it does not allocate, grow the stack
// (nosplit), write a pointer (barriers), or call the race detector: it only makes
// raw system calls on what newImage prepared.
//
//go:noinline
//go:norace
func (im *image) fork() (pid uintptr, err unix.Errno) {
	// CLONE_PIDFD, unlike pidfd_open(2), leaves no moment without a pidfd. Linux
	// before 5.2 ignores the flag.
	if pid, err = im.forkShared(); err != unix.EINVAL {
		return pid, err
	}
	runtime_BeforeFork()
	// No CLONE_VM: the child gets a copy.
	const flags = uintptr(unix.SIGCHLD | unix.CLONE_PIDFD)
	if pid, err = im.cloneInto(); err != 0 {
		pid, err = clone(flags, &im.pidfd)
	}
	if err == unix.EINVAL { // an emulator that refuses the flag
		pid, err = clone(flags&^unix.CLONE_PIDFD, &im.pidfd)
	}
	if err != 0 || pid != 0 {
		runtime_AfterFork()
		return pid, err
	}
	im.child()
	return 0, 0
}

// child turns the copy of hotinit into the program.
//
//go:noinline
//go:norace
//go:nosplit
func (im *image) child() {
	if im.filter != nil {
		im.installFilter()
	}
	if im.gated {
		// The child's own writing end would keep the pipe open.
		sys(unix.SYS_CLOSE, im.gate[1], 0, 0)
		n, _, _ := syscall.RawSyscall(unix.SYS_READ, im.gate[0], uintptr(unsafe.Pointer(&im.byte[0])), 1)
		for n != 1 {
			// The parent has ended before it let the child go on.
			sys(unix.SYS_EXIT_GROUP, 127, 0, 0)
		}
	}
	if im.setsid {
		if e := sys(unix.SYS_SETSID, 0, 0, 0); e != 0 {
			im.fail(stageSession, e)
		}
	}
	if im.setpgid {
		if e := sys(unix.SYS_SETPGID, 0, 0, 0); e != 0 {
			im.fail(stageGroup, e)
		}
	}

	im.shuffle()

	if im.terminal >= 0 {
		// The new session has no controlling terminal yet, see
		// TIOCSCTTY(2const). EPERM: another session has the terminal, such as a
		// shell's, and the new session stays without one.
		others := false
		if im.setsid {
			e := sys(unix.SYS_IOCTL, uintptr(im.terminal), unix.TIOCSCTTY, 0)
			if e != 0 && e != unix.EPERM {
				im.fail(stageTerminal, e)
			}
			others = e != 0
		}
		// In a background process SIGTTOU would stop the child here, but it is
		// blocked, see tcsetpgrp(3).
		pgid, _, _ := syscall.RawSyscall(unix.SYS_GETPGID, 0, 0, 0)
		im.pgid = int32(pgid)
		if e := sys(unix.SYS_IOCTL, uintptr(im.terminal), unix.TIOCSPGRP, uintptr(unsafe.Pointer(&im.pgid))); e != 0 && !others {
			im.fail(stageForeground, e)
		}
	}
	if im.umask >= 0 {
		sys(unix.SYS_UMASK, uintptr(im.umask), 0, 0)
	}
	// After the descriptors, whose numbers may be above the limit.
	if im.limit != nil {
		if e := sys6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(im.limit)), 0, 0); e != 0 {
			im.fail(stageLimit, e)
		}
	}

	im.identity()

	if im.dir != nil {
		if e := sys(unix.SYS_CHDIR, uintptr(unsafe.Pointer(im.dir)), 0, 0); e != 0 {
			im.fail(stageChdir, e)
		}
	}
	pid, _, _ := syscall.RawSyscall(unix.SYS_GETPID, 0, 0, 0)
	for _, b := range im.self {
		digits(b, pid)
	}

	if im.slack > 0 {
		sys(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, im.slack, 0)
	}
	im.dispositions()
	im.exec()
}

// shuffle moves each descriptor to its number, and makes all others
// close-on-exec.
//
//go:noinline
//go:norace
//go:nosplit
func (im *image) shuffle() {
	n := uintptr(len(im.files))
	// First every descriptor that is needed, and whose number becomes another's,
	// moves above those numbers, so that nothing is overwritten before it is used.
	im.report = im.above(im.report, n)
	if im.fd >= 0 {
		im.fd = int(im.above(uintptr(im.fd), n))
	}
	for i, fd := range im.files {
		if i < len(im.moved) {
			im.moved[i] = uintptr(fd)
			if fd >= 0 && fd != i {
				im.moved[i] = im.above(uintptr(fd), n)
			}
		}
	}
	im.closeOnExec()
	for i, fd := range im.files {
		e := syscall.Errno(0)
		switch {
		case fd < 0: // execve(2) closes number i
		case fd == i:
			e = sys(unix.SYS_FCNTL, uintptr(fd), unix.F_SETFD, 0)
		case i < len(im.moved):
			e = sys(unix.SYS_DUP3, im.moved[i], uintptr(i), 0) // without O_CLOEXEC
		}
		if e != 0 {
			im.fail(stageFiles, e)
		}
	}
}

// closeOnExec makes all descriptors close-on-exec.
//
//go:noinline
//go:norace
//go:nosplit
func (im *image) closeOnExec() {
	if im.noRange {
		for fd := range im.fdTable {
			sys(unix.SYS_FCNTL, uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC)
		}
		return
	}
	if e := sys(unix.SYS_CLOSE_RANGE, 0, uintptr(^uint32(0)), unix.CLOSE_RANGE_CLOEXEC); e != 0 {
		im.fail(stageFiles, e)
	}
}

// above returns fd if it is n or higher, and otherwise a copy that is.
//
//go:noinline
//go:norace
//go:nosplit
func (im *image) above(fd, n uintptr) uintptr {
	if fd >= n {
		return fd
	}
	high, _, e := syscall.RawSyscall(unix.SYS_FCNTL, fd, unix.F_DUPFD_CLOEXEC, n)
	if e != 0 {
		im.fail(stageFiles, e)
	}
	return high
}

// identity sets the groups first: the new user may not.
//
//go:noinline
//go:norace
//go:nosplit
func (im *image) identity() {
	if c := im.cred; c != nil {
		if e := sys(sysSetgroups, uintptr(im.nGroups), uintptr(unsafe.Pointer(im.groups)), 0); e != 0 {
			im.fail(stageGroups, e)
		}
		if e := sys(sysSetgid, uintptr(c.GID), 0, 0); e != 0 {
			im.fail(stageGID, e)
		}
		if e := sys(sysSetuid, uintptr(c.UID), 0, 0); e != 0 {
			im.fail(stageUID, e)
		}
	}
	if im.noPrivs {
		if e := sys6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); e != 0 {
			im.fail(stageNoNewPrivs, e)
		}
	}
}

// dispositions sets the dispositions before the mask, so that none of hotinit's
// handlers can run.
//
//go:noinline
//go:norace
//go:nosplit
func (im *image) dispositions() {
	for n := uintptr(1); n <= signals; n++ {
		im.action.handler = 0
		if im.signals.Ignored&(1<<(n-1)) != 0 {
			im.action.handler = sigIgn
		}
		// SIGKILL and SIGSTOP cannot be set: EINVAL.
		sys6(unix.SYS_RT_SIGACTION, n, uintptr(unsafe.Pointer(&im.action)), 0, 8, 0)
	}
	if e := sys6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&im.signals.Blocked)), 0, 8, 0); e != 0 {
		im.fail(stageSignals, e)
	}
}

// exec executes the program, or reports why it cannot.
//
//go:noinline
//go:norace
//go:nosplit
func (im *image) exec() {
	argv := uintptr(unsafe.Pointer(unsafe.SliceData(im.argv)))
	shArgv := uintptr(unsafe.Pointer(unsafe.SliceData(im.shArgv)))
	env := uintptr(unsafe.Pointer(unsafe.SliceData(im.env)))
	path := uintptr(unsafe.Pointer(im.path))

	if im.fd < 0 {
		e := sys(unix.SYS_EXECVE, path, argv, env)
		if e == unix.ENOEXEC {
			e = im.execShell(shArgv, env)
		}
		im.fail(stageExec, e)
	}

	fd := uintptr(im.fd)
	e := sys6(unix.SYS_EXECVEAT, fd, path, argv, env, unix.AT_EMPTY_PATH)
	if e == unix.ENOENT {
		// The interpreter of a script has to open /dev/fd/N, and N is
		// close-on-exec: see BUGS in execveat(2). (Or it does not exist.)
		sys(unix.SYS_FCNTL, fd, unix.F_SETFD, 0)
		e = sys6(unix.SYS_EXECVEAT, fd, path, argv, env, unix.AT_EMPTY_PATH)
	}
	if e == unix.ENOEXEC {
		sys(unix.SYS_FCNTL, fd, unix.F_SETFD, 0)
		digits(im.fdPath[len(fdPrefix):], fd)
		e = im.execShell(shArgv, env)
	}
	im.fail(stageExec, e)
}

// execShell runs a file without #! as a shell script, see execvp(3). An error of
// the shell is not reported: the file cannot be executed.
//
//go:noinline
//go:norace
//go:nosplit
func (im *image) execShell(argv, env uintptr) syscall.Errno {
	sys(unix.SYS_EXECVE, uintptr(unsafe.Pointer(im.shell)), argv, env)
	return unix.ENOEXEC
}

// fail reports to Start, and ends the child.
//
//go:noinline
//go:norace
//go:nosplit
func (im *image) fail(st stage, e syscall.Errno) {
	im.result[0], im.result[1] = uint32(st), uint32(e)
	sys(unix.SYS_WRITE, im.report, uintptr(unsafe.Pointer(&im.result[0])), reportBytes)
	for {
		sys(unix.SYS_EXIT_GROUP, 127, 0, 0)
	}
}

// digits writes n in decimal, and a NUL.
//
//go:noinline
//go:norace
//go:nosplit
func digits(b []byte, n uintptr) {
	length := 1
	for m := n; m >= 10; m /= 10 {
		length++
	}
	if length >= len(b) {
		return
	}
	b[length] = 0
	for i := length - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}

//go:norace
//go:nosplit
func sys(trap, a, b, c uintptr) syscall.Errno {
	_, _, e := syscall.RawSyscall(trap, a, b, c)
	return e
}

//go:norace
//go:nosplit
func sys6(trap, a, b, c, d, f uintptr) syscall.Errno {
	_, _, e := syscall.RawSyscall6(trap, a, b, c, d, f, 0)
	return e
}
