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

// listen sends every signal that init receives to p.signals, in order.
//
// Package entry blocks all signals in every thread before Go's runtime starts,
// and listen takes them from a signalfd(2). So no signal is lost in the first
// instant, and no signal costs the round trips that os/signal needs to enable
// it. SIGCHLD belongs to go-reap.
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
	p.add(source{os.NewFile(uintptr(fd), "signalfd"), p.read})
	return p.catch()
}

// source is a descriptor that signals are read from, and how.
type source struct {
	file *os.File
	read func(*os.File) // until its deadline
}

func (p *pid1) add(s source) {
	p.sources = append(p.sources, s)
	p.follow(s)
}

func (p *pid1) follow(s source) {
	go func() {
		s.read(s.file)
		p.still <- struct{}{}
	}()
}

// catch receives the signals that cannot be blocked: by the handler of package
// entry, or, on architectures that have none, by os/signal as far as that
// delivers them.
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
				p.signals <- signal{sig: sig.(unix.Signal)}
			}
		}()
		return nil
	}
	p.caught = pipe[0]
	p.add(source{os.NewFile(uintptr(pipe[0]), "caught signals"), p.readCaught})
	return nil
}

// readCaught passes on the signals whose numbers the handler writes.
func (p *pid1) readCaught(file *os.File) {
	var b [1]byte
	for {
		if n, err := file.Read(b[:]); err != nil || n == 0 {
			return
		}
		p.signals <- signal{sig: unix.Signal(b[0])}
	}
}

const wordBits = int(unsafe.Sizeof(unix.Sigset_t{}.Val[0])) * 8

// read passes on what the signalfd delivers.
func (p *pid1) read(file *os.File) {
	raw, err := file.SyscallConn()
	if err != nil {
		return
	}
	self := uint32(os.Getpid())
	// The descriptor never blocks, so these are raw system calls: at each
	// ordinary one Go's scheduler would wake its monitor thread.
	const one = unsafe.Sizeof(unix.SignalfdSiginfo{})
	buf := make([]unix.SignalfdSiginfo, 8)
	_ = raw.Read(func(fd uintptr) bool {
		for {
			n, _, e := syscall.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&buf[0])), one*uintptr(len(buf)))
			if e != 0 {
				return false
			}
			for i := range n / one {
				// hotinit sends itself SIGPIPE (a line that nobody reads) and
				// SIGURG (preemption by Go's runtime); both are ignored.
				if buf[i].Pid != self {
					p.signals <- translate(&buf[i])
				}
			}
			if n < one*uintptr(len(buf)) {
				return false
			}
		}
	})
}

// siKernel is SI_KERNEL of sigaction(2): the kernel itself sent the signal.
const siKernel = 0x80

// translate distinguishes the two meanings of SIGHUP: a process that sends it
// asks for a reload; the kernel sends it to the leader of a session when its
// terminal is closed.
func translate(info *unix.SignalfdSiginfo) signal {
	sig := unix.Signal(info.Signo)
	return signal{sig: sig, hangup: sig == unix.SIGHUP && info.Code == siKernel}
}

// stops reports whether a signal asks hotinit to stop.
func (s signal) stops() bool {
	return s.sig == unix.SIGTERM || s.sig == unix.SIGINT || s.sig == unix.SIGQUIT || s.hangup
}

// noteStop notes a job control signal that the handoff has acted upon.
func (p *pid1) noteStop(sig unix.Signal) {
	switch sig {
	case unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		p.suspended = p.suspend
	case unix.SIGCONT:
		p.suspended = false
	}
}

// stopWithApp stops init once the app got a job control signal, as dumb-init
// does: the shell that runs hotinit as a job waits for that, and sends SIGCONT
// later. PID 1 is immune to its own SIGSTOP, pid_namespaces(7).
func (p *pid1) stopWithApp() {
	if !p.suspended {
		return
	}
	p.suspended = false
	for _, s := range p.pending {
		if s.sig == unix.SIGCONT {
			return // SIGCONT came before init could stop
		}
	}
	// Any SIGSTOP, one to which its receiver is immune too, takes a SIGCONT away that
	// nobody has read yet: the app would stay stopped.
	if self := os.Getpid(); self != 1 && !arrived(unix.SIGCONT) {
		_ = unix.Kill(self, unix.SIGSTOP)
	}
}

// arrived reports whether a signal that is blocked has come and was not read,
// rt_sigpending(2).
func arrived(sig unix.Signal) bool {
	var set uint64
	_, _, e := unix.RawSyscall(unix.SYS_RT_SIGPENDING, uintptr(unsafe.Pointer(&set)), unsafe.Sizeof(set), 0)
	return e == 0 && set&(1<<(sig-1)) != 0
}
