package safepath

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Open opens a file, or with O_CREAT makes it. It waits for nobody: neither
// for the other end of a FIFO nor for a device.
func Open(path string, flags int, mode uint32) (int, error) {
	return open(nil, path, flags, mode)
}

// Open opens a file by its path below the directory.
func (d *Dir) Open(path string, flags int, mode uint32) (int, error) {
	return open(d, path, flags, mode)
}

// Stat looks at what a path leads to.
func Stat(path string) (unix.Stat_t, error) {
	t, err := walk(nil, path, true)
	if err != nil {
		return unix.Stat_t{}, err
	}
	t.dir.Close()
	if t.stat.Mode == 0 {
		return unix.Stat_t{}, unix.ENOENT
	}
	return t.stat, nil
}

func open(start *Dir, path string, flags int, mode uint32) (int, error) {
	// Made and removed by turns, a file can be missed both ways.
	for range 8 {
		t, err := walk(start, path, true)
		if err != nil {
			return -1, err
		}
		fd, err := t.open(flags, mode)
		t.dir.Close()
		if err == unix.EEXIST && flags&unix.O_EXCL == 0 || err == unix.ENOENT && flags&unix.O_CREAT != 0 && t.stat.Mode != 0 {
			continue
		}
		return fd, err
	}
	return -1, unix.EAGAIN
}

func (t *target) open(flags int, mode uint32) (int, error) {
	if t.stat.Mode == 0 {
		if flags&unix.O_CREAT == 0 {
			return -1, unix.ENOENT
		}
		return openat(t.dir.fd, t.name, flags|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_NOCTTY, mode)
	}
	if flags&unix.O_EXCL != 0 {
		return -1, unix.EEXIST
	}
	if err := t.judge(&t.stat); err != nil {
		return -1, err
	}
	// Without O_CREAT: in a sticky directory the kernel forbids that for a file
	// of somebody else, fs.protected_regular in proc_sys_fs(5).
	flags = flags&^unix.O_CREAT | unix.O_NONBLOCK | unix.O_NOCTTY
	if !t.follow {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := openat(t.dir.fd, t.name, flags, 0)
	switch {
	case err == unix.ENXIO && t.stat.Mode&unix.S_IFMT == unix.S_IFIFO:
		return -1, &Refused{t.dir.join(t.name), "is a FIFO that nobody reads"}
	case err != nil:
		return -1, err
	}
	// What was opened is judged, and not what was there before.
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil {
		err = t.judge(&st)
	}
	if err == nil {
		// Others get the open file too, and expect it to wait as usual.
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags&^unix.O_NONBLOCK)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// judge says why a file is not opened, or nil.
func (t *target) judge(st *unix.Stat_t) error {
	kind := st.Mode & unix.S_IFMT
	switch {
	case kind == unix.S_IFDIR:
		return unix.EISDIR
	case t.dir.settled:
		return nil
	case kind != unix.S_IFREG:
		return &Refused{t.dir.join(t.name), "is not a regular file, in a directory that others than root can change"}
	case st.Nlink > 1:
		return &Refused{t.dir.join(t.name), "has another name elsewhere (a hard link), in a directory that others than root can change"}
	}
	return nil
}

// IsRegular reports whether path, below the directory, leads to a regular
// file.
func (d *Dir) IsRegular(path string) (bool, error) {
	t, err := walk(d, path, true)
	if err != nil {
		return false, err
	}
	t.dir.Close()
	if t.stat.Mode == 0 {
		return false, unix.ENOENT
	}
	return t.stat.Mode&unix.S_IFMT == unix.S_IFREG, nil
}

// ReadFile reads a file of at most max bytes.
func ReadFile(path string, max int) ([]byte, error) {
	fd, err := Open(path, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return ReadAll(fd, max)
}

// ReadFile reads a file of at most max bytes by its path below the directory.
func (d *Dir) ReadFile(path string, max int) ([]byte, error) {
	fd, err := d.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return ReadAll(fd, max)
}

// ReadAll reads an open file of at most max bytes to its end. Only of a regular file
// is an end certain.
func ReadAll(fd, max int) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("it is not a regular file: %w", unix.EINVAL)
	}
	var b []byte
	buf := make([]byte, min(max+1, 32<<10))
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return b, nil
		}
		if b = append(b, buf[:n]...); len(b) > max {
			return nil, fmt.Errorf("it is longer than %d bytes: %w", max, unix.EFBIG)
		}
	}
}

// Names lists the directory.
func (d *Dir) Names() ([]string, error) {
	fd, err := openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), d.path)
	defer f.Close()
	return f.Readdirnames(-1)
}

// Replace writes a file so that nobody ever reads half of it. A link that has
// its name is replaced, and not followed.
func Replace(path string, b []byte, mode uint32) error {
	d, name, err := Parent(path)
	if err != nil {
		return err
	}
	defer d.Close()
	temporary := "." + name[:min(len(name), 200)] + "." + random()
	fd, err := openat(d.fd, temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	if err = writeAll(fd, b); err == nil {
		err = unix.Fchmod(fd, mode)
	}
	if closed := unix.Close(fd); err == nil {
		err = closed
	}
	if err == nil {
		err = unix.Renameat(d.fd, temporary, d.fd, name)
	}
	if err != nil {
		_ = unix.Unlinkat(d.fd, temporary, 0)
	}
	return err
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func random() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// Remove removes a file; a link that has its name is removed, and not
// followed.
func Remove(path string) error {
	d, name, err := Parent(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Remove(name)
}

// Remove removes a file of the directory.
func (d *Dir) Remove(name string) error { return unix.Unlinkat(d.fd, name, 0) }

// IsLink reports whether a name is that of a symbolic link, wherever it leads.
func (d *Dir) IsLink(name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK
}

// MakeDir makes a directory with a random name that begins with prefix, which
// only hotinit's own user may enter, and opens it. RemoveDir removes it.
func (d *Dir) MakeDir(prefix string) (*Dir, string, error) {
	name := prefix + random()
	if err := unix.Mkdirat(d.fd, name, 0o700); err != nil {
		return nil, "", err
	}
	made, err := d.openMade(name)
	if err != nil {
		_ = d.RemoveDir(name)
		return nil, "", err
	}
	return made, name, nil
}

// openMade opens the directory that was just made. Whoever may write to d can
// have put another in its place, but none that is ours and closed to them.
func (d *Dir) openMade(name string) (*Dir, error) {
	fd, err := openat(d.fd, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && (int(st.Uid) != unix.Geteuid() || st.Mode&0o077 != 0) {
		err = &Refused{d.join(name), "was replaced as soon as it was made"}
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	// What happens to its name is nothing to those who have it open.
	return &Dir{fd: fd, path: d.join(name), owner: st.Uid, holds: true, settled: true}, nil
}

// RemoveDir removes an empty directory.
func (d *Dir) RemoveDir(name string) error {
	return unix.Unlinkat(d.fd, name, unix.AT_REMOVEDIR)
}

// Pinned is one file that was found, and stays the same whatever becomes of
// its name.
type Pinned struct {
	Stat unix.Stat_t
	fd   int
	path string
}

// Pin finds a file, which may be of any kind, also a link.
func (d *Dir) Pin(name string) (*Pinned, error) {
	fd, err := openat(d.fd, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	p := &Pinned{fd: fd, path: d.join(name)}
	if err := unix.Fstat(fd, &p.Stat); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return p, nil
}

// Close forgets the file.
func (p *Pinned) Close() { unix.Close(p.fd) }

// Chown is chown(2); -1 leaves the user or the group as it is.
func (p *Pinned) Chown(uid, gid int) error {
	return unix.Fchownat(p.fd, "", uid, gid, unix.AT_EMPTY_PATH)
}

// Chmod is chmod(2).
func (p *Pinned) Chmod(mode uint32) error {
	if p.Stat.Mode&unix.S_IFMT == unix.S_IFLNK {
		return unix.ELOOP
	}
	// fchmod(2) takes no descriptor that was opened with O_PATH, and a socket's
	// file can be opened in no other way. fchmodat2(2) is there since Linux 6.6;
	// before, the link in /proc leads to the very file.
	if err := unix.Fchmodat(p.fd, "", mode, unix.AT_EMPTY_PATH); err == nil {
		return nil
	}
	return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", p.fd), mode)
}

// inside is held by who has changed the working directory of the process.
var inside sync.Mutex

// Inside calls f with the directory as the working directory, for system calls
// that take no directory: bind(2), connect(2).
func (d *Dir) Inside(f func() error) error {
	inside.Lock()
	defer inside.Unlock()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := openat(unix.AT_FDCWD, ".", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(before)
	if err := unix.Fchdir(d.fd); err != nil {
		return err
	}
	err = f()
	if back := unix.Fchdir(before); err == nil {
		err = back
	}
	return err
}

// Same reports whether a file is this one.
func (p *Pinned) Same(st *unix.Stat_t) bool { return p.Stat.Dev == st.Dev && p.Stat.Ino == st.Ino }

// Dup returns a descriptor of the file, opened with O_PATH, that is the caller's.
func (p *Pinned) Dup() (int, error) { return unix.FcntlInt(uintptr(p.fd), unix.F_DUPFD_CLOEXEC, 3) }

// Link gives the file of a descriptor, opened with O_PATH, one more name, which
// must be free. The file must have a name still.
func (d *Dir) Link(fd int, name string) error {
	// AT_EMPTY_PATH asks for CAP_DAC_READ_SEARCH, linkat(2); the link in /proc does
	// not, and /proc may not be mounted.
	err := unix.Linkat(fd, "", d.fd, name, unix.AT_EMPTY_PATH)
	if err != nil && err != unix.EEXIST {
		err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), d.fd, name, unix.AT_SYMLINK_FOLLOW)
	}
	return err
}

// Rename renames a file within the directory, in the place of another.
func (d *Dir) Rename(from, to string) error { return unix.Renameat(d.fd, from, d.fd, to) }

// Exchange makes each of two files of the directory have the other's name, at once.
// Not every file system can do that.
func (d *Dir) Exchange(a, b string) error {
	return unix.Renameat2(d.fd, a, d.fd, b, unix.RENAME_EXCHANGE)
}

// RenameNew renames a file within the directory; EEXIST says that the new name is
// taken.
func (d *Dir) RenameNew(from, to string) error {
	err := unix.Renameat2(d.fd, from, d.fd, to, unix.RENAME_NOREPLACE)
	if err != unix.EINVAL && err != unix.ENOSYS {
		return err
	}
	var st unix.Stat_t
	if unix.Fstatat(d.fd, to, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
		return unix.EEXIST
	}
	return d.Rename(from, to)
}

// Symlink makes a symbolic link in the directory.
func (d *Dir) Symlink(to, name string) error { return unix.Symlinkat(to, d.fd, name) }

// SyncAll writes all of the file system that the directory is in to the disk.
func (d *Dir) SyncAll() error {
	fd, err := openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Syncfs(fd)
}

// Sync writes the directory's names to the disk.
func (d *Dir) Sync() error {
	fd, err := openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fsync(fd)
}

// Lock locks the directory by flock(2) and returns a descriptor that holds the lock
// until it is closed. It does not wait: EWOULDBLOCK says that somebody has it.
func (d *Dir) Lock() (int, error) {
	fd, err := openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Root opens the directory for what makes and removes many files in it, none of
// which can lead out of it.
func (d *Dir) Root() (*os.Root, error) { return os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", d.fd)) }

// Watch makes an inotify(7) descriptor watch the directory.
func (d *Dir) Watch(inotify int, mask uint32) error {
	_, err := unix.InotifyAddWatch(inotify, fmt.Sprintf("/proc/self/fd/%d", d.fd), mask|unix.IN_ONLYDIR)
	return err
}

// OpenProgram opens a file that hotinit itself is to execute. Nobody but root and
// hotinit's own user may have put it there, or be able to change it.
func OpenProgram(path string) (int, error) {
	t, err := walk(nil, path, true)
	if err != nil {
		return -1, err
	}
	defer t.dir.Close()
	if t.stat.Mode == 0 {
		return -1, unix.ENOENT
	}
	if !t.dir.settled {
		return -1, &Refused{t.dir.join(t.name), "is in a directory that others than root can change" + t.dir.whose()}
	}
	fd, err := t.open(unix.O_RDONLY, 0)
	if err != nil {
		return -1, err
	}
	if why := program(fd); why != "" {
		unix.Close(fd)
		return -1, &Refused{t.dir.join(t.name), why}
	}
	return fd, nil
}

// program says why hotinit does not execute a file, "" if it may.
func program(fd int) string {
	var st unix.Stat_t
	var fs unix.Statfs_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "cannot be examined: " + err.Error()
	}
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return "cannot be examined: " + err.Error()
	}
	readOnly := fs.Flags&unix.ST_RDONLY != 0 // whoever it belongs to, nobody in here changes it
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return "is not a regular file"
	case st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0:
		return "has the set-user-ID or set-group-ID bit"
	case readOnly:
		return ""
	case !trusted(st.Uid):
		return fmt.Sprintf("belongs to user %d, who can change it", st.Uid)
	case st.Mode&0o022 != 0:
		return fmt.Sprintf("can be changed by others than its owner (mode %04o): chmod go-w", st.Mode&0o7777)
	}
	return ""
}
