package sockets

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Probe reports why Bind would fail for a spec, nil where it would not. It leaves
// nothing behind: a port is bound and given up without ever listening, and for the
// file of a unix socket it only looks.
func Probe(s Spec) error {
	sa, family, err := s.sockaddr()
	if err != nil {
		return fmt.Errorf("cannot bind %s: %v", s, err)
	}
	if s.hasFile() {
		return s.probeFile()
	}
	kind := unix.SOCK_STREAM
	switch s.Network {
	case UDP, UnixDatagram:
		kind = unix.SOCK_DGRAM
	case UnixSeqpacket:
		kind = unix.SOCK_SEQPACKET
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot make a socket for %s: %w%s", s, err, socketAdvice(err, family))
	}
	defer unix.Close(fd)
	if s.Network.Unix() {
		return s.bindUnix(fd, sa)
	}
	return s.bindInet(fd, sa, family)
}

// probeFile reports why the file of a unix socket could not be made.
func (s Spec) probeFile() error {
	if _, _, err := s.owner(); err != nil {
		return fmt.Errorf("cannot bind %s: %v", s.display(), err)
	}
	at, err := s.place()
	if err != nil {
		return fmt.Errorf("cannot bind %s: %w%s", s.display(), err, bindUnixAdvice(err))
	}
	defer at.dir.Close()
	if _, err := at.left(); err != nil {
		return fmt.Errorf("cannot bind %s: %v", s.display(), err)
	}
	err = at.dir.Inside(func() error { return unix.Faccessat(unix.AT_FDCWD, ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS) })
	if err != nil {
		return fmt.Errorf("cannot bind %s: %w%s", s.display(), err, bindUnixAdvice(err))
	}
	return nil
}
