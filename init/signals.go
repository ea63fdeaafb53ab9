package pid1

import (
	"fmt"
	"os"
	ossignal "os/signal"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/entry"
)

// listen has every signal that init receives come to p.signals, in order.
//
// All signals are blocked in every thread since before Go's runtime started
// (package entry), so they are taken from a signalfd(2): none is lost in the
// first instant, and none costs the round trips that os/signal needs to
// enable it. SIGCHLD is go-reap's.
func (p *pid1) listen() error {
	var set unix.Sigset_t
	for sig := 1; sig <= 64; sig++ {
		if entry.Blockable(unix.Signal(sig)) {
			set.Val[(sig-1)/wordBits] |= 1 << ((sig - 1) % wordBits)
		}
	}
	fd, err := unix.Signalfd(-1, &set, unix.SFD_CLOEXEC|unix.SFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("cannot receive signals by signalfd: %w", err)
	}
	go p.read(fd)
	return p.catch()
}

// catch takes in the signals that cannot be blocked, by the handler of package
// entry, or on architectures where there is none by os/signal, as far as that
// hands them on.
func (p *pid1) catch() error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("cannot make a pipe for signals: %w", err)
	}
	if entry.CatchUnblockable(pipe[1]) != nil {
		c := make(chan os.Signal, 64)
		ossignal.Notify(c, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGABRT, unix.SIGTERM, unix.SIGSYS,
			unix.SIGILL, unix.SIGTRAP, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGSTKFLT, unix.SIGPROF)
		go func() {
			for sig := range c {
				p.signals <- sig.(unix.Signal)
			}
		}()
		return nil
	}
	go func() {
		file := os.NewFile(uintptr(pipe[0]), "caught signals")
		var b [1]byte
		for {
			if n, err := file.Read(b[:]); err != nil || n == 0 {
				return
			}
			p.signals <- unix.Signal(b[0])
		}
	}()
	return nil
}

const wordBits = int(unsafe.Sizeof(unix.Sigset_t{}.Val[0])) * 8

// read passes on what comes by the signalfd.
func (p *pid1) read(fd int) {
	file := os.NewFile(uintptr(fd), "signalfd")
	raw, err := file.SyscallConn()
	if err != nil {
		return
	}
	self := uint32(os.Getpid())
	// The descriptor never blocks, so these are raw system calls: the scheduler
	// would wake its monitor thread for any other, at each signal.
	const one = unsafe.Sizeof(unix.SignalfdSiginfo{})
	buf := make([]unix.SignalfdSiginfo, 8)
	_ = raw.Read(func(fd uintptr) bool {
		for {
			n, _, e := syscall.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&buf[0])), one*uintptr(len(buf)))
			if e != 0 {
				return false
			}
			for i := range n / one {
				// Of our own are SIGPIPE, for a line that nobody read, and
				// SIGURG, by which Go's runtime preempts a thread.
				if buf[i].Pid != self {
					p.signals <- unix.Signal(buf[i].Signo)
				}
			}
			if n < one*uintptr(len(buf)) {
				return false
			}
		}
	})
}

// noteStop notes a signal that the app was told of.
func (p *pid1) noteStop(sig unix.Signal) {
	switch sig {
	case unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		p.stop = p.suspend
	case unix.SIGCONT:
		p.stop = false
	}
}

// stopWithApp stops init where the app was told to stop, as dumb-init does: the
// shell that hotinit is a job of waits for that, and sends SIGCONT to go on. To
// PID 1 its own SIGSTOP means nothing, pid_namespaces(7).
func (p *pid1) stopWithApp() {
	if !p.stop {
		return
	}
	p.stop = false
	for _, s := range p.pending {
		if s.sig == unix.SIGCONT {
			return // it was to go on before it could stop
		}
	}
	_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
}
