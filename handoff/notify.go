package handoff

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/proc"
	"github.com/hotinit/hotinit/internal/say"
)

// notifier is the other end of NOTIFY_SOCKET, sd_notify(3).
type notifier struct {
	fd      int
	address string
}

// notice is one datagram of the app.
type notice struct {
	pid  int
	text string
}

// openNotifier makes the socket, or takes the one that init keeps. It is an
// abstract one: that needs no file system that can be written.
func (s *supervisor) openNotifier() error {
	const name = "notify"
	n := &notifier{address: "@hotinit/notify/" + control.Namespace() + "/" + strconv.Itoa(os.Getppid())}
	fd := s.link.take(name)
	if fd < 0 {
		var err error
		fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("cannot make NOTIFY_SOCKET: %w", err)
		}
		// Only with this does the kernel say who sent a datagram, unix(7).
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
			return fmt.Errorf("cannot learn who sends to NOTIFY_SOCKET: %w", err)
		}
		if err := unix.Bind(fd, &unix.SockaddrUnix{Name: n.address}); err != nil {
			return fmt.Errorf("cannot bind NOTIFY_SOCKET %s: %w", n.address, err)
		}
		if err := s.link.keep(name, fd); err != nil {
			return err
		}
	}
	n.fd = fd
	s.notify = n
	s.contract.notify = n.address
	return nil
}

// listen hands each datagram to handle. It takes a datagram out of the
// socket only once it was acted upon: what a handoff that is killed in
// between was told, the next one is told again.
func (n *notifier) listen(handle func(notice)) {
	file := os.NewFile(uintptr(n.fd), "NOTIFY_SOCKET")
	raw, err := file.SyscallConn()
	buf := make([]byte, 8192)
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(64*4))
	for err == nil {
		var size, oobn int
		var failed error
		receive := func(flags int) {
			err = raw.Read(func(fd uintptr) bool {
				size, oobn, _, _, failed = unix.Recvmsg(int(fd), buf, oob, flags|unix.MSG_CMSG_CLOEXEC)
				return failed != unix.EAGAIN
			})
		}
		receive(unix.MSG_PEEK)
		if err != nil {
			return
		}
		if failed == nil {
			// A look at a datagram makes copies of its descriptors too.
			pid, fds := sender(oob[:oobn])
			closeAll(fds)
			handle(notice{pid, string(buf[:size])})
		}
		receive(0)
		if failed == nil {
			// With BARRIER=1 comes a pipe; its other end waits for this close,
			// which says that all before it was acted upon, sd_notify_barrier(3).
			_, fds := sender(oob[:oobn])
			closeAll(fds)
		}
	}
}

func sender(oob []byte) (pid int, fds []int) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, nil
	}
	for _, m := range msgs {
		if m.Header.Type == unix.SCM_CREDENTIALS {
			if cred, err := unix.ParseUnixCredentials(&m); err == nil {
				pid = int(cred.Pid)
			}
		} else if got, err := unix.ParseUnixRights(&m); err == nil {
			fds = append(fds, got...)
		}
	}
	return pid, fds
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// noticed acts upon a datagram. It runs in the loop.
func (s *supervisor) noticed(n notice) {
	g := s.ownerOf(n.pid)
	if g == 0 {
		// One that has ended meanwhile most likely was of a generation that has.
		if _, err := proc.Read(n.pid); err == nil && s.cfg.Verbosity > 0 {
			say.Line("a message on NOTIFY_SOCKET is ignored: process %d is of no generation", n.pid)
		}
		return
	}
	defer s.loop.act(machine.Event{Kind: machine.Nothing}) // has what is new recorded and shown
	for line := range strings.SplitSeq(n.text, "\n") {
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		p := s.procs[g]
		switch key {
		case "READY":
			if value == "1" {
				p.note = ""
				s.loop.act(machine.Event{Kind: machine.Ready, N: g})
			}
		case "STOPPING":
			p.note = "stopping"
		case "RELOADING":
			p.note = "reloading"
		case "STATUS":
			p.status = value
		case "MAINPID":
			s.newMain(g, value)
		case "WATCHDOG":
			if value == "trigger" {
				s.loop.act(machine.Event{Kind: machine.Expired, N: g, Timer: machine.WatchdogTimer})
			} else if s.cfg.Watchdog > 0 {
				s.loop.act(machine.Event{Kind: machine.Beat, N: g})
			}
		case "EXTEND_TIMEOUT_USEC":
			if us, err := strconv.ParseInt(value, 10, 64); err == nil && us > 0 && us < int64(24*time.Hour/time.Microsecond) {
				s.loop.act(machine.Event{Kind: machine.Beat, N: g, Delay: time.Duration(us) * time.Microsecond})
			}
		}
	}
}

// newMain makes another process the main one of a generation, MAINPID=.
func (s *supervisor) newMain(g int, value string) {
	pid, err := strconv.Atoi(value)
	p := s.procs[g]
	if err != nil || pid == p.pid {
		return
	}
	if s.ownerOf(pid) != g {
		say.Line("generation %d names process %s as its main one, which is none of its own; it is ignored", g, value)
		return
	}
	s.replaceMain(g, pid)
}

// ownerOf returns the generation that a process belongs to, or 0: it is the
// generation's main process, in its group, below it, or else has its number
// in its environment.
func (s *supervisor) ownerOf(pid int) int {
	for at, steps := pid, 0; at > 1 && steps < 64; steps++ {
		st, err := proc.Read(at)
		if err != nil {
			break
		}
		for n, p := range s.procs {
			if p.pid == at || p.group == st.Group {
				return n
			}
		}
		at = st.Parent
	}
	if v, ok := proc.Getenv(pid, "HOTINIT_GENERATION"); ok {
		if n, err := strconv.Atoi(v); err == nil && s.procs[n] != nil && below(pid) {
			return n
		}
	}
	return 0
}

// below tells whether a process descends from init.
func below(pid int) bool {
	for init, steps := os.Getppid(), 0; pid > 1 && steps < 256; steps++ {
		st, err := proc.Read(pid)
		if err != nil {
			return false
		}
		if st.Parent == init {
			return true
		}
		pid = st.Parent
	}
	return false
}
