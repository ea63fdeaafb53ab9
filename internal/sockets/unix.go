package sockets

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/passwd"
)

// defaultMode is what Server::Starter gives a socket file.
const defaultMode = 0o777

// bindUnix binds fd, with the file's mode and owner as s has them.
//
// The umask belongs to the whole process, so it is not touched, and there is no
// moment at which the file lets in more than asked for: the mode that bind(2)
// gives the file is the socket's own, which fchmod(2) may set before, less the
// umask; and to a stream or seqpacket socket nobody can connect before listen(2).
func (s Spec) bindUnix(fd int, sa unix.Sockaddr) error {
	if !s.hasFile() {
		if err := unix.Bind(fd, sa); err != nil {
			return fmt.Errorf("cannot bind %s: %w%s", s.display(), err, bindUnixAdvice(err))
		}
		return nil
	}
	mode := uint32(defaultMode)
	if s.Mode >= 0 {
		mode = uint32(s.Mode)
	}
	uid, gid, err := s.owner()
	if err != nil {
		return fmt.Errorf("cannot bind %s: %v", s.display(), err)
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return fmt.Errorf("cannot set the mode of %s: %v", s.display(), err)
	}
	err = unix.Bind(fd, sa)
	if err == unix.EADDRINUSE {
		if err := s.removeStale(); err != nil {
			return fmt.Errorf("cannot bind %s: %v", s.display(), err)
		}
		err = unix.Bind(fd, sa)
	}
	if err != nil {
		return fmt.Errorf("cannot bind %s: %w%s", s.display(), err, bindUnixAdvice(err))
	}
	if err := s.setOwner(uid, gid, mode); err != nil {
		unix.Unlink(s.Path)
		return err
	}
	return nil
}

func (s Spec) setOwner(uid, gid int, mode uint32) error {
	if uid >= 0 || gid >= 0 {
		if err := unix.Lchown(s.Path, uid, gid); err != nil {
			return fmt.Errorf("cannot give %s to user %q and group %q: %v (run as root)", s.Path, s.User, s.Group, err)
		}
	}
	if err := unix.Chmod(s.Path, mode); err != nil { // bind took the umask's bits away
		return fmt.Errorf("cannot set the mode of %s: %v", s.Path, err)
	}
	return nil
}

func bindUnixAdvice(err error) string {
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return " (hotinit must be able to write to its directory)"
	case errors.Is(err, unix.ENOENT):
		return " (create its directory first)"
	case errors.Is(err, unix.EROFS):
		return " (put it on a volume or tmpfs)"
	case errors.Is(err, unix.EADDRINUSE):
		return " (another process listens there; choose another name)"
	}
	return ""
}

// removeStale removes the socket file at s.Path if nobody serves it: a connect(2)
// to the file that a dead process left is refused.
func (s Spec) removeStale() error {
	var stat unix.Stat_t
	if err := unix.Lstat(s.Path, &stat); err != nil {
		if err == unix.ENOENT {
			return nil
		}
		return fmt.Errorf("cannot look at what is there: %v", err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return errors.New("there is a file that is not a socket (remove it, or choose another path)")
	}
	for _, kind := range [...]int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET, unix.SOCK_DGRAM} {
		peer, err := probe(s.Path, kind)
		switch err {
		case nil, unix.EAGAIN: // EAGAIN: its backlog is full
			return fmt.Errorf("%s serves it (stop it, or choose another path)", peer)
		case unix.ECONNREFUSED:
			if err := unix.Unlink(s.Path); err != nil && err != unix.ENOENT {
				return fmt.Errorf("cannot remove the socket file that a process left: %v", err)
			}
			return nil
		case unix.ENOENT:
			return nil
		case unix.EPROTOTYPE: // somebody serves it, with another type
		default:
			return fmt.Errorf("cannot tell whether the socket file there is in use: %v (remove it, or choose another path)", err)
		}
	}
	return errors.New("another process serves it (stop it, or choose another path)")
}

// probe connects to path and describes who answered.
func probe(path string, kind int) (peer string, err error) {
	peer = "another process"
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return peer, err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return peer, err
	}
	// SO_PEERCRED names who called listen(2), unix(7). It is 0 for a process of
	// another PID namespace, and for datagram sockets.
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || cred.Pid <= 0 {
		return peer, nil
	}
	pid := strconv.Itoa(int(cred.Pid))
	name, err := readFile("/proc/" + pid + "/comm")
	if err != nil {
		return "process " + pid, nil
	}
	return fmt.Sprintf("process %s (%s)", pid, strings.TrimSpace(name)), nil
}

// Remove removes the file of a unix socket that is given up. Other specs have
// none.
func Remove(s Spec) error {
	if !s.hasFile() {
		return nil
	}
	var stat unix.Stat_t
	err := unix.Lstat(s.Path, &stat)
	if err == nil && stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil // somebody put something else there
	}
	if err == nil {
		err = unix.Unlink(s.Path)
	}
	if err != nil && err != unix.ENOENT {
		return fmt.Errorf("cannot remove socket file %s: %v", s.Path, err)
	}
	return nil
}

// owner finds the numbers of s.User and s.Group, -1 for what is not named.
func (s Spec) owner() (uid, gid int, err error) {
	uid, gid = -1, -1
	if s.User != "" {
		id, err := passwd.UserID(s.User)
		if err != nil {
			return -1, -1, err
		}
		uid = int(id)
	}
	if s.Group != "" {
		id, err := passwd.GroupID(s.Group)
		if err != nil {
			return -1, -1, err
		}
		gid = int(id)
	}
	return uid, gid, nil
}
