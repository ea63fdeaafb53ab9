// Package safepath opens, creates, replaces and removes what a user named by
// its path, so that nobody but root and hotinit's own user decides which file
// that is.
//
// hotinit often runs as root and its app does not, and both write to the same
// directories: a log, a PID file, a socket. Whoever may write to a directory
// can put a symbolic link, a hard link or a FIFO in the place of a file, also
// between two system calls. The one invariant: a link is followed only where
// nobody but root and hotinit's own user could have made it, and every other
// operation goes through the descriptor of a directory that was opened on the
// way.
//
// A directory is settled if it and all directories above it belong to root or
// to hotinit's own user, and nobody else may write to it. In the directories
// above, the sticky bit is enough: there, nobody can move what is not theirs.
// In a settled directory an operator's own links (/var/run, /app/current),
// devices and FIFOs work as everywhere. In any other directory only regular
// files with one name are opened, and links are refused.
//
// openat2(2) is not used: RESOLVE_NO_SYMLINKS would refuse /var/run, and the
// rule needs a look at each directory on the way. A walk by openat(2) with
// O_NOFOLLOW is as safe, and works on all kernels and under all filters.
//
// safepath.go finds the directory, file.go works in it.
package safepath

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Refused is the error of a path that somebody else could lead elsewhere.
type Refused struct {
	Path string // as far as the walk came
	Why  string
}

func (r *Refused) Error() string { return "refused: " + r.Path + " " + r.Why }

// Is makes a refusal also the error that open(2) has with O_NOFOLLOW.
func (r *Refused) Is(target error) bool { return target == unix.ELOOP }

// Dir is an open directory.
type Dir struct {
	fd      int    // opened with O_PATH
	path    string // as it was reached, for messages
	owner   uint32
	holds   bool // nobody else can move what belongs to root or to us out of it
	settled bool // nobody else can put anything into it
	magic   bool // it is in a proc(5) file system
}

// Close closes the directory.
func (d *Dir) Close() {
	if d.fd >= 0 {
		unix.Close(d.fd)
		d.fd = -1
	}
}

// Settled reports whether nobody but root and hotinit's own user can change
// what is in the directory.
func (d *Dir) Settled() bool { return d.settled }

// Holds reports whether nobody but root and hotinit's own user can rename or remove
// in the directory what belongs to them. Others may be able to make files there.
func (d *Dir) Holds() bool { return d.holds }

// mostLinks is the kernel's own limit, path_resolution(7).
const mostLinks = 40

// target is a name in a directory that the walk came to.
type target struct {
	dir  *Dir
	name string
	// what is there; there is nothing where Mode is 0.
	stat unix.Stat_t
	// follow is set for a link of proc(5), which only the kernel can follow.
	follow bool
}

// Parent opens the directory that the last name of path is in. The name need
// not be there, and is not followed.
func Parent(path string) (*Dir, string, error) {
	t, err := walk(nil, path, false)
	if err != nil {
		return nil, "", err
	}
	return t.dir, t.name, nil
}

// OpenDir opens a directory.
func OpenDir(path string) (*Dir, error) {
	t, err := walk(nil, path, true)
	if err != nil {
		return nil, err
	}
	defer t.dir.Close()
	return t.enter()
}

// walk goes along path from the directory start, nil for the working
// directory. follow says that a link in the last place is followed as well.
// The caller closes the directory of what it returns.
func walk(start *Dir, path string, follow bool) (t target, err error) {
	if path == "" {
		return target{}, unix.ENOENT
	}
	if strings.IndexByte(path, 0) >= 0 {
		return target{}, unix.EINVAL
	}
	if strings.HasPrefix(path, "/") {
		t.dir, err = openRoot()
	} else if start != nil {
		t.dir, err = start.clone()
	} else {
		t.dir, err = openWorking()
	}
	if err != nil {
		return target{}, err
	}
	defer func() {
		if err != nil {
			t.dir.Close()
			t = target{}
		}
	}()
	rest := strings.TrimLeft(path, "/")
	for links := 0; ; {
		var more bool
		t.name, rest, more = strings.Cut(rest, "/")
		rest = strings.TrimLeft(rest, "/")
		last := rest == ""
		if t.name == "" || t.name == "." {
			if t.name = "."; !last {
				continue
			}
			return t, unix.Fstat(t.dir.fd, &t.stat)
		}
		t.stat, t.follow = unix.Stat_t{}, false
		fd, err := openat(t.dir.fd, t.name, unix.O_PATH|unix.O_NOFOLLOW, 0)
		if err == unix.ENOENT && last && !more {
			return t, nil
		}
		if err != nil {
			return t, err
		}
		if err := unix.Fstat(fd, &t.stat); err != nil {
			unix.Close(fd)
			return t, err
		}
		kind := t.stat.Mode & unix.S_IFMT
		if kind == unix.S_IFLNK && (!last || more || follow) {
			to, err := t.readLink(fd)
			unix.Close(fd)
			if err != nil {
				return t, err
			}
			if links++; links > mostLinks {
				return t, unix.ELOOP
			}
			if t.dir.magic {
				if last && !more {
					t.follow = true
					return t, unix.Fstatat(t.dir.fd, t.name, &t.stat, 0)
				}
				if err := t.descend(-1); err != nil {
					return t, err
				}
				continue
			}
			if more {
				to += "/" + rest
			}
			if strings.HasPrefix(to, "/") {
				top, err := openRoot()
				if err != nil {
					return t, err
				}
				t.dir.Close()
				t.dir = top
			}
			rest = strings.TrimLeft(to, "/")
			continue
		}
		if last && t.name != ".." && (!more || kind == unix.S_IFDIR) {
			unix.Close(fd)
			return t, nil
		}
		if kind != unix.S_IFDIR {
			unix.Close(fd)
			return t, unix.ENOTDIR
		}
		if err := t.descend(fd); err != nil {
			return t, err
		}
		if last { // ".."
			t.name = "."
			return t, nil
		}
	}
}

// readLink returns where a link leads to, if it may be followed.
func (t *target) readLink(fd int) (string, error) {
	switch {
	case !t.dir.settled:
		return "", &Refused{t.dir.join(t.name), "is a symbolic link in a directory in which others than root can make one" + t.dir.whose() + " (name the path that it leads to)"}
	case !trusted(t.stat.Uid) && !t.dir.magic: // proc(5) itself makes those that are there
		return "", &Refused{t.dir.join(t.name), fmt.Sprintf("is a symbolic link of user %d (name the path that it leads to)", t.stat.Uid)}
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", err
	}
	if n == 0 {
		return "", unix.ENOENT
	}
	return string(buf[:n]), nil
}

// descend makes fd, opened from the name in its directory, the directory. -1
// stands for where a link of proc(5) leads to.
func (t *target) descend(fd int) error {
	linked := fd < 0
	if linked {
		var err error
		if fd, err = openat(t.dir.fd, t.name, unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
			return err
		}
	}
	next, err := newDir(fd, t.dir.join(t.name), t.dir.holds)
	if err != nil {
		return err
	}
	if linked && !next.magic {
		next.holds, next.settled = false, false // nothing is known of the directories above it
	}
	t.dir.Close()
	t.dir = next
	return nil
}

// enter opens what was found as a directory.
func (t *target) enter() (*Dir, error) {
	if t.stat.Mode == 0 {
		return nil, unix.ENOENT
	}
	flags := unix.O_PATH | unix.O_DIRECTORY
	if !t.follow {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := openat(t.dir.fd, t.name, flags, 0)
	if err != nil {
		return nil, err
	}
	d, err := newDir(fd, t.dir.join(t.name), t.dir.holds)
	if err == nil && t.follow {
		d.holds, d.settled = false, false
	}
	return d, err
}

func (d *Dir) clone() (*Dir, error) {
	fd, err := unix.FcntlInt(uintptr(d.fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	c := *d
	c.fd = fd
	return &c, nil
}

func (d *Dir) join(name string) string {
	switch {
	case name == ".":
		return d.path
	case d.path == "" || strings.HasSuffix(d.path, "/"):
		return d.path + name
	}
	return d.path + "/" + name
}

// whose says whose the directory is, where that is why it is not settled.
func (d *Dir) whose() string {
	if trusted(d.owner) {
		return ""
	}
	return fmt.Sprintf(", user %d for one", d.owner)
}

func openRoot() (*Dir, error) {
	fd, err := openat(unix.AT_FDCWD, "/", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return newDir(fd, "/", true)
}

// openWorking opens the working directory. What is above it decides as well,
// so it is reached by its path; a directory that cannot be reached so (it was
// removed, or is above the root) is not settled.
func openWorking() (*Dir, error) {
	fd, err := openat(unix.AT_FDCWD, ".", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	here, err := newDir(fd, "", false)
	if err != nil {
		return nil, err
	}
	path, err := unix.Getwd()
	if err != nil || !strings.HasPrefix(path, "/") {
		return here, nil
	}
	byPath, err := OpenDir(path)
	if err != nil {
		return here, nil
	}
	defer byPath.Close()
	var a, b unix.Stat_t
	if unix.Fstat(here.fd, &a) == nil && unix.Fstat(byPath.fd, &b) == nil && a.Dev == b.Dev && a.Ino == b.Ino {
		here.holds, here.settled = byPath.holds, byPath.settled
	}
	return here, nil
}

// newDir judges a directory. It closes fd where it fails.
func newDir(fd int, path string, above bool) (*Dir, error) {
	var st unix.Stat_t
	var fs unix.Statfs_t
	err := unix.Fstat(fd, &st)
	if err == nil {
		err = unix.Fstatfs(fd, &fs)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	d := &Dir{fd: fd, path: path, owner: st.Uid, magic: fs.Type == unix.PROC_SUPER_MAGIC}
	// Where Kubernetes mounts configuration, everybody may write to it by its
	// mode, and nobody in fact: the mount is read-only.
	closed := st.Mode&0o022 == 0 || fs.Flags&unix.ST_RDONLY != 0
	// In a user namespace /proc itself belongs to nobody. What is directly in it
	// the kernel made; what is below belongs to processes.
	ours := above && (trusted(st.Uid) || d.magic && st.Ino == procRoot)
	d.holds = ours && (closed || st.Mode&unix.S_ISVTX != 0)
	d.settled = ours && closed
	return d, nil
}

// procRoot is PROC_ROOT_INO of the kernel.
const procRoot = 1

// trusted reports whether a user may lead hotinit where they like: root could
// anyway, and hotinit's own user is who hotinit can do no more than.
func trusted(uid uint32) bool { return uid == 0 || int(uid) == unix.Geteuid() }

// openat is openat(2), with O_CLOEXEC, tried again where a signal came.
func openat(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}
