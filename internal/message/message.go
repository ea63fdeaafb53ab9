// Package message is what init and the handoff say to each other.
//
// The two are the same executable in two processes, joined by a pair of
// SOCK_SEQPACKET sockets: one message is one packet, so a message is either
// there as a whole or not at all, whenever either side is killed.
//
// Init says Start once, then Signal for each signal that PID 1 received. The
// handoff says Hello once, and then Keep, Drop, Record and Exit. Nothing is
// answered: a Record that carries the number of a signal is the
// acknowledgement of that signal and of all before it.
package message

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Kind tells what a message says.
type Kind byte

const (
	// Start is init's first message to each handoff. Text is the working
	// folder that hotinit was started in, Names are the descriptors that
	// init keeps (they are the handoff's descriptors FirstKept and up, in
	// this order), Blob is the last Record.
	Start Kind = 1 + iota
	// Signal says that PID 1 received signal Value. Seq counts them from 1.
	Signal
	// Hello says that the handoff is at work. Value is a bit set, see
	// HelloWarn; the parent death signal is in the upper bits.
	Hello
	// Keep gives init the attached descriptor to hold under the name Text.
	Keep
	// Drop has init close what it keeps under the name Text.
	Drop
	// Record gives init the handoff's whole state, to hand to the next
	// handoff if this one dies. Seq is the last signal acted upon. Without a
	// Blob it only says so, and the record stays as it is.
	Record
	// Exit is the verdict: init ends what is left and exits with status
	// Value. What is left gets SIGTERM, and Seq milliseconds before
	// SIGKILL; LeaveRest in Seq means that it is left alone. Names are the
	// processes (proc.Stat.Key) that had a SIGTERM: they get no second one.
	Exit
)

const (
	// Socket is the handoff's descriptor of its end of the socket pair.
	Socket = 3
	// FirstKept is the handoff's descriptor of the first kept one.
	FirstKept = 4
	// LeaveRest in Exit's Seq: init exits and ends nobody.
	LeaveRest = ^uint64(0)
	// Inherited begins the names of the descriptors that hotinit itself was
	// started with; the number that each had follows.
	Inherited = "inherited/"
	// Output in Keep's Text: init has the descriptor as its standard output
	// and standard error too, from then on.
	Output = "output"
	// Terminal in Keep's Text: init, which leads the session, gives up its
	// controlling terminal, its own descriptor Value, so that another session
	// can have it, and then closes the attached descriptor.
	Terminal = "terminal"
	// Cgroup begins the name of the folder of hotinit's own cgroup. What begins
	// the names of those that it makes there follows; init removes them in the
	// end.
	Cgroup = "cgroup/"
	// StartInherited or a descriptor in Start's Value: all that init keeps was
	// inherited from whoever started hotinit, and is at the number that its name
	// says; only 3, where the socket is, is at that descriptor. With 0, what init
	// keeps is from FirstKept on, in the order of the names.
	StartInherited = -1
	// HelloWarn in Hello's Value: init says on stderr which orphans it reaped.
	HelloWarn = 1
	// HelloSuspend in Hello's Value: init stops itself after a job control
	// signal that the handoff has acted upon.
	HelloSuspend = 2
	// HelloDeathShift is where the parent death signal is in Hello's Value.
	HelloDeathShift = 8
	// Max is the size in bytes of the largest message. It is below the
	// default send buffer of a socket, which bounds a packet.
	Max = 128 << 10
)

// Message is one packet. Which fields mean something is up to Kind.
type Message struct {
	Kind  Kind
	Seq   uint64
	Value int
	Text  string
	Names []string
	Blob  []byte
	// FD is the attached descriptor of Keep, -1 with any other. Who
	// receives it owns it; it has close-on-exec set.
	FD int
}

// Pair returns the two ends of a new socket pair, non-blocking and
// close-on-exec.
func Pair() (init, handoff int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("cannot make a socket pair: %w", err)
	}
	Widen(fds[0])
	Widen(fds[1])
	return fds[0], fds[1], nil
}

// Widen makes room for a record of several hundred generations, which must fit
// whole, in what is sent on the socket fd. Where the limit (net.core.wmem_max)
// is lower the default has to do.
func Widen(fd int) { _ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4*Max) }

// Buffer is room for the largest message. Only what is used of it costs memory,
// unlike with a slice, which Go clears. free is to be called once nothing refers
// to it.
func Buffer() (buf []byte, free func()) {
	buf, err := unix.Mmap(-1, 0, Max, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return make([]byte, Max), func() {}
	}
	return buf, func() { _ = unix.Munmap(buf) }
}

// Send sends m on the socket fd. It returns unix.EAGAIN where the other side
// does not read and the socket is full, and unix.EPIPE where it is gone.
func Send(fd int, m Message) error {
	b := make([]byte, 0, 32+len(m.Text)+len(m.Blob))
	b = append(b, byte(m.Kind))
	b = binary.AppendUvarint(b, m.Seq)
	b = binary.AppendVarint(b, int64(m.Value))
	b = appendBytes(b, m.Text)
	b = binary.AppendUvarint(b, uint64(len(m.Names)))
	for _, n := range m.Names {
		b = appendBytes(b, n)
	}
	b = appendBytes(b, m.Blob)
	var rights []byte
	if m.Kind == Keep {
		rights = unix.UnixRights(m.FD)
	}
	for {
		err := sendmsg(fd, b, rights)
		if err != unix.EINTR {
			return err
		}
	}
}

func appendBytes[T string | []byte](b []byte, s T) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// Receive reads one message from the socket fd into buf, which is Max bytes
// long; the message's Blob lies in buf. It returns unix.EAGAIN where there
// is none yet and unix.EPIPE where the other side is gone.
func Receive(fd int, buf []byte) (Message, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	var n, oobn int
	var err error
	for {
		n, oobn, err = recvmsg(fd, buf, oob)
		if err != unix.EINTR {
			break
		}
	}
	switch {
	case err == unix.ECONNRESET || err == nil && n == 0:
		// The other end was closed with packets unread, or without.
		return Message{}, unix.EPIPE
	case err != nil:
		return Message{}, err
	}
	m, ok := decode(buf[:n])
	m.FD = attached(oob[:oobn])
	if !ok {
		if m.FD >= 0 {
			unix.Close(m.FD)
		}
		return Message{}, fmt.Errorf("message of %d bytes makes no sense", n)
	}
	return m, nil
}

func attached(oob []byte) int {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(msgs) == 0 {
		return -1
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) == 0 {
		return -1
	}
	return fds[0]
}

// decode reads what Send wrote. A message of another version of hotinit
// (the handoff can be replaced by one) must never crash PID 1, so each
// length is checked.
func decode(b []byte) (m Message, ok bool) {
	if len(b) == 0 {
		return m, false
	}
	d := decoder{b: b[1:]}
	m.Kind = Kind(b[0])
	m.Seq = d.uvarint()
	m.Value = int(d.varint())
	m.Text = string(d.bytes())
	count := d.uvarint()
	if count > uint64(len(d.b)) {
		return m, false
	}
	for range count {
		m.Names = append(m.Names, string(d.bytes()))
	}
	m.Blob = d.bytes()
	return m, !d.bad && len(d.b) == 0
}

type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.b, d.bad = nil, true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.b, d.bad = nil, true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.b, d.bad = nil, true
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}
