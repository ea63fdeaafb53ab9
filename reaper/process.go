// Package reaper waits for processes: for those that a process started itself
// with their exact status (Process), and, in init, for all that were orphaned
// (Orphans, by go-reap).
//
// Invariant: a process is only waited for, and signalled, as that one process
// (by its pidfd, see pidfd_open(2)), never as a number that meanwhile belongs
// to another; and of one's own no zombie outlives the handling of its exit:
// every Process of Own ends in Release or Close.
//
// Orphans and Own cannot be used in the same process: go-reap would collect
// what Own waits for. Init has the one, the handoff the other.
//
// Read process.go (signals, the group), wait.go (how an end is noticed and its
// status learnt), fallback.go (kernels without pidfds), orphans.go.
package reaper

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/kernel"
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
	start uint64   // 0: not known
	file  *os.File // the pidfd in Go's poller, nil without one
	fd    int      // the same, -1 without

	ended chan struct{} // closed once exit is set
	once  sync.Once
	exit  Exit

	mu       sync.Mutex // guards released, and with it the meaning of pid
	released bool
	closing  chan struct{} // closed by Close
	closed   bool
}

// forceNoPIDFD makes tests take the ways of fallback.go.
var forceNoPIDFD bool

// Own is a child of the calling process that it alone waits for. pidfd, which
// Own takes over, may be -1.
func Own(pid, pidfd int) *Process { return newProcess(pid, pidfd, true) }

// Adopt is a process that is not a child of the calling one. pidfd, which
// Adopt takes over, may be -1. It then is opened here, and the process is
// whichever has the PID now: compare StartTime after Adopt, not before.
//
// With a pidfd that was opened while the process lived its exact status is
// learnt even if it ended, and was waited for by its parent, long ago (Linux
// 6.15 and newer).
func Adopt(pid, pidfd int) *Process { return newProcess(pid, pidfd, false) }

func newProcess(pid, pidfd int, own bool) *Process {
	p := &Process{
		pid: pid, own: own, fd: -1,
		ended: make(chan struct{}), closing: make(chan struct{}),
	}
	if pidfd < 0 && !forceNoPIDFD {
		// ENOSYS before Linux 5.3; ESRCH where it is gone: both mean none.
		if fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK); err == nil {
			pidfd = fd
		}
	}
	if pidfd >= 0 {
		// Non-blocking, so that os.NewFile puts it into the poller: a waiting
		// goroutine then costs no thread.
		_ = unix.SetNonblock(pidfd, true)
		unix.CloseOnExec(pidfd)
		p.fd, p.file = pidfd, os.NewFile(uintptr(pidfd), "pidfd")
	}
	p.start, _ = StartTime(pid)
	return p
}

// PID is the process ID. It may be another's once the process was released.
func (p *Process) PID() int { return p.pid }

// PIDFD is the descriptor, for as long as the Process is not closed, or -1.
func (p *Process) PIDFD() int { return p.fd }

// StartTime is when a process started, in clock ticks since the machine did:
// with the PID it names one process. It is field 22 of /proc/PID/stat, see
// proc(5).
func StartTime(pid int) (uint64, error) {
	st, err := proc.Read(pid)
	return st.Start, err
}

// Signal sends a signal to the process. It is unix.ESRCH once it has ended.
func (p *Process) Signal(sig unix.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.released || p.closed || p.hasEnded() {
		return unix.ESRCH
	}
	if p.fd >= 0 {
		// It never blocks, so the scheduler need not be told, and does not
		// wake its monitor thread for it.
		_, _, err := syscall.RawSyscall6(unix.SYS_PIDFD_SEND_SIGNAL, uintptr(p.fd), uintptr(sig), 0, 0, 0, 0)
		if err == 0 {
			return nil
		}
		if !kernel.Missing(err) {
			return err
		}
		// Not there, or forbidden by a seccomp filter (or kill(2) is, too).
	}
	// Our own child's PID is its own until it is released. With another's there
	// is a moment between hasEnded's look and this.
	return unix.Kill(p.pid, sig)
}

// SignalGroup sends a signal to the process group pgid, to which the process
// belongs or which it led, if that is still the same group; else it returns
// unix.ESRCH.
//
// A group's number is not given away while the group has a member, nor while
// the process that had it as its PID is not released. So for an own process
// that is not released yet this is exact; and for one that leads the group
// (pgid is its PID), with Linux 6.9 and newer, always. Else it is done with a
// look first, and a moment remains, in which the last member would have to end
// and the number be given to another: about as many processes must be started
// in that moment as there are PIDs.
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
	// While members of the old group are left, no process can have its number
	// as PID but the old leader. A process that has it, and is another, tells
	// that the group is gone.
	if start, err := StartTime(pgid); err == nil && start != p.start {
		return unix.ESRCH
	}
	return unix.Kill(-pgid, sig)
}

// pidfdSignalProcessGroup is PIDFD_SIGNAL_PROCESS_GROUP, see
// pidfd_send_signal(2).
const pidfdSignalProcessGroup = 1 << 2

// Release collects an own process that has ended: until then it is a zombie,
// and its PID stays its own. It does nothing if it runs still, was released
// before, or is not our child.
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
	switch err := waitid(unix.P_PID, p.pid, &info, unix.WEXITED|unix.WNOHANG); {
	case err == nil && info.pid != 0, err == unix.ECHILD:
		p.released = true
	}
}

// Close releases an own process that has ended, closes the pidfd and makes Wait
// return. To close one that runs is to forget it: nobody will collect it.
func (p *Process) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.release()
	if p.closed {
		return
	}
	p.closed = true
	close(p.closing)
	if p.file != nil {
		_ = p.file.Close()
	}
}
