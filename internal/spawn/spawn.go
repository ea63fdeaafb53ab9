// Package spawn starts programs by fork and exec, and sets the child's whole
// process state.
//
// Invariant: the program gets exactly what Spec says (descriptors, signal mask
// and dispositions, limits, identity) and nothing else of hotinit. Start returns
// either a running program or the step that failed, and then no process is left.
//
// syscall.ForkExec cannot do this: it sets neither mask nor dispositions, and
// LISTEN_PID, the child's own PID, must be written into the environment between
// fork and exec.
//
// Read spawn.go (the specification), image.go (what is prepared before the fork),
// fork.go (the child, which may not allocate), and error.go.
package spawn

import (
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/passwd"
)

// Spec says what to execute, and with which process state. The zero value of FD,
// Umask, Foreground and Cgroup means something: set them to -1 for none.
type Spec struct {
	// Path is the file to execute: absolute, or relative to Dir. Start does not
	// search PATH, see LookPath. A file of unknown format is run by the shell, as
	// execvp(3) does, unless NoShell is set: for what is known not to be a script.
	Path    string
	NoShell bool
	// FD, if >= 0, is an open file to execute instead, opened with O_PATH or for
	// reading. Its path may have been replaced or removed since. Path then is used
	// in errors only. A script's interpreter gets the file as /dev/fd/N, which stays
	// open and needs /proc.
	FD   int
	Argv []string
	Env  []string
	// SelfPID names variables that get the child's own PID as their value
	// (LISTEN_PID). They replace those of Env.
	SelfPID []string
	// Files[i] is the descriptor that becomes number i in the child; -1 leaves i
	// closed. No other descriptor is inherited, close-on-exec or not. O_NONBLOCK
	// does not change: it belongs to the open file, which others share.
	Files []int
	Dir   string // "" leaves it
	Umask int    // -1 leaves it

	Signals    entry.Signals      // Blocked is the mask, Ignored is ignored, the rest has its default action
	NoFile     *unix.Rlimit       // nil: what hotinit was started with
	Credential *passwd.Credential // nil leaves it
	NoNewPrivs bool

	Setsid  bool // a session of its own
	Setpgid bool // a process group of its own (Setsid has that too)
	// Foreground, if >= 0, is the child's descriptor of the controlling terminal:
	// the child's group becomes its foreground group. With Setsid the terminal
	// becomes the new session's first, unless another session has it.
	Foreground int
	// Cgroup, if >= 0, is the open directory of a cgroup (v2) in which the kernel
	// starts the child (CLONE_INTO_CGROUP in clone(2), Linux 5.7). If it cannot,
	// Child.InCgroup is false, and the child is in this process's cgroup. Moving a
	// process later takes milliseconds: the kernel waits until no process forks.
	Cgroup int

	// Filter, if not nil, is a seccomp filter that the program runs under, with
	// what SECCOMP_SET_MODE_FILTER takes as flags. With FILTER_FLAG_NEW_LISTENER
	// among them Child.Listener is the descriptor of its notifications, when
	// Forked is called. FilterPrivs sets no_new_privs first, which the kernel
	// asks for where CAP_SYS_ADMIN is missing.
	Filter      []unix.SockFilter
	FilterFlags uint
	FilterPrivs bool

	// Limit, if not 0, is how long the child may take until the program is executed.
	// A file system may not answer, or somebody may stop the child: it is killed then,
	// and the *Error has ETIMEDOUT.
	Limit time.Duration

	// Meanwhile, if not nil, is called after Forked, while the kernel executes the
	// program.
	Meanwhile func()

	// Forked, if not nil, is called when the child exists, and the child executes
	// nothing before Forked returns. If this process is killed before that, the
	// child exits. So Forked can record the child before the program runs.
	Forked func(Child)
}

// Child is a started program. PIDFD and Listener are close-on-exec. PIDFD is -1
// where the kernel has no pidfds (Linux before 5.2), Listener without Spec.Filter.
type Child struct {
	PID, PIDFD int
	InCgroup   bool // it is in Spec.Cgroup
	Listener   int  // of Spec.Filter
}

// none is the Child of a start that failed.
var none = Child{PID: -1, PIDFD: -1, Listener: -1}

// Start starts a program and returns when it has been executed, or returns an
// *Error; a child that failed has been waited for.
//
// A signal can end the child before execve. Start does not count that as a
// failure: it is the program's end, as if the signal had come later.
//
// An error with Op "fork" and EAGAIN or ENOMEM may pass: try again.
func Start(s *Spec) (Child, error) {
	im, err := newImage(s)
	if err != nil {
		return none, err
	}
	return im.start()
}

func (im *image) start() (Child, error) {
	fail := func(st stage, e unix.Errno) (Child, error) {
		err := &Error{Op: stages[st].op, Err: e}
		switch {
		case st == stageChdir:
			err.Path = im.spec.Dir
		case stages[st].names:
			err.Path = im.spec.Path
		}
		return none, err
	}

	// Some Go code makes a descriptor close-on-exec in a second step; ForkLock
	// prevents a fork between the two. It also keeps the pipe's writing end out of
	// hotinit's other children, which would hold it open.
	syscall.ForkLock.Lock()
	var report [2]int
	if err := unix.Pipe2(report[:], unix.O_CLOEXEC); err != nil {
		syscall.ForkLock.Unlock()
		return fail(stageFork, errno(err))
	}
	im.report = uintptr(report[1])
	gate := [2]int{-1, -1}
	if im.spec.Forked != nil {
		if err := unix.Pipe2(gate[:], unix.O_CLOEXEC); err != nil {
			syscall.ForkLock.Unlock()
			closeBoth(report)
			return fail(stageFork, errno(err))
		}
		im.gated, im.gate = true, [2]uintptr{uintptr(gate[0]), uintptr(gate[1])}
	}
	filter := [2]int{-1, -1}
	if im.filter != nil {
		var err error
		if filter, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0); err != nil {
			syscall.ForkLock.Unlock()
			closeBoth(report)
			closeBoth(gate)
			return fail(stageFork, errno(err))
		}
		im.filterTo = uintptr(filter[1])
	}
	pid, e := im.fork()
	_ = unix.Close(report[1])
	if im.filter != nil {
		_ = unix.Close(filter[1])
	}
	syscall.ForkLock.Unlock()
	limit := &patience{pid: int(pid), report: report[0], d: im.spec.Limit}
	if im.filter != nil {
		if e == 0 {
			limit.begin()
			im.listener = receiveListener(filter[0])
			limit.pause()
		}
		_ = unix.Close(filter[0])
	}
	if e == 0 && im.gated {
		im.spec.Forked(im.born(pid))
		// The pipe is empty and the child reads it, so this cannot fail.
		_, _ = unix.Write(gate[1], []byte{1})
	}
	if e == 0 {
		limit.begin()
	}
	if e == 0 && im.spec.Meanwhile != nil {
		im.spec.Meanwhile()
	}
	closeBoth(gate)
	if e != 0 {
		_ = unix.Close(report[0])
		return fail(stageFork, e)
	}

	child := im.born(pid)
	st, e, failed := readReport(report[0], limit.end)
	runtime.KeepAlive(im) // the child was using it until now
	if limit.late {
		go child.collect() // which waits, where it cannot be killed either
		return fail(stageExec, unix.ETIMEDOUT)
	}
	if !failed {
		return child, nil
	}
	child.collect()
	return fail(st, e)
}

// born returns the child that fork started.
func (im *image) born(pid uintptr) Child {
	return Child{PID: int(pid), PIDFD: int(im.pidfd), InCgroup: im.inCgroup, Listener: im.listener}
}

// closeBoth closes both ends of a pipe, if there is one.
func closeBoth(pipe [2]int) {
	for _, fd := range pipe {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// collect waits for a failed child, which is about to exit.
func (c Child) collect() {
	for {
		// ECHILD if somebody else waits for any child. The PID cannot belong to
		// another process yet: it was this process's child until now.
		err := unix.Waitid(unix.P_PID, c.PID, nil, unix.WEXITED, nil)
		if err != unix.EINTR {
			break
		}
	}
	if c.PIDFD >= 0 {
		_ = unix.Close(c.PIDFD)
	}
	if c.Listener >= 0 {
		_ = unix.Close(c.Listener)
	}
}
