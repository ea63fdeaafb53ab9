package deploy

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// An archive is bounded, so that one that was made for it does not fill the disk
// with names, nor for ever.
const (
	mostEntries = 1 << 20
	mostBytes   = 64 << 30
)

// owner is who gets what is unpacked, -1 for who runs this.
type owner struct{ uid, gid int }

// errEmpty is that there is nothing to unpack.
var errEmpty = errors.New("the archive is empty")

// errCut is that an archive ends before its end: whoever sends it was stopped.
var errCut = errors.New("the archive is not complete: it was cut short, or what makes it has failed")

// unpack unpacks a tar archive into a directory. It is not compressed: compress/gzip
// would cost each hotinit 20 kB of resident memory, for as long as it runs, and
// whoever sends the archive can decompress it.
//
// Nothing in it can lead out of the directory: each name is opened below root, and
// a link that points elsewhere is refused. Devices and the like are refused too.
func unpack(in io.Reader, root *os.Root, as owner) error {
	u := unpacking{root: root, as: as, left: mostBytes, modes: map[string]fs.FileMode{}}
	end := &ending{in: in}
	archive := tar.NewReader(end)
	for n := 0; ; n++ {
		end.mark()
		h, err := archive.Next()
		if err == io.EOF && (end.reached() || end.read == 0) {
			break
		}
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) && end.read >= block {
			return errCut
		}
		if err != nil {
			return fmt.Errorf("the archive cannot be read (it must be tar, and not compressed): %w", err)
		}
		if n >= mostEntries {
			return fmt.Errorf("the archive has more than %d entries", mostEntries)
		}
		err = u.entry(h, archive)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return errCut
		}
		if err != nil {
			return fmt.Errorf("the archive's entry %q: %w", h.Name, err)
		}
	}
	if !u.some {
		return errEmpty
	}
	// Last, for nothing could be put into a directory that may not be written to, and
	// the inner ones first.
	for _, dir := range slices.Backward(slices.Sorted(maps.Keys(u.modes))) {
		if err := root.Chmod(dir, u.modes[dir]); err != nil {
			return err
		}
	}
	return nil
}

// block is the unit of an archive. POSIX has two blocks of zeros at its end (pax,
// "ustar Interchange Format"), and one will do: some write no more. To archive/tar an
// archive also ends where its input does, in front of any entry, so that it does not
// tell one that was cut short from a whole one.
const block = 512

// ending is an archive's input, and looks for that end.
type ending struct {
	in     io.Reader
	read   int64
	from   int64 // where the next entry, or the end, begins
	filled bool  // there is more than zeros from there on
}

// mark notes that an entry was read: what follows its last block is the next one.
func (e *ending) mark() {
	e.from, e.filled = (e.read+block-1)/block*block, false
}

func (e *ending) Read(p []byte) (int, error) {
	n, err := e.in.Read(p)
	for i, b := range p[:n] {
		if b != 0 && e.read+int64(i) >= e.from {
			e.filled = true
			break
		}
	}
	e.read += int64(n)
	return n, err
}

// reached reports whether the end was there: a block of zeros where an entry begins.
func (e *ending) reached() bool { return !e.filled && e.read >= e.from+block }

// unpacking is an archive that is being unpacked.
type unpacking struct {
	root  *os.Root
	as    owner
	left  int64
	modes map[string]fs.FileMode // of the directories
	some  bool
}

func (u *unpacking) entry(h *tar.Header, content io.Reader) error {
	switch h.Typeflag {
	case tar.TypeXGlobalHeader, tar.TypeXHeader:
		return nil
	}
	name := path.Clean(h.Name)
	if !filepath.IsLocal(name) {
		return errors.New("leads out of the directory")
	}
	if name == "." {
		return nil
	}
	u.some = true
	mode := fs.FileMode(h.Mode) & 0o777
	if err := u.parents(path.Dir(name)); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := u.directory(name); err != nil {
			return err
		}
		u.modes[name] = mode
		return nil
	case tar.TypeReg:
		return u.file(name, mode, h, content)
	case tar.TypeSymlink:
		if path.IsAbs(h.Linkname) || !filepath.IsLocal(path.Join(path.Dir(name), h.Linkname)) {
			return fmt.Errorf("is a link to %q, which is not in the directory", h.Linkname)
		}
		if err := u.root.Symlink(h.Linkname, name); err != nil {
			return err
		}
		return u.own(name)
	case tar.TypeLink:
		to := path.Clean(h.Linkname)
		if !filepath.IsLocal(to) {
			return fmt.Errorf("is a link to %q, which is not in the directory", h.Linkname)
		}
		if info, err := u.root.Lstat(to); err != nil || !info.Mode().IsRegular() {
			return fmt.Errorf("is a hard link to %q, which is no file that came before", h.Linkname)
		}
		return u.root.Link(to, name)
	}
	return errors.New("is neither a file, nor a directory, nor a link")
}

// parents makes the directories that an archive need not name.
func (u *unpacking) parents(dir string) error {
	if dir == "." {
		return nil
	}
	if err := u.parents(path.Dir(dir)); err != nil {
		return err
	}
	return u.directory(dir)
}

// directory makes a directory, unless it is there. A link is none.
func (u *unpacking) directory(name string) error {
	err := u.root.Mkdir(name, 0o755)
	if errors.Is(err, fs.ErrExist) {
		info, err := u.root.Lstat(name)
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("%q is no directory", name)
		}
		return err
	}
	if err != nil {
		return err
	}
	u.modes[name] = 0o755
	return u.own(name)
}

func (u *unpacking) file(name string, mode fs.FileMode, h *tar.Header, content io.Reader) error {
	if u.left -= h.Size; u.left < 0 {
		return fmt.Errorf("would make more than %d GB", int64(mostBytes)>>30)
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err == nil && u.as.uid >= 0 {
		err = f.Chown(u.as.uid, u.as.gid)
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil && !h.ModTime.IsZero() {
		err = u.root.Chtimes(name, h.ModTime, h.ModTime)
	}
	return err
}

func (u *unpacking) own(name string) error {
	if u.as.uid < 0 {
		return nil
	}
	return u.root.Lchown(name, u.as.uid, u.as.gid)
}

// within reports whether a path is below a directory, both without links.
func within(dir, path string) (rel string, ok bool) {
	rel, ok = strings.CutPrefix(path, strings.TrimSuffix(dir, "/")+"/")
	return rel, ok
}
