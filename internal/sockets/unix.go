package sockets

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/passwd"
	"github.com/hotinit/hotinit/internal/safepath"
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
	at, err := s.place()
	if err != nil {
		return fmt.Errorf("cannot bind %s: %w%s", s.display(), err, bindUnixAdvice(err))
	}
	defer at.dir.Close()
	bind := func(path string) error { return unix.Bind(fd, &unix.SockaddrUnix{Name: path}) }
	err = at.do(bind)
	if err == unix.EADDRINUSE {
		if err := at.removeStale(); err != nil {
			return fmt.Errorf("cannot bind %s: %v", s.display(), err)
		}
		err = at.do(bind)
	}
	if err != nil {
		return fmt.Errorf("cannot bind %s: %w%s", s.display(), err, bindUnixAdvice(err))
	}
	if err := s.setOwner(at, uid, gid, mode); err != nil {
		_ = at.dir.Remove(at.name)
		return err
	}
	return nil
}

// place is where a socket's file is: a directory that is open, and a name.
type place struct {
	dir        *safepath.Dir
	path, name string
}

func (s Spec) place() (place, error) {
	dir, name, err := safepath.Parent(s.Path)
	return place{dir, s.Path, name}, err
}

// do calls f with a path to the file. bind(2) and connect(2) take no directory,
// and follow whatever link somebody has put in its place. So where others than
// root can change a directory on the way, the path is the name alone, in the
// directory that was opened. Elsewhere it is the path as it was given, which is
// what getsockname(2) then says.
func (p place) do(f func(path string) error) error {
	if p.dir.Settled() {
		return f(p.path)
	}
	name := p.name
	if name[0] == '@' { // which would be an abstract address
		name = "./" + name
	}
	return p.dir.Inside(func() error { return f(name) })
}

// setOwner gives the file its owner and mode, by a descriptor of the very file.
func (s Spec) setOwner(at place, uid, gid int, mode uint32) error {
	file, err := at.dir.Pin(at.name)
	if err == nil {
		defer file.Close()
		// Nobody but root could have put another socket of ours there.
		if file.Stat.Mode&unix.S_IFMT != unix.S_IFSOCK || int(file.Stat.Uid) != unix.Geteuid() || file.Stat.Nlink != 1 {
			err = errors.New("somebody replaced it as soon as it was made")
		}
	}
	if err != nil {
		return fmt.Errorf("cannot find the socket file %s again: %w", s.Path, err)
	}
	if uid >= 0 || gid >= 0 {
		if err := file.Chown(uid, gid); err != nil {
			return fmt.Errorf("cannot give %s to user %q and group %q: %v (run as root)", s.Path, s.User, s.Group, err)
		}
	}
	if file.Stat.Mode&0o7777 == mode {
		return nil
	}
	if err := file.Chmod(mode); err != nil { // bind took the umask's bits away
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

// removeStale removes the socket file if nobody serves it.
func (p place) removeStale() error {
	left, err := p.left()
	if err != nil || !left {
		return err
	}
	if err := p.dir.Remove(p.name); err != nil && err != unix.ENOENT {
		return fmt.Errorf("cannot remove the socket file that a process left: %v", err)
	}
	return nil
}

// left reports whether there is a socket file that nobody serves: connect(2) is
// refused where a process that is gone left the file. It is an error if something
// else has the name.
func (p place) left() (bool, error) {
	file, err := p.dir.Pin(p.name)
	if err != nil {
		if err == unix.ENOENT {
			return false, nil
		}
		return false, fmt.Errorf("cannot look at what is there: %v", err)
	}
	file.Close()
	if file.Stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return false, errors.New("there is a file that is not a socket (remove it, or choose another path)")
	}
	for _, kind := range [...]int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET, unix.SOCK_DGRAM} {
		peer, err := p.probe(kind)
		switch err {
		case nil, unix.EAGAIN: // EAGAIN: its backlog is full
			return false, fmt.Errorf("%s serves it (stop it, or choose another path)", peer)
		case unix.ECONNREFUSED:
			return true, nil
		case unix.ENOENT:
			return false, nil
		case unix.EPROTOTYPE: // somebody serves it, with another type
		default:
			return false, fmt.Errorf("cannot tell whether the socket file there is in use: %v (remove it, or choose another path)", err)
		}
	}
	return false, errors.New("another process serves it (stop it, or choose another path)")
}

// probe connects to the file and describes who answered.
func (p place) probe(kind int) (peer string, err error) {
	peer = "another process"
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return peer, err
	}
	defer unix.Close(fd)
	err = p.do(func(path string) error { return unix.Connect(fd, &unix.SockaddrUnix{Name: path}) })
	if err != nil {
		return peer, err
	}
	// SO_PEERCRED names who called listen(2), unix(7). It is 0 for a process of
	// another PID namespace, and for datagram sockets.
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || cred.Pid <= 0 {
		return peer, nil
	}
	return processName(int(cred.Pid)), nil
}

// Remove removes the file of a unix socket that is given up. Other specs have
// none.
func Remove(s Spec) error {
	if !s.hasFile() {
		return nil
	}
	at, err := s.place()
	if err == nil {
		defer at.dir.Close()
		var file *safepath.Pinned
		if file, err = at.dir.Pin(at.name); err == nil {
			file.Close()
			if file.Stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
				return nil // somebody put something else there
			}
			err = at.dir.Remove(at.name)
		}
	}
	if err != nil && err != unix.ENOENT {
		return fmt.Errorf("cannot remove the socket file %s: %v", s.Path, err)
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
