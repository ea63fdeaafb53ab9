package reaper

import (
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/poller"
)

// Wait waits until the process has ended and returns how. With a pidfd it blocks the
// goroutine and no thread. A child is then a zombie until Release.
func (p *Process) Wait() Exit {
	p.once.Do(func() {
		p.exit = p.wait()
		close(p.ended)
	})
	return p.exit
}

func (p *Process) wait() Exit {
	switch {
	case p.fd < 0 && p.own:
		return p.waitOwnBlocking()
	case p.fd < 0:
		return p.waitByPolling()
	}
	file := p.open()
	if file == nil {
		return Exit{}
	}
	conn, err := file.SyscallConn()
	if err != nil {
		return Exit{}
	}
	var exit Exit
	// A pidfd is readable once its process has ended.
	err = conn.Read(func(uintptr) bool {
		var seen sight
		exit, seen = p.look()
		if seen == uncollected {
			// The hang-up wakes this again.
			_ = file.SetReadDeadline(time.Now().Add(collectWithin))
		}
		return seen == over
	})
	if err != nil {
		return Exit{} // closed, or the parent did not collect it in time
	}
	return exit
}

// open puts the pidfd into Go's poller. It returns nil once p is closed.
func (p *Process) open() *os.File {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	// Non-blocking, so that os.NewFile puts it into the poller: a waiting
	// goroutine then costs no thread.
	_ = unix.SetNonblock(p.fd, true)
	p.file = os.NewFile(uintptr(p.fd), "pidfd")
	return p.file
}

// Await has f called once the process has ended, on a goroutine of its own, unless p
// is closed before. It is for those who wait for many: until then nothing but set's
// one goroutine waits. It is called once, and in place of Wait; for one that is closed
// already f is called at once, since nothing more is to be learnt of it.
func (p *Process) Await(set *poller.Set, f func(Exit)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed, p.fd < 0:
		go func() { f(p.Wait()) }()
	default:
		p.source = set.Add(p.fd, func(*poller.Source) bool { return p.awaited(f) })
	}
}

// awaited is called when the pidfd has something to say.
func (p *Process) awaited(f func(Exit)) bool {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return false
	}
	exit, seen := p.look()
	p.mu.Unlock()
	switch seen {
	case lives:
		return true
	case uncollected:
		time.AfterFunc(collectWithin, func() { p.found(Exit{}, f) })
		return true // the hang-up follows
	}
	p.found(exit, f)
	return false
}

// found calls f, the first time.
func (p *Process) found(exit Exit, f func(Exit)) {
	first := false
	p.once.Do(func() {
		p.exit, first = exit, true
		close(p.ended)
	})
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if first && !closed {
		f(exit)
	}
}

// sight is what a look at a process finds.
type sight int

const (
	lives       sight = iota
	uncollected       // it has ended, and its parent has not collected it
	over
)

func (p *Process) look() (Exit, sight) {
	if p.own {
		return p.lookOwn()
	}
	return p.lookForeign()
}

// lookOwn checks whether the child has ended, and leaves it a zombie.
func (p *Process) lookOwn() (Exit, sight) {
	var info siginfo
	err := waitid(unix.P_PIDFD, p.fd, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT)
	if err == unix.EINVAL { // Linux before 5.4
		err = waitid(unix.P_PID, p.pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT)
	}
	switch {
	case err == unix.EAGAIN: // the pidfd is non-blocking, and the child runs
		return Exit{}, lives
	case err == unix.ECHILD: // somebody else has collected it
		return p.lookForeign()
	case err != nil:
		return Exit{}, over
	case !info.ended():
		return Exit{}, lives
	}
	return info.exit(), over
}

// collectWithin is how long the parent of a process that ended has to collect it.
// After that its status is unknown.
const collectWithin = 5 * time.Second

// lookForeign checks whether a process that is not a child has ended. Its pidfd is
// readable once it has ended, and hangs up once its parent has collected it. Only
// then the kernel tells its status (PIDFD_INFO_EXIT, Linux 6.15).
func (p *Process) lookForeign() (Exit, sight) {
	revents := pollNow(p.fd)
	if revents == 0 {
		return Exit{}, lives
	}
	info := pidfdInfo{mask: pidfdInfoExit}
	err := ioctl(p.fd, pidfdGetInfo, unsafe.Pointer(&info))
	switch {
	case err == nil && info.mask&pidfdInfoExit != 0:
		return fromWait(unix.WaitStatus(uint32(info.exitCode))), over
	case err != nil, revents&unix.POLLHUP != 0:
		return Exit{}, over // no such ioctl, or not with this mask
	}
	return Exit{}, uncollected // it is a zombie
}

// hasEnded reports whether the process has ended, without waiting. A zombie has.
func (p *Process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
	}
	if p.fd >= 0 {
		return pollNow(p.fd) != 0
	}
	if p.own {
		var info siginfo
		err := waitid(unix.P_PID, p.pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT)
		return err != nil || info.ended()
	}
	return !p.same()
}

func pollNow(fd int) int16 {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	var zero unix.Timespec
	for {
		if _, _, err := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds[0])), 1, uintptr(unsafe.Pointer(&zero)), 0, 0, 0); err != unix.EINTR {
			return fds[0].Revents
		}
	}
}

// pidfdInfo is struct pidfd_info of linux/pidfd.h in its first version.
type pidfdInfo struct {
	mask     uint64
	cgroup   uint64
	ids      [11]uint32
	exitCode int32 // as of wait4(2)
}

const (
	pidfdInfoExit = 1 << 3     // PIDFD_INFO_EXIT
	pidfdGetInfo  = 0xc040ff0b // PIDFD_GET_INFO: _IOWR(0xff, 11, struct pidfd_info), 64 bytes
)

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
	if e != 0 {
		return e
	}
	return nil
}

// siginfo is the part of siginfo_t that waitid(2) fills in; x/sys/unix has the
// rest as padding.
type siginfo struct {
	signo, errno, code int32
	_                  [(unsafe.Sizeof(uintptr(0)) - 4) / 4]int32
	pid                int32
	uid                uint32
	status             int32
	_                  [128]byte
}

// Values of siginfo.code, sigaction(2).
const (
	cldExited  = 1
	cldKilled  = 2
	cldDumped  = 3
	cldTrapped = 4
)

// ended reports whether waitid(2) has found the end of a process. A process that
// asked to be traced is found, too, whenever it stops for its tracer, though the
// caller asked for ends only (see traced.go).
func (i *siginfo) ended() bool {
	return i.pid != 0 && (i.code == cldExited || i.code == cldKilled || i.code == cldDumped)
}

func (i *siginfo) exit() Exit {
	if i.code == cldExited {
		return Exit{Code: int(i.status), Known: true}
	}
	return Exit{Signal: unix.Signal(i.status), Known: true}
}

func waitid(kind, id int, info *siginfo, options int) error {
	for {
		*info = siginfo{}
		err := unix.Waitid(kind, id, (*unix.Siginfo)(unsafe.Pointer(info)), options, nil)
		if err != unix.EINTR {
			return err
		}
	}
}
