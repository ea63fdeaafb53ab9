package adopt

import (
	"encoding/binary"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxSockaddr is the size of struct sockaddr_storage: bind(2) says EINVAL for
// anything longer.
const maxSockaddr = 128

// Lengths of addresses from which on the kernel takes them.
const (
	inetLen  = 16
	inet6Len = 24 // SIN6_LEN_RFC2133: without the scope
	scopeLen = 28
	unixLen  = 3 // an abstract name of no bytes; less asks for any name
	unixMax  = 110
)

// ownNames begins the names of hotinit's own sockets (package control, NOTIFY_SOCKET).
// A hotinit that runs below another one binds such names, each of its own.
const ownNames = "\x00hotinit/"

// address is what of a socket address says where a socket is bound: the same
// string for the same place. family is that of the address.
type address struct {
	family uint16
	port   uint16 // 0 for a unix socket
	place  string
}

// parseAddress reads a socket address as bind(2) would, from untrusted bytes.
// What it refuses is left to the kernel: addresses that are not valid, the path
// of a unix socket (the file is the app's), and a name or a port for the kernel
// to choose.
func parseAddress(b []byte) (address, bool) {
	if len(b) < 2 || len(b) > maxSockaddr {
		return address{}, false
	}
	a := address{family: binary.NativeEndian.Uint16(b)}
	switch a.family {
	case unix.AF_INET, unix.AF_UNSPEC:
		if len(b) < inetLen {
			return a, false
		}
		a.port = binary.BigEndian.Uint16(b[2:])
		a.place = string(b[2:8])
		if a.family == unix.AF_UNSPEC {
			// The kernel takes it for any address of IPv4, for the sake of old
			// programs.
			if a.place[2:] != "\x00\x00\x00\x00" {
				return a, false
			}
			a.family = unix.AF_INET
		}
	case unix.AF_INET6:
		if len(b) < inet6Len {
			return a, false
		}
		a.port = binary.BigEndian.Uint16(b[2:])
		a.place = string(b[2:4]) + string(b[8:24])
		if linkLocal := b[8] == 0xfe && b[9]&0xc0 == 0x80; linkLocal && len(b) >= scopeLen {
			a.place += string(b[24:28])
		}
	case unix.AF_UNIX:
		if len(b) < unixLen || len(b) > unixMax || b[2] != 0 {
			return a, false
		}
		a.place = string(b[2:])
		return a, !strings.HasPrefix(a.place, ownNames)
	default:
		return a, false
	}
	return a, a.port != 0
}

// ephemeral reports whether an address asks the kernel for a port.
func ephemeral(b []byte) bool {
	if len(b) < inetLen {
		return false
	}
	switch binary.NativeEndian.Uint16(b) {
	case unix.AF_INET, unix.AF_INET6, unix.AF_UNSPEC:
		return b[2] == 0 && b[3] == 0
	}
	return false
}

// pathOf is the absolute path in the address of a unix socket, "" for any other.
func pathOf(b []byte) string {
	if len(b) < unixLen || len(b) > unixMax || binary.NativeEndian.Uint16(b) != unix.AF_UNIX || b[2] != '/' {
		return ""
	}
	return unix.ByteSliceToString(b[2:])
}

// sockname is getsockname(2) without an interpretation.
func sockname(fd int) ([]byte, error) {
	var b [maxSockaddr]byte
	n := uint32(len(b))
	_, _, e := syscall.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&b)), uintptr(unsafe.Pointer(&n)))
	if e != 0 {
		return nil, e
	}
	return b[:min(n, maxSockaddr)], nil
}

// connected reports whether a socket has a peer.
func connected(fd int) bool {
	_, err := unix.Getpeername(fd)
	return err == nil
}

// key says which held socket a bind is for: the same one has the same key.
type key struct {
	domain, kind int
	place        string
	v6only       bool
	device       string // SO_BINDTODEVICE
}

// at returns the key with an address. IPV6_V6ONLY matters to the address that is
// any; the kernel sets it with all others.
func (k key) at(a address) key {
	k.place = a.place
	if k.domain == unix.AF_INET6 && a.place[2:] != string(make([]byte, 16)) {
		k.v6only = false
	}
	return k
}

// adoptable reports whether such sockets are adopted.
func adoptable(domain, kind, protocol int) bool {
	switch domain {
	case unix.AF_INET, unix.AF_INET6:
		switch kind {
		case unix.SOCK_STREAM:
			return protocol == unix.IPPROTO_TCP || protocol == unix.IPPROTO_MPTCP
		case unix.SOCK_DGRAM:
			return protocol == unix.IPPROTO_UDP
		}
	case unix.AF_UNIX:
		return kind == unix.SOCK_STREAM || kind == unix.SOCK_SEQPACKET
	}
	return false
}

// keyOf is the key of a socket that is bound. ok is false for one that is not
// adopted.
func keyOf(fd int) (k key, ok bool) {
	k, protocol, err := kindOf(fd)
	if err != nil || !adoptable(k.domain, k.kind, protocol) {
		return k, false
	}
	b, err := sockname(fd)
	if err != nil {
		return k, false
	}
	a, ok := parseAddress(b)
	if !ok || int(a.family) != k.domain {
		return k, false
	}
	return k.at(a), true
}

// kindOf is a key without its address.
func kindOf(fd int) (k key, protocol int, err error) {
	if k.domain, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil {
		return k, 0, err
	}
	if k.kind, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil {
		return k, 0, err
	}
	if protocol, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil {
		return k, 0, err
	}
	if k.domain == unix.AF_INET6 {
		k.v6only = boolean(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
	}
	if k.domain != unix.AF_UNIX {
		var name [unix.IFNAMSIZ]byte
		if n, err := getsockopt(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, name[:]); err == nil {
			k.device = unix.ByteSliceToString(name[:n])
		}
	}
	return k, protocol, nil
}
