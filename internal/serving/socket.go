package serving

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Socket is a socket on which a program waits for connections, or for
// datagrams.
type Socket struct {
	FD     int    // this process's own descriptor of it
	Inode  uint64 // of sockfs: /proc/PID/fd shows it as "socket:[Inode]"
	Stream bool   // it is listened on; a datagram socket has no connections
	Family int    // AF_INET, AF_INET6 or AF_UNIX

	dev  uint64   // of sockfs, as epoll's fdinfo has it
	addr [16]byte // AF_INET uses the first four bytes; all zero is any address
	port uint16
	name []byte // AF_UNIX: sun_path, without the NUL that ends a path
}

// Describe reads from the kernel what a descriptor of this process is.
func Describe(fd int) (Socket, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Socket{}, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return Socket{}, unix.ENOTSOCK
	}
	dev := uint64(st.Dev)
	s := Socket{FD: fd, Inode: st.Ino, dev: uint64(unix.Major(dev))<<20 | uint64(unix.Minor(dev))}
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return s, err
	}
	s.Stream = listens != 0
	raw, err := sockname(fd)
	if err != nil || len(raw) < 2 {
		return s, err
	}
	s.Family = int(binary.NativeEndian.Uint16(raw))
	switch {
	case s.Family == unix.AF_INET && len(raw) >= 8:
		s.port = binary.BigEndian.Uint16(raw[2:])
		copy(s.addr[:4], raw[4:8])
	case s.Family == unix.AF_INET6 && len(raw) >= 24:
		s.port = binary.BigEndian.Uint16(raw[2:])
		copy(s.addr[:], raw[8:24])
	case s.Family == unix.AF_UNIX:
		s.name = trimName(raw[2:])
	}
	return s, nil
}

// sockname is getsockname(2) as bytes: unix.Getsockname makes abstract names
// and paths look alike.
func sockname(fd int) ([]byte, error) {
	var raw [128]byte
	size := uint32(len(raw))
	_, _, errno := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&raw)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return nil, errno
	}
	return raw[:min(int(size), len(raw))], nil
}

// trimName removes the NUL behind a path. An abstract name begins with NUL and
// may end with one that belongs to it.
func trimName(name []byte) []byte {
	if len(name) > 0 && name[0] != 0 {
		name, _, _ = bytes.Cut(name, []byte{0})
	}
	return bytes.Clone(name)
}

// describeAll describes the sockets among the descriptors.
func describeAll(fds []int) []Socket {
	all := make([]Socket, 0, len(fds))
	for _, fd := range fds {
		if s, err := Describe(fd); err == nil {
			all = append(all, s)
		}
	}
	return all
}

// accepts reports whether a connection with this local address came in by s.
func (s *Socket) accepts(c *connection) bool {
	if !s.Stream || s.Family != c.family {
		return false
	}
	if s.Family == unix.AF_UNIX {
		return len(s.name) > 0 && bytes.Equal(s.name, c.name)
	}
	return s.port == c.port && (s.addr == [16]byte{} || s.addr == c.addr)
}

// Queue returns how many connections wait to be accepted. Connections that
// their clients have reset are among them until they are accepted.
func (s *Socket) Queue() (int, error) {
	if !s.Stream {
		return 0, nil
	}
	if s.Family != unix.AF_UNIX {
		// For a listening socket tcpi_unacked is the length of its queue,
		// tcp_get_info of the kernel's net/ipv4/tcp.c.
		info, err := unix.GetsockoptTCPInfo(s.FD, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return 0, err
		}
		return int(info.Unacked), nil
	}
	n, err := unixQueue(s.Inode)
	if err == nil {
		return n, nil
	}
	// Without sock_diag, at least whether any waits, poll(2).
	p := []unix.PollFd{{Fd: int32(s.FD), Events: unix.POLLIN}}
	n, err = unix.Poll(p, 0)
	if err != nil {
		return 0, err
	}
	return n, nil
}

// Backlog returns how many connections can wait to be accepted, 0 where that cannot
// be told.
func (s *Socket) Backlog() int {
	if !s.Stream || s.Family == unix.AF_UNIX {
		return 0
	}
	// See Queue; tcpi_sacked is the limit.
	info, err := unix.GetsockoptTCPInfo(s.FD, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0
	}
	return int(info.Sacked)
}

func parseLink(target []byte) (inode uint64, ok bool) {
	rest, ok := bytes.CutPrefix(target, []byte("socket:["))
	if !ok || len(rest) == 0 || rest[len(rest)-1] != ']' {
		return 0, false
	}
	inode, err := strconv.ParseUint(string(rest[:len(rest)-1]), 10, 64)
	return inode, err == nil
}
