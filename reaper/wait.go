package reaper

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
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
	case p.file == nil && p.own:
		return p.waitOwnBlocking()
	case p.file == nil:
		return p.waitByPolling()
	}
	conn, err := p.file.SyscallConn()
	if err != nil {
		return Exit{}
	}
	look := p.lookForeign
	if p.own {
		look = p.lookOwn
	}
	var exit Exit
	// A pidfd is readable once its process has ended.
	err = conn.Read(func(uintptr) (done bool) {
		exit, done = look()
		return done
	})
	if err != nil {
		return Exit{} // closed, or the parent did not collect it in time
	}
	return exit
}

// lookOwn checks whether the child has ended, and leaves it a zombie.
func (p *Process) lookOwn() (Exit, bool) {
	var info siginfo
	err := waitid(unix.P_PIDFD, p.fd, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT)
	if err == unix.EINVAL { // Linux before 5.4
		err = waitid(unix.P_PID, p.pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT)
	}
	switch {
	case err == unix.EAGAIN: // the pidfd is non-blocking, and the child runs
		return Exit{}, false
	case err == unix.ECHILD: // somebody else has collected it
		return p.lookForeign()
	case err != nil:
		return Exit{}, true
	case !info.ended():
		return Exit{}, false
	}
	return info.exit(), true
}

// uncollected is how long the parent of a process that ended has to collect it. After
// that its status is unknown.
const uncollected = 5 * time.Second

// lookForeign checks whether a process that is not a child has ended. Its pidfd is
// readable once it has ended, and hangs up once its parent has collected it. Only
// then the kernel tells its status (PIDFD_INFO_EXIT, Linux 6.15).
func (p *Process) lookForeign() (Exit, bool) {
	revents := pollNow(p.fd)
	if revents == 0 {
		return Exit{}, false
	}
	info := pidfdInfo{mask: pidfdInfoExit}
	err := ioctl(p.fd, pidfdGetInfo, unsafe.Pointer(&info))
	switch {
	case err == nil && info.mask&pidfdInfoExit != 0:
		return fromWait(unix.WaitStatus(uint32(info.exitCode))), true
	case err != nil, revents&unix.POLLHUP != 0:
		return Exit{}, true // no such ioctl, or not with this mask
	}
	// It is a zombie. The hang-up wakes this again.
	_ = p.file.SetReadDeadline(time.Now().Add(uncollected))
	return Exit{}, false
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
