package sockets

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// maxBacklog stands for "as many as the kernel allows": listen(2) cuts it to
// net.core.somaxconn, which is what SOMAXCONN is meant to say. 16 bits, since
// kernels before 4.1 took no more.
const maxBacklog = 65535

// Bind makes the socket of s: in blocking mode, close-on-exec, listening unless it
// is a datagram socket. A backlog of 0 is as many as the kernel allows; the
// spec's own wins.
//
// A port without an address is bound for IPv6 and IPv4 by one socket, as Go and
// Node do it, and for IPv4 alone where the kernel, or whatever confines hotinit, has
// no IPv6.
func Bind(s Spec, backlog int) (fd int, err error) {
	if s.bare() && !s.OnlyIPv4 {
		both := s
		both.Host, both.DualStack = "::", true
		fd, err := bindAs(both, backlog)
		if err == nil || !withoutIPv6(err) {
			return fd, err
		}
	}
	return bindAs(s, backlog)
}

// withoutIPv6 reports whether an error of socket(2) or bind(2) means that there is
// no IPv6: it is not in the kernel (EAFNOSUPPORT), it was disabled at boot or by
// sysctl (EADDRNOTAVAIL), or a filter of system calls forbids it (EPERM).
func withoutIPv6(err error) bool {
	for _, e := range []unix.Errno{unix.EAFNOSUPPORT, unix.EPROTONOSUPPORT, unix.EADDRNOTAVAIL, unix.EPERM, unix.ENOPROTOOPT} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func bindAs(s Spec, backlog int) (fd int, err error) {
	sa, family, err := s.sockaddr()
	if err != nil {
		return -1, fmt.Errorf("cannot bind %s: %v", s, err)
	}
	kind := unix.SOCK_STREAM
	switch s.Network {
	case UDP, UnixDatagram:
		kind = unix.SOCK_DGRAM
	case UnixSeqpacket:
		kind = unix.SOCK_SEQPACKET
	}
	// In blocking mode, as Server::Starter and systemd pass sockets on: an app
	// that accepts in several processes and relies on it would spin otherwise.
	// One that wants the other mode (Go, Node) sets it by itself; nginx needs it, and
	// does not for a socket that it is given: see Spec.Nonblock.
	fd, err = unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("cannot make a socket for %s: %w%s", s.display(), err, socketAdvice(err, family))
	}
	if s.Network.Unix() {
		err = s.bindUnix(fd, sa)
	} else {
		err = s.bindInet(fd, sa, family)
	}
	if err == nil && s.Network.Listens() {
		if s.Backlog > 0 {
			backlog = s.Backlog
		}
		if backlog <= 0 {
			backlog = maxBacklog
		}
		err = s.listen(fd, backlog)
	}
	if err == nil && s.Nonblock {
		if err = unix.SetNonblock(fd, true); err != nil {
			err = fmt.Errorf("cannot set O_NONBLOCK for %s: %w", s.display(), err)
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (s Spec) listen(fd, backlog int) error {
	if err := unix.Listen(fd, backlog); err != nil {
		return fmt.Errorf("cannot listen on %s: %w%s", s.display(), err, s.bindAdvice(err))
	}
	return nil
}

func (s Spec) bindInet(fd int, sa unix.Sockaddr, family int) error {
	// SO_REUSEADDR lets a port be bound while old connections to it are in
	// TIME_WAIT, socket(7). For UDP it would mean that another process may bind
	// the same port and take its packets.
	if s.Network == TCP {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return fmt.Errorf("cannot set SO_REUSEADDR for %s: %v", s.display(), err)
		}
	}
	if s.ReusePort {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return fmt.Errorf("cannot set SO_REUSEPORT for %s: %v", s.display(), err)
		}
	}
	if family == unix.AF_INET6 {
		// Set in both cases: the default is the system's, net.ipv6.bindv6only.
		only := 1
		if s.DualStack {
			only = 0
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return fmt.Errorf("cannot set IPV6_V6ONLY for %s: %w", s.display(), err)
		}
	}
	if err := unix.Bind(fd, sa); err != nil {
		return fmt.Errorf("cannot bind %s: %w%s", s.display(), err, s.bindAdvice(err))
	}
	return nil
}

// display is s as errors name it: the address that is really bound.
func (s Spec) display() string {
	if s.Network.Unix() {
		return s.Path
	}
	text := s.numeric().hostPort()
	if s.Network == UDP {
		text += " (UDP)"
	}
	return text
}

// bindAdvice says what to do about an error of bind(2) or listen(2).
func (s Spec) bindAdvice(err error) string {
	switch {
	case errors.Is(err, unix.EACCES) && !s.Network.Unix() && s.Port < 1024:
		return " (run as root, or publish a port above 1023)"
	case errors.Is(err, unix.EADDRINUSE):
		return " (" + s.occupant() + ")"
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return " (no network interface has this address)"
	}
	return ""
}

func socketAdvice(err error, family int) string {
	switch {
	case errors.Is(err, unix.EAFNOSUPPORT) && family == unix.AF_INET6:
		return " (this machine has no IPv6)"
	case errors.Is(err, unix.EMFILE):
		return " (raise the limit of open files, RLIMIT_NOFILE)"
	}
	return ""
}
