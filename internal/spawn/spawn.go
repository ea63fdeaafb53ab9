// Package spawn starts programs: fork and exec, with all of a process's state
// that the child is to have.
//
// Invariant: the program gets exactly what Spec says (descriptors, signal mask
// and dispositions, limits, identity) and nothing of hotinit's; and Start
// returns either a running program or the step that failed, with no process
// left behind.
//
// syscall.ForkExec cannot do this: it sets neither mask nor dispositions, and
// LISTEN_PID, the child's own PID, has to be written into the environment
// between fork and exec.
//
// Read spawn.go (what is wanted), image.go (everything that the child needs is
// made before the fork), fork.go (the child, which may not allocate), error.go.
package spawn

import (
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/passwd"
)

// Spec says what to execute, and as what. Take care with the numbers whose
// zero value means something: FD, Umask, Foreground and Cgroup are -1
// where they are not wanted.
type Spec struct {
	// Path is the file to execute: absolute, or relative to Dir. PATH is not
	// searched, see LookPath. A file that the kernel does not know how to
	// execute is a shell script, as execvp(3) has it.
	Path string
	// FD, if >= 0, is an open file to execute instead, which may have been
	// replaced or removed since (O_PATH will do). Path then only names it in
	// errors. A script's interpreter gets it as /dev/fd/N, with N left open:
	// so /proc has to be mounted for those.
	FD   int
	Argv []string
	Env  []string
	// SelfPID names variables whose value is to be the child's own PID
	// (LISTEN_PID). They are added to Env, or replaced there.
	SelfPID []string
	// Files[i] is the descriptor that becomes number i in the child; -1 leaves
	// i closed. Nothing else is inherited, close-on-exec or not. O_NONBLOCK
	// stays as it is: it belongs to the open file, which others share.
	Files []int
	Dir   string // "" leaves it
	Umask int    // -1 leaves it

	Signals    entry.Signals      // Blocked is the mask, Ignored is ignored, the rest has its default action
	NoFile     *unix.Rlimit       // nil: what hotinit was started with
	Credential *passwd.Credential // nil leaves it
	NoNewPrivs bool

	Setsid  bool // a session of its own
	Setpgid bool // a process group of its own (Setsid has that too)
	// Foreground, if >= 0, is the number, in the child, of the controlling
	// terminal: the child's group becomes its foreground group. With Setsid it
	// is made the controlling terminal first, unless another session has it.
	Foreground int
	// Cgroup, if >= 0, is the open folder of a cgroup (v2) that the child is
	// started in, where the kernel can (CLONE_INTO_CGROUP in clone(2), Linux
	// 5.7). Child.InCgroup says whether it could; if not, the child is in this
	// process's own. To move it once it is there makes the kernel wait until no
	// process of the machine forks: milliseconds.
	Cgroup int

	// Filter, if not nil, is a seccomp filter that the program runs under, with
	// what SECCOMP_SET_MODE_FILTER takes as flags. With FILTER_FLAG_NEW_LISTENER
	// among them Child.Listener is the descriptor of its notifications, when
	// Forked is called. FilterPrivs sets no_new_privs first, which the kernel
	// asks for where CAP_SYS_ADMIN is missing.
	Filter      []unix.SockFilter
	FilterFlags uint
	FilterPrivs bool

	// Forked, if not nil, is called once the child is there, and the child does
	// nothing before it has returned. If this process is killed until then, the
	// child ends without having executed anything: so what Forked writes down
	// is written down before there is a program.
	Forked func(Child)
}

// Child is a started program. PIDFD is close-on-exec, and -1 where the kernel
// has none (Linux before 5.2). So is Listener, which is -1 without Spec.Filter.
type Child struct {
	PID, PIDFD int
	InCgroup   bool // it is in Spec.Cgroup
	Listener   int  // of Spec.Filter
}

// none is the Child of a start that failed.
var none = Child{PID: -1, PIDFD: -1, Listener: -1}

// Start starts a program, and returns once it has been executed, or an *Error.
// A failed child has been waited for.
//
// A signal can end the child before it is executed; that is no failure of
// Start, but the program's end, as it would be right after.
//
// EAGAIN and ENOMEM of Op "fork" may be worth another try.
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

	// ForkLock keeps Go code that must make a descriptor close-on-exec in a
	// second step from being forked in between. It also keeps the pipe's
	// writing end out of other children of ours, which would keep it open.
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
	if im.filter != nil {
		if e == 0 {
			im.listener = receiveListener(filter[0])
		}
		_ = unix.Close(filter[0])
	}
	if e == 0 && im.gated {
		im.spec.Forked(im.born(pid))
		// The pipe has room, and the child waits; it cannot fail.
		_, _ = unix.Write(gate[1], []byte{1})
	}
	closeBoth(gate)
	if e != 0 {
		_ = unix.Close(report[0])
		return fail(stageFork, e)
	}

	child := im.born(pid)
	st, e, failed := readReport(report[0])
	runtime.KeepAlive(im) // the child was using it until now
	if !failed {
		return child, nil
	}
	child.collect()
	return fail(st, e)
}

// born is the child that fork started.
func (im *image) born(pid uintptr) Child {
	return Child{PID: int(pid), PIDFD: int(im.pidfd), InCgroup: im.inCgroup, Listener: im.listener}
}

// closeBoth closes the ends of a pipe, where there is one.
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
		// Where somebody else waits for any child it may be gone (ECHILD). It
		// was our child until just now, so the PID cannot be that of another.
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
