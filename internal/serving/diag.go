package serving

import (
	"encoding/binary"
	"errors"
	"slices"

	"golang.org/x/sys/unix"
)

// connection is one that the kernel lists.
type connection struct {
	key    uint64 // names it among all that there are, while it exists
	inode  uint64 // 0: no process has it; it waits to be accepted, or was closed
	family int
	addr   [16]byte // local
	port   uint16   // local
	name   []byte   // AF_UNIX
}

// What the constants of linux/inet_diag.h, linux/unix_diag.h and
// linux/sock_diag.h are; x/sys/unix has none of them.
const (
	sizeofInetRequest = 56
	sizeofInetMessage = 72
	sizeofUnixRequest = 24
	sizeofUnixMessage = 16

	unixDiagName  = 0
	unixDiagIcons = 3
	unixDiagRqlen = 4

	udiagShowName  = 1 << 0
	udiagShowIcons = 1 << 3
	udiagShowRqlen = 1 << 4

	stateEstablished = 1
	stateCloseWait   = 8

	// waitingStates are those of a connection that waits to be accepted. What a
	// process has closed is in none of them.
	waitingStates = 1<<stateEstablished | 1<<stateCloseWait
	// heldStates are those in which a process can have a connection: all but
	// TIME_WAIT (6), CLOSE (7), LISTEN (10) and NEW_SYN_RECV (12).
	heldStates = 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5 | 1<<8 | 1<<9 | 1<<11
)

// most bounds how many connections one list has. With more than that on one
// port a list is cut off; what is in it is still true.
const most = 1 << 16

// errDiag says that the kernel's answer makes no sense.
var errDiag = errors.New("the kernel's list of connections cannot be read")

// connections lists the connections of a listening socket, in the given states.
// Both are from sock_diag(7), or from /proc/net where that is not to be had.
func (s *Socket) connections(states uint32) ([]connection, error) {
	if !s.Stream {
		return nil, nil
	}
	var all []connection
	var err error
	if s.Family == unix.AF_UNIX {
		all, err = unixConnections()
	} else {
		all, err = inetConnections(s.Family, s.port, states)
	}
	if err != nil {
		if all, err = procConnections(s.Family, states); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(all, func(c connection) bool { return !s.accepts(&c) }), nil
}

// Waiting returns the names of the connections that wait to be accepted and
// whose clients have not reset them.
func (s *Socket) Waiting() ([]uint64, error) {
	var names []uint64
	if s.Family == unix.AF_UNIX {
		return unixWaiting(s.Inode)
	}
	all, err := s.connections(waitingStates)
	for _, c := range all {
		if c.inode == 0 {
			names = append(names, c.key)
		}
	}
	return names, err
}

// inetConnections asks sock_diag(7) for the TCP sockets with this local port.
func inetConnections(family int, port uint16, states uint32) ([]connection, error) {
	request := make([]byte, sizeofInetRequest)
	request[0], request[1] = byte(family), unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(request[4:], states)
	binary.BigEndian.PutUint16(request[8:], port)
	var all []connection
	err := ask(request, unix.NLM_F_DUMP, func(b []byte) bool {
		if c, ok := parseInet(b); ok {
			all = append(all, c)
		}
		return len(all) < most
	})
	return all, err
}

// parseInet reads a struct inet_diag_msg.
func parseInet(b []byte) (connection, bool) {
	if len(b) < sizeofInetMessage {
		return connection{}, false
	}
	c := connection{
		family: int(b[0]),
		port:   binary.BigEndian.Uint16(b[4:]),
		key:    binary.NativeEndian.Uint64(b[44:]), // the cookie
		inode:  uint64(binary.NativeEndian.Uint32(b[68:])),
	}
	copy(c.addr[:], b[8:24])
	if c.family == unix.AF_INET {
		clear(c.addr[4:])
	}
	return c, true
}

// unixConnections lists the unix sockets that are connected and have a name.
func unixConnections() ([]connection, error) {
	var all []connection
	err := ask(unixRequest(0, udiagShowName, 1<<stateEstablished), unix.NLM_F_DUMP, func(b []byte) bool {
		if c, ok := parseUnix(b); ok && len(c.name) > 0 {
			all = append(all, c)
		}
		return len(all) < most
	})
	return all, err
}

func unixRequest(inode uint64, show, states uint32) []byte {
	request := make([]byte, sizeofUnixRequest)
	request[0] = unix.AF_UNIX
	binary.NativeEndian.PutUint32(request[4:], states)
	binary.NativeEndian.PutUint32(request[8:], uint32(inode))
	binary.NativeEndian.PutUint32(request[12:], show)
	// No cookie: whichever socket has the inode.
	binary.NativeEndian.PutUint64(request[16:], 1<<64-1)
	return request
}

// parseUnix reads a struct unix_diag_msg and its name.
func parseUnix(b []byte) (connection, bool) {
	if len(b) < sizeofUnixMessage {
		return connection{}, false
	}
	c := connection{
		family: unix.AF_UNIX,
		inode:  uint64(binary.NativeEndian.Uint32(b[4:])),
		key:    binary.NativeEndian.Uint64(b[8:]),
	}
	attributes(b[sizeofUnixMessage:], func(kind uint16, value []byte) {
		if kind == unixDiagName {
			c.name = trimName(value)
		}
	})
	return c, true
}

// unixQueue returns how many connections wait at a listening unix socket.
func unixQueue(inode uint64) (int, error) {
	n, found := 0, false
	err := ask(unixRequest(inode, udiagShowRqlen, 1<<32-1), 0, func(b []byte) bool {
		if len(b) >= sizeofUnixMessage {
			attributes(b[sizeofUnixMessage:], func(kind uint16, value []byte) {
				if kind == unixDiagRqlen && len(value) >= 4 {
					n, found = int(binary.NativeEndian.Uint32(value)), true
				}
			})
		}
		return false
	})
	if err == nil && !found {
		err = errDiag
	}
	return n, err
}

// unixWaiting returns the inodes of those that wait to be accepted by a
// listening unix socket, the clients' own.
func unixWaiting(inode uint64) ([]uint64, error) {
	var names []uint64
	err := ask(unixRequest(inode, udiagShowIcons, 1<<32-1), 0, func(b []byte) bool {
		if len(b) >= sizeofUnixMessage {
			attributes(b[sizeofUnixMessage:], func(kind uint16, value []byte) {
				for ; kind == unixDiagIcons && len(value) >= 4 && len(names) < most; value = value[4:] {
					if ino := binary.NativeEndian.Uint32(value); ino != 0 {
						names = append(names, uint64(ino))
					}
				}
			})
		}
		return false
	})
	return names, err
}

// attributes calls f for each netlink attribute.
func attributes(b []byte, f func(kind uint16, value []byte)) {
	for len(b) >= unix.SizeofNlAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofNlAttr || size > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:]), b[unix.SizeofNlAttr:size])
		b = b[min(align(size), len(b)):]
	}
}

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// ask sends one request to sock_diag(7) and calls each for each answer, until
// it returns false.
func ask(request []byte, flags uint16, each func([]byte) bool) error {
	// A socket for each request: an answer that was cut off must not be taken
	// for a later one's.
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// The kernel answers at once. The time-out is for one that does not.
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1})
	message := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(request))
	binary.NativeEndian.PutUint32(message, uint32(cap(message)))
	binary.NativeEndian.PutUint16(message[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(message[6:], unix.NLM_F_REQUEST|flags)
	message = append(message, request...)
	if err := unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 32<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if more, err := answers(buf[:n], flags&unix.NLM_F_DUMP != 0, each); err != nil || !more {
			return err
		}
	}
}

// answers reads the netlink messages of one datagram. more is false once there
// is no further datagram to wait for.
func answers(b []byte, dump bool, each func([]byte) bool) (more bool, err error) {
	if len(b) < unix.SizeofNlMsghdr {
		return false, errDiag
	}
	for len(b) >= unix.SizeofNlMsghdr {
		size := binary.NativeEndian.Uint32(b)
		if size < unix.SizeofNlMsghdr || int64(size) > int64(len(b)) {
			return false, errDiag
		}
		body := b[unix.SizeofNlMsghdr:size]
		switch binary.NativeEndian.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return false, nil
		case unix.NLMSG_ERROR:
			if len(body) < 4 {
				return false, errDiag
			}
			if errno := -int32(binary.NativeEndian.Uint32(body)); errno != 0 {
				return false, unix.Errno(errno)
			}
			return false, nil
		case unix.SOCK_DIAG_BY_FAMILY:
			if !each(body) {
				return false, nil
			}
			if !dump {
				return false, nil
			}
		}
		b = b[min(align(int(size)), len(b)):]
	}
	return true, nil
}
