package serving

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Bounds of one look. An app with more is looked at in part.
const (
	mostProcesses   = 512
	mostDescriptors = 8192 // of one process
	mostThreads     = 1024 // of one process
	mostPollers     = 32   // epoll sets and rings of one process
	mostInfo        = 1 << 20
)

// Look is what one look at a generation's processes shows.
type Look struct {
	// Waits says how one of them waits on one of the sockets; "" where none does.
	Waits string
	// Accepts: it waits by asking for a connection, accept(2), and not merely
	// for the news that there is one.
	Accepts bool
	// Blind says of each process that could not be looked at why not; 0 stands for
	// those that were too many. It is empty where all could.
	Blind map[int]string
	// Held are the other sockets that they have open.
	Held map[uint64]bool
}

// Processes looks once at the processes. Sockets are those of the program.
func Processes(pids []int, sockets []Socket) Look {
	l := Look{Held: make(map[uint64]bool), Blind: make(map[int]string)}
	byInode := make(map[uint64]*Socket, len(sockets))
	for i := range sockets {
		byInode[sockets[i].Inode] = &sockets[i]
	}
	if len(pids) > mostProcesses {
		l.Blind[0] = fmt.Sprintf("there are more than %d processes", mostProcesses)
		pids = pids[:mostProcesses]
	}
	for _, pid := range pids {
		l.look(pid, byInode)
	}
	return l
}

// look adds what one process shows.
func (l *Look) look(pid int, sockets map[uint64]*Socket) {
	dir, err := unix.Open("/proc/"+strconv.Itoa(pid), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		if unix.Kill(pid, 0) != unix.ESRCH {
			l.blind(pid, "/proc does not show it", err)
		}
		return
	}
	defer unix.Close(dir)
	p := process{dir: dir, sockets: sockets}
	err = p.open(l.Held)
	if isDenied(err) {
		asOwner(dir, func() { err = p.open(l.Held) })
	}
	if err != nil {
		if !isGone(err) {
			l.blind(pid, "its descriptors cannot be read", err)
		}
		return
	}
	if p.cut {
		// Unless it is seen to wait: what was not looked at may be the socket.
		defer func() {
			if l.Waits == "" && l.Blind[pid] == "" {
				l.Blind[pid] = fmt.Sprintf("process %d has more than %d descriptors", pid, mostDescriptors)
			}
		}()
	}
	if len(p.listening) == 0 && len(p.pollers) == 0 || l.Waits != "" && l.Accepts {
		return
	}
	how, err := p.waits()
	if isDenied(err) {
		asOwner(dir, func() { how, err = p.waits() })
	}
	switch {
	case how != nowhere:
		asks := how == accepting || how == ringing
		if l.Waits == "" || asks {
			l.Waits = fmt.Sprintf("process %d waits in %s", pid, how)
		}
		l.Accepts = l.Accepts || asks
	case err != nil && !isGone(err):
		l.blind(pid, "what its threads wait for cannot be read", err)
	}
}

func isGone(err error) bool { return err == unix.ESRCH || err == unix.ENOENT }

func isDenied(err error) bool { return err == unix.EACCES || err == unix.EPERM }

// heldBy adds to held the sockets that a process has open, without those that
// are the program's.
func heldBy(pid int, sockets map[uint64]*Socket, held map[uint64]bool) {
	dir, err := unix.Open("/proc/"+strconv.Itoa(pid), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(dir)
	p := process{dir: dir, sockets: sockets}
	if isDenied(p.open(held)) {
		asOwner(dir, func() { _ = p.open(held) })
	}
}

func (l *Look) blind(pid int, what string, err error) {
	l.Blind[pid] = fmt.Sprintf("process %d: %s: %v", pid, what, err)
}

// manner is how a process waits.
type manner string

const (
	nowhere   manner = ""
	accepting manner = "accept"
	polling   manner = "poll or select"
	epolling  manner = "epoll"
	ringing   manner = "io_uring"
)

// process is one process that is looked at.
type process struct {
	dir       int // /proc/PID
	sockets   map[uint64]*Socket
	listening map[int]*Socket // by its own numbers
	cut       bool            // it has more descriptors than are looked at
	pollers   []poller
}

// poller is a descriptor by which a process waits for others.
type poller struct {
	fd   int
	ring bool // of io_uring(7), not epoll(7)
}

// open reads which descriptors the process has. held gets its other sockets.
func (p *process) open(held map[uint64]bool) error {
	list, err := names(p.dir, "fd", mostDescriptors)
	if err != nil {
		return unwrap(err)
	}
	p.cut = len(list) >= mostDescriptors
	p.listening = make(map[int]*Socket)
	var buf [64]byte
	for _, name := range list {
		n, err := unix.Readlinkat(p.dir, "fd/"+name, buf[:])
		if err == unix.EACCES || err == unix.EPERM {
			return err
		}
		fd, bad := strconv.Atoi(name)
		if err != nil || bad != nil {
			continue
		}
		target := buf[:n]
		switch {
		case bytes.Equal(target, []byte("anon_inode:[eventpoll]")):
			if len(p.pollers) < mostPollers {
				p.pollers = append(p.pollers, poller{fd: fd})
			}
		case bytes.Equal(target, []byte("anon_inode:[io_uring]")):
			if len(p.pollers) < mostPollers {
				p.pollers = append(p.pollers, poller{fd: fd, ring: true})
			}
		default:
			if inode, ok := parseLink(target); ok {
				if s := p.sockets[inode]; s != nil {
					p.listening[fd] = s
				} else {
					held[inode] = true
				}
			}
		}
	}
	return nil
}

func unwrap(err error) error {
	if e, ok := err.(*os.PathError); ok {
		return e.Err
	}
	if e, ok := err.(*os.SyscallError); ok {
		return e.Err
	}
	return err
}

// waits works out how the process waits on one of the sockets. err says what
// could not be read, which matters where it seems not to wait.
func (p *process) waits() (manner, error) {
	sets, ring, hidden := p.sets()
	if ring {
		return ringing, nil
	}
	if len(p.listening) == 0 && len(sets) == 0 {
		return nowhere, nil
	}
	how, err := p.threads(sets)
	if how == nowhere && err == nil && hidden {
		err = errRing
	}
	return how, err
}

var errRing = errors.New("the kernel does not show what io_uring polls for")

// threads works out how a thread of the process waits. sets are the epoll sets
// that one of the sockets is in.
func (p *process) threads(sets map[int]bool) (manner, error) {
	if is32bit(p.dir) {
		if len(sets) > 0 {
			return epolling, nil
		}
		return nowhere, unix.ENOEXEC
	}
	tasks, err := names(p.dir, "task", mostThreads)
	if err != nil {
		return nowhere, unwrap(err)
	}
	memory := func(addr uint64, size int) ([]byte, error) { return readMemory(p.dir, addr, size) }
	best, failed, readable := nowhere, error(nil), false
	for _, task := range tasks {
		b, err := readAt(p.dir, "task/"+task+"/syscall", 256)
		if err != nil {
			if err != unix.ESRCH && err != unix.ENOENT {
				failed = err
			}
			continue
		}
		readable = true
		c, ok := parseCall(b)
		if !ok {
			continue
		}
		how, epoll, err := c.waits(p.listening, memory)
		if err != nil {
			failed = err
		}
		switch {
		case how == inAccept:
			return accepting, nil
		case how == inPoll:
			best = polling
		case how == inEpoll && sets[epoll]:
			best = epolling
		}
	}
	if !readable && len(sets) > 0 {
		// That a thread waits on the set cannot be seen. A set that a socket
		// was put into is the next best.
		return epolling, nil
	}
	return best, failed
}

// sets returns the numbers of the epoll sets that one of the sockets is in,
// whether a request to accept is in a ring of io_uring, and whether one to poll
// is, of which the kernel does not show the descriptor.
func (p *process) sets() (sets map[int]bool, ring, hidden bool) {
	sets = make(map[int]bool)
	members := make(map[int][]int)
	for _, poller := range p.pollers {
		b, err := readAt(p.dir, "fdinfo/"+strconv.Itoa(poller.fd), infoSize(len(p.pollers)))
		if err != nil {
			continue
		}
		if poller.ring {
			accepts, polls := parseRing(b, p.sockets, len(p.listening) > 0)
			ring, hidden = ring || accepts, hidden || polls
			continue
		}
		for _, m := range epollMembers(b) {
			if m.events&unix.EPOLLIN == 0 {
				continue // its events are off
			}
			// The inode is right even where the number belongs to another process,
			// or was closed. Linux before 5.4 has the number alone.
			if m.inode == 0 {
				sets[poller.fd] = sets[poller.fd] || p.listening[m.fd] != nil
			} else if s := p.sockets[m.inode]; s != nil && s.dev == m.dev {
				sets[poller.fd] = true
			}
			members[poller.fd] = append(members[poller.fd], m.fd)
		}
	}
	// A set may be in another set, on which a thread waits then.
	for range 4 {
		for outer, inner := range members {
			for _, fd := range inner {
				if sets[fd] {
					sets[outer] = true
				}
			}
		}
	}
	return sets, ring, hidden
}

// infoSize is what is read of one fdinfo: less of each, where there are many.
func infoSize(pollers int) int { return max(mostInfo/max(pollers, 1), 4096) }

// member is a descriptor in an epoll set.
type member struct {
	fd     int
	events uint32
	inode  uint64 // 0 where the kernel does not say
	dev    uint64 // of the file system that the inode is in, as the kernel has it
}

// epollMembers reads the fdinfo of an epoll descriptor, proc_pid_fdinfo(5):
//
//	tfd:        5 events:       1d data: ffffffffffffffff pos:0 ino:61af sdev:7
func epollMembers(b []byte) []member {
	var all []member
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) < 4 || string(f[0]) != "tfd:" || string(f[2]) != "events:" {
			continue
		}
		fd, err1 := strconv.Atoi(string(f[1]))
		events, err2 := strconv.ParseUint(string(f[3]), 16, 32)
		if err1 != nil || err2 != nil {
			continue
		}
		m := member{fd: fd, events: uint32(events)}
		for _, word := range f[4:] {
			if ino, ok := bytes.CutPrefix(word, []byte("ino:")); ok {
				m.inode, _ = strconv.ParseUint(string(ino), 16, 64)
			}
			if dev, ok := bytes.CutPrefix(word, []byte("sdev:")); ok {
				m.dev, _ = strconv.ParseUint(string(dev), 16, 64)
			}
		}
		all = append(all, m)
	}
	return all
}

// Of linux/io_uring.h.
const (
	ioringOpPollAdd = 6
	ioringOpAccept  = 13
)

// parseRing reads a ring's fdinfo, io_uring_show_fdinfo of the kernel's
// io_uring/fdinfo.c:
//
//	UserFiles:	1
//	    0: socket:[4711]
//	PollList:
//	  op=13, task_works=0
//
// It reports whether a request to accept waits there, or one to poll. For which
// socket it waits is not shown. has says that the process has one of the
// sockets open; a ring may also have it as a file of its own.
func parseRing(b []byte, sockets map[uint64]*Socket, has bool) (accepts, polls bool) {
	for line := range bytes.Lines(b) {
		f := bytes.Fields(line)
		if len(f) == 0 {
			continue
		}
		if op, ok := bytes.CutPrefix(f[0], []byte("op=")); ok {
			n, err := strconv.Atoi(string(bytes.TrimSuffix(op, []byte{','})))
			accepts = accepts || err == nil && n == ioringOpAccept
			polls = polls || err == nil && n == ioringOpPollAdd
		}
		if inode, ok := parseLink(f[len(f)-1]); ok && sockets[inode] != nil {
			has = true
		}
	}
	return accepts && has, polls && has
}
