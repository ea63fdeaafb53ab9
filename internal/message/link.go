package message

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Link is one end of the socket pair. Send may be called from any goroutine;
// only one may receive.
type Link struct {
	mu     sync.Mutex // guards fd against Close, and out
	fd     int        // -1 once it is closed
	file   *os.File   // the same in Go's poller, once Receive was called
	closed bool
	out    coder // of the message that is sent, used again
}

// NewLink is the link over one end of a socket pair, which it takes over.
func NewLink(fd int) *Link {
	widen(fd)
	return &Link{fd: fd}
}

// Pair returns the descriptors of the two ends of a new socket pair, which are
// non-blocking and close-on-exec.
func Pair() (init, handoff int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("cannot make a socket pair: %w", err)
	}
	return fds[0], fds[1], nil
}

// widen makes room for several messages of the largest size. Where the limit
// (net.core.wmem_max) is lower, the default must do.
func widen(fd int) { _ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4*Max) }

// buffer is room for the largest message. Unlike a slice, which Go clears, it
// costs only the memory that is used. Nothing may refer to it after free.
func buffer() (buf []byte, free func()) {
	buf, err := unix.Mmap(-1, 0, Max, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return make([]byte, Max), func() {}
	}
	return buf, func() { _ = unix.Munmap(buf) }
}

// Send sends a message. It does not wait: its error is unix.EAGAIN where the
// other side does not read and the socket is full, unix.EPIPE where the other
// side is gone, and unix.EMSGSIZE for a message of more than Max bytes.
func (l *Link) Send(m Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return unix.EPIPE
	}
	l.out.write(m)
	b, fd := l.out.b, l.out.fd
	if cap(b) > Max/16 {
		defer func() { l.out.b = nil }() // a large one is rare
	}
	if len(b) > Max {
		return unix.EMSGSIZE
	}
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	for {
		err := sendmsg(l.fd, b, rights)
		if err != unix.EINTR {
			return err
		}
	}
}

// SendWait sends a message, and waits while the socket is full.
func (l *Link) SendWait(m Message) error {
	for {
		err := l.Send(m)
		if err != unix.EAGAIN {
			return err
		}
		if err := l.poll(unix.POLLOUT); err != nil {
			return err
		}
	}
}

// SendRecord sends a record of any size, in as many messages as it needs, and
// waits while the socket is full.
func (l *Link) SendRecord(r Record) error {
	for _, part := range r.Parts() {
		if err := l.SendWait(part); err != nil {
			return err
		}
	}
	return nil
}

// Parts returns the messages that a record is sent in.
func (r Record) Parts() (parts []*Record) {
	for {
		part := r
		n := min(len(r.State), maxState)
		part.State, r.State = r.State[:n], r.State[n:]
		part.More = len(r.State) > 0
		parts = append(parts, &part)
		if !part.More {
			return parts
		}
	}
}

// Parts returns the messages that a Start is sent in.
func (m Start) Parts() (parts []*Start) {
	rest := m.Kept
	for {
		part, size, n := m, len(m.Dir)+len(m.Upgrade.File)+len(m.Upgrade.Why), 0
		for n < len(rest) && (n == 0 || size < maxState-maxName) {
			size += len(rest[n].Name) + maxName
			n++
		}
		part.Kept, rest = rest[:n:n], rest[n:]
		part.More = len(rest) > 0
		parts = append(parts, &part)
		if !part.More {
			return parts
		}
	}
}

// maxName is more than what a name takes in a packet besides its letters.
const maxName = 32

// Join collects the parts of records.
type Join struct{ parts map[string][]byte }

// Add adds a message. When the record is complete, it returns the whole state,
// which may lie in the receiver's buffer.
func (j *Join) Add(r *Record) (state []byte, complete bool) {
	before, begun := j.parts[r.Program]
	if !begun && !r.More {
		return r.State, true
	}
	state = append(before, r.State...)
	if !r.More {
		delete(j.parts, r.Program)
		return state, true
	}
	if j.parts == nil {
		j.parts = make(map[string][]byte)
	}
	j.parts[r.Program] = state
	return nil, false
}

func (l *Link) poll(events int16) error {
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(l.fd), Events: events}}, -1)
	if err == unix.EINTR {
		return nil
	}
	return err
}

// Next waits for one message, with a thread. It is for those who know that the
// message is there, or will be at once, and comes before Receive.
func (l *Link) Next(handle func(Message)) error {
	buf, free := buffer()
	defer free()
	for {
		m, err := receive(l.fd, buf)
		switch err {
		case nil:
			handle(m)
			return nil
		case unix.EAGAIN:
		default:
			return err
		}
		if err := l.poll(unix.POLLIN); err != nil {
			return err
		}
	}
}

// Receive calls handle with each message, until handle returns false or the
// other side is gone and all that it sent is read, or until Stop, of which it
// reports whether that was so. A message is handle's only until it returns. odd is
// called for what is no message. It may be called again after Stop.
func (l *Link) Receive(handle func(Message) bool, odd func(error)) (stopped bool) {
	buf, free := buffer()
	defer free()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return false
	}
	if l.file == nil {
		l.file = os.NewFile(uintptr(l.fd), "link")
	} else {
		_ = l.file.SetReadDeadline(time.Time{})
	}
	raw, err := l.file.SyscallConn()
	l.mu.Unlock()
	var in inbox
	var m Message
	var failed error
	read := func(fd uintptr) bool {
		m, failed = in.receive(int(fd), buf)
		return failed != unix.EAGAIN
	}
	for err == nil {
		err = raw.Read(read)
		switch {
		case err != nil:
			return errors.Is(err, os.ErrDeadlineExceeded)
		case failed == unix.EPIPE:
			return false
		case failed != nil:
			odd(failed)
			if _, ok := failed.(unix.Errno); ok {
				return false // the socket itself fails, and would do so again
			}
		case !handle(m):
			return false
		}
	}
	return false
}

// Stop makes Receive return once it has handled the message that it has read.
// Those that it has not read stay in the socket.
func (l *Link) Stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed && l.file != nil {
		_ = l.file.SetReadDeadline(time.Unix(1, 0))
	}
}

// FD is the descriptor, which stays the link's own.
func (l *Link) FD() int { return l.fd }

// Close closes this end. Whoever sends later gets unix.EPIPE.
func (l *Link) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	if l.file != nil {
		l.file.Close()
	} else {
		unix.Close(l.fd)
	}
}

// inbox is what messages are received with. Those that come often lie in it, since
// init hardly ever collects its garbage: there should be none.
type inbox struct {
	oob    [24]byte // unix.CmsgSpace(4), or more
	coder  coder
	signal Signal
	keep   Keep
	drop   Drop
	record Record
	acted  Acted
}

// message returns what a message of a kind is read into. It may hold an earlier one:
// each field is read anew.
func (in *inbox) message(kind byte) Message {
	for _, m := range [...]Message{&in.signal, &in.keep, &in.drop, &in.record, &in.acted} {
		if m.kind() == kind {
			return m
		}
	}
	return empty(kind)
}

func receive(fd int, buf []byte) (Message, error) { return new(inbox).receive(fd, buf) }

// receive reads one message from the socket fd into buf, which is Max bytes
// long. It returns unix.EAGAIN where there is none yet and unix.EPIPE where the
// other side is gone.
func (in *inbox) receive(fd int, buf []byte) (Message, error) {
	oob := in.oob[:unix.CmsgSpace(4)]
	var n, oobn, flags int
	var err error
	for {
		n, oobn, flags, err = recvmsg(fd, buf, oob)
		if err != unix.EINTR {
			break
		}
	}
	switch {
	case err == unix.ECONNRESET || err == nil && n == 0:
		// The other end was closed with packets unread, or without.
		return nil, unix.EPIPE
	case err != nil:
		return nil, err
	}
	attached := attachedTo(oob[:oobn])
	m, ok := in.decode(buf[:n], attached)
	switch {
	// The kernel cuts what does not fit, recvmsg(2): bytes beyond the buffer, and
	// a descriptor where this process cannot have any more.
	case flags&unix.MSG_TRUNC != 0:
		err = fmt.Errorf("message has more than %d bytes", len(buf))
	case flags&unix.MSG_CTRUNC != 0:
		err = fmt.Errorf("message lost its descriptor (are there too many open files?)")
	case !ok:
		err = fmt.Errorf("message of %d bytes makes no sense", n)
	default:
		return m, nil
	}
	if attached >= 0 {
		unix.Close(attached)
	}
	return nil, err
}

// attachedTo returns the descriptor of a control message, see cmsg(3), -1 for none.
func attachedTo(oob []byte) int {
	if len(oob) < unix.CmsgLen(4) {
		return -1
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
	if h.Level != unix.SOL_SOCKET || h.Type != unix.SCM_RIGHTS || uint64(h.Len) < uint64(unix.CmsgLen(4)) {
		return -1
	}
	return int(int32(binary.NativeEndian.Uint32(oob[unix.CmsgLen(0):])))
}
