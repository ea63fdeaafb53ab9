package deploy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/safepath"
)

// tree is a directory that is put in place: by a symbolic link that is turned, or
// where the path is a directory itself, in exchange for it.
type tree struct {
	dir    *safepath.Dir // that has the name in it
	parent *safepath.Dir // that the new directory is in
	lock   int
	name   string // of the link or the directory
	made   string // the new directory, in parent
	old    string // where the link led
	link   bool
	placed bool
}

// putTree unpacks an archive and puts it in the place of the watched directory.
func (r *request) putTree(in io.Reader, t control.Target) (placed, string, error) {
	to := t.Dir
	if r.to != "" {
		to = r.to
	}
	if to == "" {
		return nil, "", errors.New("no directory is watched (--watch), so where a release belongs is not known: name it by --to PATH")
	}
	real, err := filepath.EvalSymlinks(to)
	if err != nil {
		return nil, "", fmt.Errorf("cannot find %s: %w", to, err)
	}
	command, runs := within(real, t.Real)
	if watched, err := filepath.EvalSymlinks(t.Dir); !runs && (err != nil || t.Dir == "" || watched != real) {
		return nil, "", fmt.Errorf("%s is not what hotinit runs from or watches", to)
	}
	var st unix.Stat_t
	if err := unix.Stat(real, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, "", fmt.Errorf("%s is not a directory", to)
	}
	p, err := begin(to, real)
	if err != nil {
		return nil, "", err
	}
	as := owner{-1, -1}
	if int(st.Uid) != unix.Geteuid() || int(st.Gid) != unix.Getegid() {
		as = owner{int(st.Uid), int(st.Gid)}
	}
	if err := p.fill(in, as, &st, filepath.Dir(real)); err != nil {
		p.done()
		if err == errEmpty {
			return nil, "", fmt.Errorf("there is nothing to put at %s: %w%s", to, err, r.emptyInput())
		}
		return nil, "", err
	}
	if runs {
		beside := filepath.Join(filepath.Dir(real), p.made)
		if err := r.prove(filepath.Join(beside, command)); err != nil {
			p.done()
			return nil, "", fmt.Errorf("nothing is changed: %s", strings.ReplaceAll(err.Error(), beside, to))
		}
	}
	if err := r.come(); err != nil {
		p.done()
		return nil, "", err
	}
	if err := p.place(); err != nil {
		_ = p.back()
		return nil, "", fmt.Errorf("cannot put the new directory at %s: %w", to, err)
	}
	return p, to, nil
}

// begin opens what is going to be changed.
func begin(to, real string) (*tree, error) {
	dir, name, err := safepath.Parent(strings.TrimRight(to, "/"))
	if err != nil {
		return nil, fmt.Errorf("cannot open the directory of %s: %w", to, err)
	}
	p := &tree{dir: dir, name: name, lock: -1}
	at, err := dir.Pin(name)
	if err != nil {
		p.done()
		return nil, fmt.Errorf("cannot look at %s: %w", to, err)
	}
	at.Close()
	if p.link = at.Stat.Mode&unix.S_IFMT == unix.S_IFLNK; p.link {
		if p.old, err = os.Readlink(to); err != nil {
			p.done()
			return nil, err
		}
	}
	if p.parent, _, err = parent(to, real); err != nil {
		p.done()
		return nil, err
	}
	if p.lock = lock(p.parent); p.lock == locked {
		p.done()
		return nil, fmt.Errorf("another deploy to %s is under way", filepath.Dir(real))
	}
	sweep(p.parent)
	return p, nil
}

// fill makes the new directory, in the directory beside.
func (p *tree) fill(in io.Reader, as owner, like *unix.Stat_t, beside string) error {
	made, name, err := p.parent.MakeDir(prefix)
	if err != nil {
		return fmt.Errorf("cannot make a directory in %s, as user %d: %w%s", beside, unix.Geteuid(), err, mayWrite(err))
	}
	defer made.Close()
	p.made = name
	root, err := made.Root()
	if err != nil {
		return err
	}
	defer root.Close()
	if err := unpack(in, root, as); err != nil {
		return err
	}
	if as.uid >= 0 {
		if err := root.Lchown(".", as.uid, as.gid); err != nil {
			return fmt.Errorf("cannot give the new directory to user %d and group %d: %w", as.uid, as.gid, err)
		}
	}
	if err := root.Chmod(".", os.FileMode(like.Mode&0o777)); err != nil {
		return err
	}
	return made.SyncAll()
}

// place turns the link, or exchanges the directories.
func (p *tree) place() error {
	if !p.link {
		err := p.dir.Exchange(p.made, p.name)
		switch {
		case err == unix.EBUSY:
			return errors.New("it is mounted there: mount the directory above it, or let the path be a symbolic link to a directory (current -> releases/1)")
		case err == unix.EINVAL || err == unix.ENOSYS:
			return errors.New("this file system cannot exchange two directories: let the path be a symbolic link to a directory (current -> releases/1)")
		case err != nil:
			return err
		}
		p.placed = true
		return p.dir.Sync()
	}
	name := time.Now().UTC().Format("20060102-150405")
	for i := 1; ; i++ { // several in one second
		err := p.parent.RenameNew(p.made, name)
		if err == nil {
			break
		}
		if err != unix.EEXIST || i > 1000 {
			return err
		}
		name = fmt.Sprintf("%s-%d", strings.SplitN(name, "-", 3)[0]+"-"+strings.SplitN(name, "-", 3)[1], i)
	}
	p.made = name
	if err := p.turn(path.Join(path.Dir(p.old), name)); err != nil {
		return err
	}
	p.placed = true
	if err := p.parent.Sync(); err != nil {
		return err
	}
	return p.dir.Sync()
}

// turn makes the link lead elsewhere.
func (p *tree) turn(to string) error {
	beside := fmt.Sprintf("%s%d", prefix, os.Getpid())
	if err := p.dir.Symlink(to, beside); err != nil {
		return err
	}
	err := p.dir.Rename(beside, p.name)
	if err != nil {
		_ = p.dir.Remove(beside)
	}
	return err
}

// back puts the old directory in place again, and removes the new one.
func (p *tree) back() error {
	var err error
	switch {
	case !p.placed:
	case p.link:
		err = p.turn(p.old)
	default:
		err = p.dir.Exchange(p.made, p.name)
	}
	if err == nil {
		err = p.dir.Sync()
		p.placed = false
	}
	p.done()
	return err
}

// done removes the new directory, where it is not in place. Of two that were
// exchanged the old one stays beside the new one until the next deploy: the old
// generation may still read from it.
func (p *tree) done() {
	if p.made != "" && !p.placed {
		if root, err := p.parent.Root(); err == nil {
			_ = root.RemoveAll(p.made)
			root.Close()
		}
	}
	if p.lock >= 0 {
		unix.Close(p.lock)
	}
	if p.parent != nil {
		p.parent.Close()
	}
	p.dir.Close()
}
