package deploy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/safepath"
)

// file is one file that is put in place.
type file struct {
	dir    *safepath.Dir
	name   string // its own
	beside string // of what is not in place: the new file, then the old one
	there  bool   // there was one before
	placed bool
}

// files are a release and what says that it is good, which goes first.
type files struct {
	dir  *safepath.Dir
	path string // of dir
	hint string // where the input is empty
	lock int
	most int64 // bytes of each
	list []*file
}

// companions end the names of what is deployed with a file, if it lies beside it.
var companions = []string{".sha256", ".minisig"}

// putFile puts a file in the place of the one that generations run.
func (r *request) putFile(in io.Reader, t control.Target) (placed, string, error) {
	path, asked := t.Real, t.File
	switch {
	case r.to != "":
		path, asked = r.to, r.to
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
		if t.Real != "" && path != t.Real && !r.watched(path, t) {
			return nil, "", fmt.Errorf("%s is not what hotinit runs, which is %s", r.to, t.File)
		}
	case path == "" && t.File != "":
		path = t.File // it was removed
	case path == "":
		return nil, "", errors.New("the command is not a file that hotinit looks at, so where a release belongs is not known: name it by --to PATH")
	}
	dir, name, err := parent(asked, path)
	if err != nil {
		return nil, "", err
	}
	f := &files{dir: dir, path: filepath.Dir(path), hint: r.emptyInput(), lock: lock(dir), most: mostBytes}
	if f.lock == locked {
		f.done()
		return nil, "", fmt.Errorf("another deploy to %s is under way", filepath.Dir(path))
	}
	sweep(dir)
	beside := fmt.Sprintf("%s%d", prefix, os.Getpid())
	for _, suffix := range companions {
		if r.from == "-" {
			break
		}
		more, err := open(r.from + suffix)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err == nil {
			err = f.write(more, name+suffix, beside+suffix)
			more.Close()
		}
		if err != nil {
			f.done()
			return nil, "", err
		}
	}
	if err := f.write(in, name, beside); err != nil {
		f.done()
		return nil, "", err
	}
	if path == t.Real || path == t.File {
		if err := r.prove(filepath.Join(filepath.Dir(path), beside)); err != nil {
			f.done()
			return nil, "", fmt.Errorf("nothing is changed: %s", strings.ReplaceAll(err.Error(), beside, name))
		}
	}
	if err := r.come(); err != nil {
		f.done()
		return nil, "", err
	}
	if err := f.place(); err != nil {
		_ = f.back()
		return nil, "", fmt.Errorf("cannot put the new file at %s: %w", path, err)
	}
	return f, path, nil
}

// watched reports whether a path belongs to the watched directory of a release.
func (r *request) watched(path string, t control.Target) bool {
	if t.Dir == "" {
		return false
	}
	real, err := filepath.EvalSymlinks(t.Dir)
	return err == nil && strings.HasPrefix(path, real+"/")
}

// write writes a file beside the one that it replaces, with the same owner and
// mode.
func (f *files) write(in io.Reader, name, beside string) error {
	one := &file{dir: f.dir, name: name, beside: beside}
	uid, gid, mode := -1, -1, uint32(0o755)
	if old, err := f.dir.Pin(name); err == nil {
		old.Close()
		if old.Stat.Mode&unix.S_IFMT != unix.S_IFREG {
			return fmt.Errorf("what is at %s is not a regular file", name)
		}
		one.there = true
		uid, gid, mode = int(old.Stat.Uid), int(old.Stat.Gid), modeOf(f.dir, &old.Stat)
	} else if err != unix.ENOENT {
		return fmt.Errorf("cannot look at %s: %w", name, err)
	}
	fd, err := f.dir.Open(beside, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("cannot make a file in %s, as user %d: %w%s", f.path, unix.Geteuid(), err, mayWrite(err))
	}
	f.list = append(f.list, one)
	out := os.NewFile(uintptr(fd), beside)
	defer out.Close()
	n, err := io.Copy(out, io.LimitReader(in, f.most+1))
	switch {
	case n > f.most:
		return fmt.Errorf("cannot put this at %s: %w", filepath.Join(f.path, name), tooMuch(f.most))
	case err != nil:
		return fmt.Errorf("cannot write the new %s: %w", name, err)
	case n == 0:
		return fmt.Errorf("there is nothing to put at %s: the input is empty%s", filepath.Join(f.path, name), f.hint)
	}
	if one.there && (uid != unix.Geteuid() || gid != unix.Getegid()) {
		if err := unix.Fchown(fd, uid, gid); err != nil {
			return fmt.Errorf("cannot give the new %s to user %d and group %d: %w", name, uid, gid, err)
		}
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return fmt.Errorf("cannot set the mode of the new %s: %w", name, err)
	}
	if err := unix.Fsync(fd); err != nil {
		return fmt.Errorf("cannot write the new %s to the disk: %w", name, err)
	}
	return nil
}

// place exchanges the files. The old ones are beside them then.
func (f *files) place() error {
	for _, one := range f.list {
		if err := one.exchange(); err != nil {
			return err
		}
		one.placed = true
	}
	return f.dir.Sync()
}

func (one *file) exchange() error {
	if !one.there {
		return one.dir.Rename(one.beside, one.name)
	}
	err := one.dir.Exchange(one.beside, one.name)
	if err != unix.EINVAL && err != unix.ENOSYS {
		return err
	}
	// The file system cannot: the old file gets one more name, so that at no moment
	// the path leads nowhere.
	old, err := one.dir.Pin(one.name)
	if err != nil {
		return err
	}
	defer old.Close()
	fd, err := old.Dup()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	spare := one.beside + ".old"
	if err := one.dir.Link(fd, spare); err != nil {
		return fmt.Errorf("the file system can neither exchange two names nor give a file two of them: %w", err)
	}
	if err := one.dir.Rename(one.beside, one.name); err != nil {
		_ = one.dir.Remove(spare)
		return err
	}
	return one.dir.Rename(spare, one.beside)
}

// back undoes place, the last one first.
func (f *files) back() error {
	defer f.done()
	var failed error
	for i := len(f.list) - 1; i >= 0; i-- {
		one := f.list[i]
		if !one.placed {
			continue
		}
		var err error
		if one.there {
			err = one.dir.Rename(one.beside, one.name)
		} else {
			err = one.dir.Remove(one.name)
		}
		if err != nil && failed == nil {
			failed = err
		}
	}
	if err := f.dir.Sync(); failed == nil {
		failed = err
	}
	return failed
}

// done removes what is not in place.
func (f *files) done() {
	for _, one := range f.list {
		_ = one.dir.Remove(one.beside)
	}
	if f.lock >= 0 {
		unix.Close(f.lock)
	}
	f.dir.Close()
}

// mayWrite ends what is said where a user may not make a file.
func mayWrite(err error) string {
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return " (whoever deploys has to be able to write to that directory)"
	}
	return ""
}

// locked is that another deploy has the lock.
const locked = -2

// lock keeps two deploys to one directory apart. Where the file system has no
// locks, -1, they are not.
func lock(dir *safepath.Dir) int {
	fd, err := dir.Lock()
	switch {
	case err == unix.EWOULDBLOCK:
		return locked
	case err != nil:
		return -1
	}
	return fd
}

// sweep removes what a deploy left that was killed: whoever makes such files has
// the lock.
func sweep(dir *safepath.Dir) {
	root, err := dir.Root()
	if err != nil {
		return
	}
	defer root.Close()
	names, _ := dir.Names()
	for _, name := range names {
		if strings.HasPrefix(name, prefix) {
			_ = root.RemoveAll(name)
		}
	}
}
