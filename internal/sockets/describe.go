package sockets

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// Address is the address that fd really has, "127.0.0.1:40123" or a path; "" if
// it can't be told.
func Address(fd int) string {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return ""
	}
	return format(sa)
}

func format(sa unix.Sockaddr) string {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return formatIPv4(sa.Addr) + ":" + strconv.Itoa(sa.Port)
	case *unix.SockaddrInet6:
		return "[" + formatIPv6(sa.Addr, zoneOf(sa)) + "]:" + strconv.Itoa(sa.Port)
	case *unix.SockaddrUnix:
		return sa.Name
	}
	return ""
}

func zoneOf(sa *unix.SockaddrInet6) string {
	if sa.ZoneId == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(sa.ZoneId), 10)
}

// Bound is s with the port that fd really has, for a spec with port 0. Its Key
// is another: the socket is kept under the key of s.
func (s Spec) Bound(fd int) Spec {
	if s.Network.Unix() || s.Port != 0 {
		return s
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return s
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		s.Port = sa.Port
	case *unix.SockaddrInet6:
		s.Port = sa.Port
	}
	return s
}

// FromFD describes a socket that hotinit was itself given by socket activation,
// so that it can be passed on like one of its own. name is its name in
// LISTEN_FDNAMES, or "".
func FromFD(fd int, name string) (Spec, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return Spec{}, fmt.Errorf("descriptor %d of LISTEN_FDS is not a socket: %v", fd, err)
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return Spec{}, fmt.Errorf("cannot tell the type of descriptor %d of LISTEN_FDS: %v", fd, err)
	}
	s := Spec{FD: -1, Mode: -1}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		s.Network, s.Port = TCP, sa.Port
		if sa.Addr != [4]byte{} {
			s.Host = formatIPv4(sa.Addr)
		} else {
			s.OnlyIPv4 = true
		}
	case *unix.SockaddrInet6:
		s.Network, s.Port, s.Host = TCP, sa.Port, formatIPv6(sa.Addr, zoneOf(sa))
		only, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		s.DualStack = err == nil && only == 0 && sa.Addr == [16]byte{}
	case *unix.SockaddrUnix:
		if sa.Name == "" {
			return Spec{}, fmt.Errorf("descriptor %d of LISTEN_FDS is a unix socket without an address", fd)
		}
		s.Network, s.Path = UnixStream, sa.Name
	default:
		return Spec{}, fmt.Errorf("descriptor %d of LISTEN_FDS is a socket of another family than IPv4, IPv6 and unix", fd)
	}
	switch {
	case kind == unix.SOCK_DGRAM && s.Network == TCP:
		s.Network = UDP
	case kind == unix.SOCK_DGRAM:
		s.Network = UnixDatagram
	case kind == unix.SOCK_SEQPACKET:
		s.Network = UnixSeqpacket
	}
	if name != "" && name != "unknown" && s.setName(name) != nil {
		s.Name = fdName(name)
	}
	return s, nil
}
