// Package reaper waits for processes: for a process's own children, with their
// exact status (Process), and, in init, for all orphans (Orphans, with go-reap).
//
// The invariant: a process is waited for and signalled by its pidfd, see
// pidfd_open(2), and never by a number that may belong to another process by now.
// A child of one's own is a zombie only until its exit is handled: every Process
// that Own returns ends in Release or Close.
//
// Orphans and Own cannot be used in the same process: go-reap would collect the
// children that Own waits for. Init uses Orphans, the handoff uses Own.
//
// Read process.go (signals, the group), wait.go (how the end of a process is
// noticed, and its status), fallback.go (kernels without pidfds), orphans.go.
package reaper

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/kernel"
	"github.com/hotinit/hotinit/internal/poller"
	"github.com/hotinit/hotinit/internal/proc"
)

// Process is one process. Its methods may be called by any goroutine.
//
// The end of a life has two steps, so that a group can be killed safely in
// between:
//
//	exit := p.Wait()                       // it ended, and is a zombie
//	_ = p.SignalGroup(pid, unix.SIGKILL)   // its PID, and so the group, is still its own
//	p.Close()                              // now it is gone
type Process struct {
	pid   int
	own   bool
	start uint64 // 0: not known
	fd    int    // the pidfd, -1 without one

	ended chan struct{} // closed once exit is set
	once  sync.Once
	exit  Exit

	mu       sync.Mutex // guards released, and with it the meaning of pid, and the following
	released bool
	closing  chan struct{} // closed by Close
	closed   bool
	file     *os.File       // the pidfd in Go's poller, once Wait was called
	source   *poller.Source // the pidfd in that of Await
}

// forceNoPIDFD makes tests use fallback.go.
var forceNoPIDFD bool

// Own returns the Process of a child that only the caller waits for. Own takes over
// pidfd, which may be -1.
func Own(pid, pidfd int) *Process { return newProcess(pid, pidfd, true) }

// Adopt returns the Process of a process that is not the caller's child. Adopt takes
// over pidfd. If that is -1, Adopt opens one, and the process is whichever has the
// PID now: compare StartTime after Adopt, not before.
//
// With a pidfd that was opened while the process lived, its exact status is known
// even if it ended long ago and its parent has waited for it (Linux 6.15 and
// newer).
func Adopt(pid, pidfd int) *Process { return newProcess(pid, pidfd, false) }

func newProcess(pid, pidfd int, own bool) *Process {
	p := &Process{
		pid: pid, own: own, fd: -1,
		ended: make(chan struct{}), closing: make(chan struct{}),
	}
	if pidfd < 0 && !forceNoPIDFD {
		// ENOSYS before Linux 5.3, ESRCH if the process is gone: there is no pidfd.
		if fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK); err == nil {
			pidfd = fd
		}
	}
	if pidfd >= 0 {
		unix.CloseOnExec(pidfd)
		p.fd = pidfd
	}
	p.start, _ = StartTime(pid)
	return p
}

// PID returns the process ID. Once the process is released, another may have it.
func (p *Process) PID() int { return p.pid }

// PIDFD returns the descriptor, which is open until Close, or -1.
func (p *Process) PIDFD() int { return p.fd }

// StartTime returns when a process started, in clock ticks since boot. Together
// with the PID it names one process. It is field 22 of /proc/PID/stat, see proc(5).
func StartTime(pid int) (uint64, error) {
	st, err := proc.Read(pid)
	return st.Start, err
}

// Signal sends a signal to the process. It returns unix.ESRCH once that has ended.
func (p *Process) Signal(sig unix.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released || p.closed || p.hasEnded() {
		return unix.ESRCH
	}
	if p.fd >= 0 {
		// The call never blocks. As a raw call it does not wake the scheduler's
		// monitor thread.
		_, _, err := syscall.RawSyscall6(unix.SYS_PIDFD_SEND_SIGNAL, uintptr(p.fd), uintptr(sig), 0, 0, 0, 0)
		if err == 0 {
			return nil
		}
		if !kernel.Missing(err) {
			return err
		}
		// The call does not exist, or a seccomp filter forbids it.
	}
	// A child keeps its PID until it is released. Another process could end, and
	// its PID be given away, between hasEnded and this call.
	return unix.Kill(p.pid, sig)
}

// SignalGroup sends a signal to the process group pgid, to which the process
// belongs or which it led, if that is still the same group; else it returns
// unix.ESRCH.
//
// The kernel does not reuse a group's number while the group has a member, or while
// the process with that PID is not released. So this is exact for one's own process
// until it is released, and for a group's leader (pgid is its PID) on Linux 6.9 and
// newer. Otherwise it checks first, and a short race remains: the last member would
// have to end and its number be reused in that moment.
func (p *Process) SignalGroup(pgid int, sig unix.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pgid <= 1 {
		return unix.EINVAL // kill(2) means others by these
	}
	if pgid != p.pid {
		// Not the leader: the group is the right one while p is in it.
		if p.released || p.closed || (!p.own && p.hasEnded()) {
			return unix.ESRCH
		}
		if g, err := unix.Getpgid(p.pid); err != nil || g != pgid {
			return unix.ESRCH
		}
		return unix.Kill(-pgid, sig)
	}
	if p.own && !p.released {
		return unix.Kill(-pgid, sig)
	}
	if p.fd >= 0 && !p.closed {
		err := unix.PidfdSendSignal(p.fd, sig, nil, pidfdSignalProcessGroup)
		if err != unix.EINVAL && !kernel.Missing(err) { // EINVAL before Linux 6.9
			return err
		}
	}
	// While the old group has members, only its leader can have its number as PID.
	// If another process has that PID, the group is gone.
	if start, err := StartTime(pgid); err == nil && start != p.start {
		return unix.ESRCH
	}
	return unix.Kill(-pgid, sig)
}

// pidfdSignalProcessGroup is PIDFD_SIGNAL_PROCESS_GROUP, see
// pidfd_send_signal(2).
const pidfdSignalProcessGroup = 1 << 2

// Release collects a child that has ended. Until then it is a zombie and keeps its
// PID. Release does nothing if the process still runs, was released before, or is
// not a child.
func (p *Process) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.release()
}

func (p *Process) release() {
	if !p.own || p.released {
		return
	}
	var info siginfo
	if err := waitid(unix.P_PID, p.pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT); err == nil && !info.ended() {
		return
	}
	switch err := waitid(unix.P_PID, p.pid, &info, unix.WEXITED|unix.WNOHANG); {
	case err == nil && info.pid != 0, err == unix.ECHILD:
		p.released = true
	}
}

// Close releases a child that has ended, closes the pidfd, makes Wait return and ends
// Await. A child that still runs is forgotten: nobody will collect it.
func (p *Process) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.release()
	if p.closed {
		return
	}
	p.closed = true
	close(p.closing)
	switch {
	case p.source != nil:
		p.source.Remove()
		_ = unix.Close(p.fd)
	case p.file != nil:
		_ = p.file.Close()
	case p.fd >= 0:
		_ = unix.Close(p.fd)
	}
}
