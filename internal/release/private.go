package release

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/safepath"
)

// A Private is a directory with a private copy of a release, which the app can
// find by its path. Its descriptor has a lock (flock(2)), which tells the copy of
// a hotinit that runs from one that a killed hotinit left.
type Private struct {
	Path   string
	FD     int
	NoExec bool // its file system is mounted noexec
}

const privatePrefix = ".hotinit-copy-"

// A Place is where a private copy may be.
type Place struct {
	// Dir is the directory to make it in; "" for the first of /tmp, /var/tmp and
	// /dev/shm where there can be one.
	Dir string
	// Guarded says that the copy is for an app of another user: then that user must
	// not be able to put a link in the place of the copy, which is written, and
	// found by the app, by its path.
	Guarded bool
	// Exec says that the command's own file is executed from the copy. Where an
	// interpreter only reads it, a mount with noexec will do, if there is no other:
	// it is what docker run --tmpfs makes.
	Exec bool
}

// MakePrivate makes a directory for a copy. It removes there what hotinits that
// were killed left.
func MakePrivate(at Place) (*Private, error) {
	dirs := []string{at.Dir}
	if at.Dir == "" {
		dirs = []string{os.TempDir(), "/var/tmp", "/dev/shm"}
	}
	var errs []string
	for _, dir := range dirs {
		p, err := makePrivate(dir, at.Guarded, true)
		if err == nil {
			return p, nil
		}
		errs = append(errs, err.Error())
	}
	if !at.Exec {
		for _, dir := range dirs {
			if p, err := makePrivate(dir, at.Guarded, false); err == nil {
				p.NoExec = true
				return p, nil
			}
		}
	}
	return nil, fmt.Errorf("%s (it needs a directory to write to: docker run --tmpfs /tmp:exec, or a volume and --snapshot-dir)", strings.Join(errs, "; "))
}

func makePrivate(dir string, guarded, exec bool) (*Private, error) {
	if guarded {
		d, err := safepath.OpenDir(dir)
		if err != nil {
			return nil, err
		}
		d.Close()
		if !d.Holds() {
			return nil, fmt.Errorf("others than root and hotinit's own user may rename what is in %s (choose a directory of root's, or a sticky one)", dir)
		}
	}
	sweepPrivate(dir)
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); exec && err == nil && fs.Flags&unix.ST_NOEXEC != 0 {
		return nil, fmt.Errorf("%s is mounted noexec", dir)
	}
	path, err := os.MkdirTemp(dir, privatePrefix)
	if err != nil {
		return nil, err
	}
	fd, err := openRetryAt(unix.AT_FDCWD, path, unix.O_DIRECTORY)
	if err == nil {
		// Only one that nobody removes is kept: see sweepPrivate.
		err = unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB)
	}
	if err == nil {
		err = unix.Fchmod(fd, 0o711) // the app's user may enter, nobody may look around
	}
	if err != nil {
		unix.Close(fd)
		os.RemoveAll(path)
		return nil, fmt.Errorf("cannot use %s: %w", path, err)
	}
	return &Private{Path: path, FD: fd}, nil
}

// ResumePrivate is a directory that another process made, fd being its descriptor.
func ResumePrivate(path string, fd int) *Private { return &Private{Path: path, FD: fd} }

// Remove removes the directory. Processes that have something of it open keep
// that.
func (p *Private) Remove() {
	if p == nil || p.FD < 0 {
		return
	}
	_ = os.RemoveAll(p.Path)
	unix.Close(p.FD)
	p.FD = -1
}

// sweepPrivate removes the copies in dir that nobody has locked any more.
func sweepPrivate(dir string) {
	names, err := filepath.Glob(filepath.Join(dir, privatePrefix+"*"))
	if err != nil {
		return
	}
	for _, path := range names {
		fd, err := openRetryAt(unix.AT_FDCWD, path, unix.O_DIRECTORY)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && int(st.Uid) == os.Geteuid() && st.Mode&0o077 == 0o011 && unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.RemoveAll(path)
		}
		unix.Close(fd)
	}
}

// ErrTorn is that a directory changed while it was copied.
var ErrTorn = errors.New("changed while it was being copied")

// CopyTree copies a tree to a private directory and proves that the copy is the
// tree as it was before and after. Its digest is the returned one. An error is
// ErrTorn where somebody changes the tree at this moment, and says what differs
// where nobody does: then another try would end the same way.
func CopyTree(tree Tree, p *Private, o CopyOptions) (copied Tree, d Digest, err error) {
	if d, err = tree.Digest(o.Done); err != nil {
		return Tree{}, d, err
	}
	copied = tree.at(filepath.Join(p.Path, "tree"))
	got, err := tree.copyAndRead(copied, o)
	if err != nil || got == d {
		return copied, d, err
	}
	// A file that came and went meanwhile would not be in the next copy.
	if err := os.RemoveAll(copied.Root); err != nil {
		return copied, d, err
	}
	again, err := tree.copyAndRead(copied, o)
	if err != nil || again == d {
		return copied, d, err
	}
	if now, err := tree.Digest(o.Done); err != nil || now != d || again != got {
		return copied, d, errors.Join(ErrTorn, err)
	}
	what := difference(tree, copied, o.Done)
	if what == "" {
		what = "a file has other content in it"
	}
	return copied, d, fmt.Errorf("its copy in %s is not the same, though nothing changes: %s (choose another directory with --snapshot-dir, or leave it out with --ignore)", filepath.Dir(p.Path), what)
}

// copyAndRead makes a copy, and returns its digest.
func (t Tree) copyAndRead(copied Tree, o CopyOptions) (d Digest, err error) {
	if _, err = t.Copy(copied.Root, o); err == nil {
		d, err = copied.Digest(o.Done)
	}
	return d, err
}

// CopyFile copies a release's file to a private directory, under its own name.
func (f *File) CopyFile(p *Private, done <-chan struct{}) (string, error) {
	k := Kept{Release: f.Release}
	dir := filepath.Join(p.Path, "file")
	if err := keepFile(&k, f, dir, done); err != nil {
		return "", err
	}
	return filepath.Join(dir, filepath.Base(f.Real)), unix.Chmod(dir, 0o711)
}

// InCopy is f's release held open as the file at path, which is a copy of it: it
// stands for the original, as that of Snapshot does.
func (f *File) InCopy(path string, done <-chan struct{}) (*File, error) {
	c, err := openFile(path)
	if err != nil {
		return nil, err
	}
	if err = c.Read(done); err == nil && f.Digest.Known() && c.Digest != f.Digest {
		err = ErrTorn
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	d := c.Digest
	c.Release = f.Release
	c.Digest = d
	return c, nil
}
