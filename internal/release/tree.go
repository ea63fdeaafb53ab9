package release

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A Tree is a directory with everything below it that counts.
type Tree struct {
	Root string // resolved
	// Counts reports whether something below Root belongs to it, rel being its
	// path below Root. nil: everything does. What is below a directory that does
	// not belong to it is not looked at.
	Counts func(rel string, isDir bool) bool
	// Lead reports whether something that does not belong to it is to be reached
	// from a copy: it gets a symbolic link to the original. nil: nothing is.
	Lead func(rel string, isDir bool) bool
	// Copied says that this is a copy: a symbolic link may lead to what does not
	// belong to the tree.
	Copied bool
	// Plain says that of modes only counts whether a file is executable.
	Plain bool
}

// belongs reports whether an entry belongs to the tree.
func (t Tree) belongs(e *entry) bool {
	if t.Counts == nil {
		return true
	}
	if e.kind() == unix.S_IFLNK && !t.Counts(e.rel, true) {
		return false // as the directory that it may stand for, here and in a copy
	}
	return t.Counts(e.rel, e.kind() == unix.S_IFDIR)
}

// What a tree may have in it. A greater one is no release but a disk: reading
// all of it at each start would take longer than the start is worth.
const (
	mostEntries = 200_000
	mostBytes   = 8 << 30
)

var errTreeChanged = &Reason{Text: "changed while it was being read", Err: unix.EAGAIN}

// at is a copy of the tree in another directory.
func (t Tree) at(root string) Tree {
	t.Root, t.Copied = root, true
	return t
}

// An entry is one name below the root of a tree. dir is the open directory that
// it is in, so that no name on the way can be exchanged.
type entry struct {
	dir  int
	name string
	rel  string
	st   unix.Stat_t
	link string // where a symbolic link leads
}

func (e *entry) kind() uint32 { return e.st.Mode & unix.S_IFMT }

// special reports whether it is a socket, a FIFO or a device. These come and go
// with who uses them, and count in no tree.
func special(kind uint32) bool {
	return kind != unix.S_IFDIR && kind != unix.S_IFREG && kind != unix.S_IFLNK
}

// treeWalk goes through a tree, each directory in the order of its names.
type treeWalk struct {
	tree    Tree
	done    <-chan struct{}
	entries int
	bytes   int64
	// visit sees each entry that counts, skip each that does not, special the
	// sockets, FIFOs and devices among what belongs to the tree.
	visit   func(e *entry) error
	skip    func(e *entry) error
	special func(e *entry) error
	leave   func(e *entry) error // after all that is in a directory
}

func (w *treeWalk) run() error {
	fd, err := openRetryAt(unix.AT_FDCWD, w.tree.Root, unix.O_DIRECTORY)
	if err != nil {
		return &Reason{Text: w.tree.Root + " cannot be read: " + err.Error(), Err: err}
	}
	return w.directory(fd, "")
}

// directory goes through an open directory, and closes it.
func (w *treeWalk) directory(fd int, rel string) error {
	f := os.NewFile(uintptr(fd), rel)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return &Reason{Text: filepath.Join(w.tree.Root, rel) + " cannot be read: " + err.Error(), Err: err}
	}
	slices.Sort(names)
	for _, name := range names {
		select {
		case <-w.done:
			return ErrStopped
		default:
		}
		e := entry{dir: fd, name: name, rel: name}
		if rel != "" {
			e.rel = rel + "/" + name
		}
		if err := unix.Fstatat(fd, name, &e.st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			if err == unix.ENOENT {
				return errTreeChanged
			}
			return w.failed(&e, err)
		}
		isDir := e.kind() == unix.S_IFDIR
		if special(e.kind()) {
			if w.special != nil && w.tree.belongs(&e) {
				if err := w.special(&e); err != nil {
					return err
				}
			}
			continue
		}
		if !w.tree.belongs(&e) {
			if w.skip != nil {
				if err := w.skip(&e); err != nil {
					return err
				}
			}
			continue
		}
		if w.entries++; w.entries > mostEntries {
			return refuse("%s has more than %d files: leave out what does not matter (--ignore)", w.tree.Root, mostEntries)
		}
		switch e.kind() {
		case unix.S_IFLNK:
			var buf [unix.PathMax]byte
			n, err := unix.Readlinkat(fd, name, buf[:])
			if err != nil {
				return w.failed(&e, err)
			}
			e.link = w.relative(&e, string(buf[:n]))
		case unix.S_IFREG:
			if w.bytes += e.st.Size; w.bytes > mostBytes {
				return refuse("%s has more than %d GiB: leave out what does not matter (--ignore)", w.tree.Root, int64(mostBytes)>>30)
			}
		}
		if err := w.visit(&e); err != nil {
			return err
		}
		if !isDir {
			continue
		}
		sub, err := openRetryAt(fd, name, unix.O_DIRECTORY)
		if err == nil {
			err = w.directory(sub, e.rel)
		} else {
			err = w.failed(&e, err)
		}
		if err == nil && w.leave != nil {
			err = w.leave(&e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *treeWalk) failed(e *entry, err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return errTreeChanged
	}
	return &Reason{Text: filepath.Join(w.tree.Root, e.rel) + " cannot be read: " + err.Error(), Err: err}
}

// relative makes a link that leads, by an absolute path, to something in the
// tree one that leads to the same in a copy of it.
func (w *treeWalk) relative(e *entry, link string) string {
	if !filepath.IsAbs(link) || !under(filepath.Clean(link), w.tree.Root) {
		return link
	}
	rel, err := filepath.Rel(filepath.Join(w.tree.Root, filepath.Dir(e.rel)), filepath.Clean(link))
	if err != nil {
		return link
	}
	return rel
}

// openRetryAt opens for reading, and no symbolic link or FIFO in the last place.
func openRetryAt(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// Digest reads a tree: names, modes, where links lead, and contents. Owners and
// times do not count, and neither does whether others may write, nor what is
// special.
func (t Tree) Digest(done <-chan struct{}) (Digest, error) {
	all := sha256.New()
	buf, err := unix.Mmap(-1, 0, 128<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return Digest{}, err
	}
	defer unix.Munmap(buf)
	content := sha256.New()
	w := treeWalk{tree: t, done: done}
	w.visit = func(e *entry) error {
		t.note(all, e)
		if e.kind() != unix.S_IFREG {
			return nil
		}
		fd, err := openRetryAt(e.dir, e.name, 0)
		if err != nil {
			return w.failed(e, err)
		}
		defer unix.Close(fd)
		content.Reset()
		n, err := readInto(content, fd, buf)
		if err != nil {
			return w.failed(e, err)
		}
		if n != e.st.Size {
			return resized(&w, e, fd)
		}
		all.Write(content.Sum(nil))
		return nil
	}
	if err := w.run(); err != nil {
		return Digest{}, err
	}
	var d Digest
	all.Sum(d[:0])
	return d, nil
}

// resized is the error where a file, which is open, had another length than its
// status says. In proc(5) and in some file systems of FUSE it always has.
func resized(w *treeWalk, e *entry, fd int) error {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Size != e.st.Size || st.Mtim != e.st.Mtim || st.Ctim != e.st.Ctim {
		return errTreeChanged
	}
	return refuse("%s has not the length that its file system says: leave it out (--ignore)", filepath.Join(w.tree.Root, e.rel))
}

// difference names something that is not the same in two trees, apart from what
// is in their files; "" where there is nothing.
func difference(a, b Tree, done <-chan struct{}) string {
	entries := func(t Tree) map[string]string {
		all := make(map[string]string)
		w := treeWalk{tree: t, done: done, visit: func(e *entry) error {
			all[e.rel] = fmt.Sprintf("mode %o, size %d, link %q", t.mode(e), e.size(), e.link)
			return nil
		}}
		_ = w.run()
		return all
	}
	in, out := entries(a), entries(b)
	for _, rel := range slices.Sorted(maps.Keys(in)) {
		switch copied, ok := out[rel]; {
		case !ok:
			return rel + " is not in it"
		case copied != in[rel]:
			return fmt.Sprintf("%s has %s in it, not %s", rel, copied, in[rel])
		}
		delete(out, rel)
	}
	for _, rel := range slices.Sorted(maps.Keys(out)) {
		return rel + " is only in it"
	}
	return ""
}

func (e *entry) size() int64 {
	if e.kind() == unix.S_IFREG {
		return e.st.Size
	}
	return 0
}

// mode is what counts of an entry's mode.
func (t Tree) mode(e *entry) uint32 {
	if !t.Plain {
		return e.st.Mode & (unix.S_IFMT | 0o755)
	}
	if e.st.Mode&0o111 != 0 {
		return e.kind() | 0o111
	}
	return e.kind()
}

// note writes what counts of an entry beside its content. Each part has its
// length before it, so no two trees write the same.
func (t Tree) note(h hash.Hash, e *entry) {
	var head [16]byte
	binary.LittleEndian.PutUint32(head[0:], t.mode(e))
	binary.LittleEndian.PutUint32(head[4:], uint32(len(e.rel)))
	binary.LittleEndian.PutUint32(head[8:], uint32(len(e.link)))
	h.Write(head[:])
	io.WriteString(h, e.rel)
	io.WriteString(h, e.link)
}

func readInto(h hash.Hash, fd int, buf []byte) (int64, error) {
	total := int64(0)
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return total, err
		}
		h.Write(buf[:n])
		total += int64(n)
		runtime.Gosched() // see manners
	}
}

// Copied counts what a copy of a tree cost.
type Copied struct {
	Cloned, Linked, Written int // files: sharing their blocks, hard links, and written anew
}

// CopyOptions say how a tree is copied.
type CopyOptions struct {
	Done <-chan struct{}
	// Before is an earlier copy of the same tree, "" for none. A file that is
	// unmodified since, and that the app may not write to, gets a hard link to it.
	Before string
	As     func(st *unix.Stat_t) bool // reports whether the app may write to a file
	// Own is who may read the copy, where nobody but hotinit's own user may write
	// to it; nil: owners and modes are as they are in the original.
	Own *Own
}

// Own is the group of who runs a copy that belongs to hotinit, -1 for that of
// hotinit itself. Others may read what they may in the original.
type Own struct{ Group int }

// Copy makes the directory to a copy of the tree: owners, modes and times are as
// they are in it, unless hotinit owns the copy. Sockets and devices are left out. A file shares its blocks with the original where the file
// system can (ioctl_ficlone(2)). A hard link to the original would not do:
// whoever overwrites that in place would overwrite the copy. to must not exist.
// What was copied is compared with nothing: see Digest.
func (t Tree) Copy(to string, o CopyOptions) (c Copied, err error) {
	if err := unix.Mkdir(to, 0o700); err != nil {
		return c, fmt.Errorf("cannot make %s: %w", to, err)
	}
	w := treeWalk{tree: t, done: o.Done}
	path := func(e *entry) string { return filepath.Join(to, e.rel) }
	w.visit = func(e *entry) error {
		switch e.kind() {
		case unix.S_IFDIR:
			return wrapCopy(path(e), unix.Mkdir(path(e), 0o700))
		case unix.S_IFLNK:
			err := unix.Symlink(e.link, path(e))
			if err == nil && o.Own == nil {
				unix.Lchown(path(e), int(e.st.Uid), int(e.st.Gid))
			}
			return wrapCopy(path(e), err)
		case unix.S_IFREG:
			if o.Before != "" && o.As != nil && linkUnmodified(filepath.Join(o.Before, e.rel), path(e), &e.st, o.As) {
				c.Linked++
				return nil
			}
			cloned, err := copyFile(e, path(e), o.Own)
			if err == nil && cloned {
				c.Cloned++
			} else if err == nil {
				c.Written++
			}
			if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ELOOP) {
				return errTreeChanged
			}
			return wrapCopy(path(e), err)
		}
		return nil
	}
	// Whoever made a socket or a device makes it again. A FIFO may be part of what
	// was delivered: without it, who writes to it would make a file.
	w.special = func(e *entry) error {
		if e.kind() != unix.S_IFIFO {
			return nil
		}
		err := unix.Mkfifo(path(e), 0o600)
		if err == nil {
			err = adopt(path(e), &e.st, o.Own)
		}
		return wrapCopy(path(e), err)
	}
	w.skip = func(e *entry) error {
		if t.Copied && e.kind() == unix.S_IFLNK {
			var buf [unix.PathMax]byte
			n, err := unix.Readlinkat(e.dir, e.name, buf[:])
			if err == nil {
				err = unix.Symlink(string(buf[:n]), path(e))
			}
			return wrapCopy(path(e), err)
		}
		dir := e.kind() == unix.S_IFDIR || e.kind() == unix.S_IFLNK // see belongs
		if t.Copied || t.Lead == nil || !t.Lead(e.rel, dir) && !t.Lead(e.rel, e.kind() == unix.S_IFDIR) {
			return nil
		}
		return wrapCopy(path(e), unix.Symlink(filepath.Join(t.Root, e.rel), path(e)))
	}
	w.leave = func(e *entry) error { return wrapCopy(path(e), adopt(path(e), &e.st, o.Own)) }
	if err := w.run(); err != nil {
		return c, err
	}
	var st unix.Stat_t
	if err := unix.Stat(t.Root, &st); err != nil {
		return c, errTreeChanged
	}
	return c, wrapCopy(to, adopt(to, &st, o.Own))
}

func wrapCopy(path string, err error) error {
	if err == nil || errors.Is(err, unix.EAGAIN) {
		return err
	}
	return fmt.Errorf("cannot copy to %s: %w", path, err)
}

// adopt gives a copied file or directory the owner, mode and time of the original.
func adopt(path string, st *unix.Stat_t, own *Own) error {
	if own != nil {
		unix.Lchown(path, -1, own.Group) // only root can, and only then it is another's
		mode := 0o640 | st.Mode&0o005
		if st.Mode&0o111 != 0 {
			mode |= 0o110
		}
		return unix.Chmod(path, mode)
	}
	unix.Lchown(path, int(st.Uid), int(st.Gid)) // only root can
	if err := unix.Chmod(path, st.Mode&0o7777); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

func copyFile(e *entry, to string, own *Own) (cloned bool, err error) {
	from, err := openRetryAt(e.dir, e.name, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(from)
	fd, err := createFile(to)
	if err != nil {
		return false, err
	}
	cloned = unix.IoctlFileClone(fd, from) == nil
	if !cloned {
		err = copyBytes(fd, from, e.st.Size)
	}
	if err == nil {
		var value [64]byte // the capabilities of an executable, capabilities(7)
		if n, xerr := unix.Fgetxattr(from, "security.capability", value[:]); xerr == nil {
			unix.Fsetxattr(fd, "security.capability", value[:n], 0)
		}
	}
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	if err == nil {
		err = adopt(to, &e.st, own)
	}
	return cloned, err
}

// createFile makes a file that is not there yet.
func createFile(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// linkUnmodified gives a file of an earlier copy a second name in this one, where
// that is as the original is now. Safe is that only where the app may not write
// to it: else an older generation would change what a newer one runs.
func linkUnmodified(before, to string, st *unix.Stat_t, writable func(*unix.Stat_t) bool) bool {
	var old unix.Stat_t
	if unix.Lstat(before, &old) != nil || writable(&old) {
		return false
	}
	if old.Mode != st.Mode || old.Size != st.Size || old.Mtim != st.Mtim || old.Uid != st.Uid || old.Gid != st.Gid {
		return false
	}
	return unix.Link(before, to) == nil
}

// Within reports whether a path is in the tree, and where.
func (t Tree) Within(path string) (rel string, ok bool) {
	if !under(path, t.Root) {
		return "", false
	}
	return strings.TrimPrefix(path[len(t.Root):], "/"), true
}
