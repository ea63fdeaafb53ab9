package sockets

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/safepath"
)

// File is the file of a unix socket that hotinit has bound. Apps remove it (many
// servers do when they end, and some before they bind), and clients then reach
// nobody, though the socket is open. A socket can be bound once only, and a file
// without a name cannot get one again (linkat(2)), so that the file has a second
// name beside the first, from which it is put back.
type File struct {
	Path string // absolute
	FD   int    // the file, opened with O_PATH: it says which file is the socket's
}

// HasFile reports whether the socket has a file.
func (s Spec) HasFile() bool { return s.hasFile() }

// secondName is the name by which the file is kept.
func secondName(name string) string { return "." + name + ".hotinit" }

// KeepFile gives the file of a socket that was just bound a second name. path is
// the spec's, made absolute. Where the file system has no hard links the error
// says so, and the file is watched all the same.
func KeepFile(path string) (*File, error) {
	dir, name, err := safepath.Parent(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	pinned, err := dir.Pin(name)
	if err != nil {
		return nil, err
	}
	defer pinned.Close()
	if pinned.Stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, errors.New("it is no socket any more")
	}
	f := &File{Path: path}
	if f.FD, err = pinned.Dup(); err != nil {
		return nil, err
	}
	second := secondName(name)
	err = dir.Link(f.FD, second)
	if err == unix.EEXIST && removeSocket(dir, second) == nil { // an earlier hotinit's
		err = dir.Link(f.FD, second)
	}
	if err != nil {
		return f, fmt.Errorf("cannot give %s a second name: %w", path, err)
	}
	return f, nil
}

// removeSocket removes a name, if it is a socket's.
func removeSocket(dir *safepath.Dir, name string) error {
	pinned, err := dir.Pin(name)
	if err != nil {
		return err
	}
	pinned.Close()
	if pinned.Stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return unix.EEXIST
	}
	return dir.Remove(name)
}

// Lost says what became of the file, "" where the path leads to it.
func (f *File) Lost() string {
	dir, name, err := safepath.Parent(f.Path)
	if err != nil {
		return fmt.Sprintf("cannot be reached any more (%v)", err)
	}
	defer dir.Close()
	what, _ := f.lost(dir, name)
	return what
}

func (f *File) lost(dir *safepath.Dir, name string) (string, error) {
	var own unix.Stat_t
	if err := unix.Fstat(f.FD, &own); err != nil {
		return "", err
	}
	pinned, err := dir.Pin(name)
	switch {
	case err == unix.ENOENT:
		return "was removed", nil
	case err != nil:
		return fmt.Sprintf("cannot be reached any more (%v)", err), nil
	}
	pinned.Close()
	if pinned.Same(&own) {
		return "", nil
	}
	return "was replaced by another file", nil
}

// PutBack makes the path lead to the socket again, from its second name. What is
// there by now is replaced, as long as it is no directory.
func (f *File) PutBack() error {
	dir, name, err := safepath.Parent(f.Path)
	if err != nil {
		return err
	}
	defer dir.Close()
	var own unix.Stat_t
	if err := unix.Fstat(f.FD, &own); err != nil {
		return err
	}
	if own.Nlink == 0 {
		return errors.New("no name of the file is left")
	}
	if err := dir.Link(f.FD, name); err != unix.EEXIST {
		return putBackError(err)
	}
	between := secondName(name) + ".new"
	_ = removeSocket(dir, between)
	if err := dir.Link(f.FD, between); err != nil {
		return putBackError(err)
	}
	if err := dir.Rename(between, name); err != nil {
		_ = dir.Remove(between)
		return err
	}
	return nil
}

func putBackError(err error) error {
	switch err {
	case unix.EXDEV:
		return errors.New("its directory is on another file system now")
	case unix.EPERM, unix.EOPNOTSUPP:
		return fmt.Errorf("%w (the file system may have no hard links)", err)
	}
	return err
}

// Forget removes the second name.
func (f *File) Forget() {
	dir, name, err := safepath.Parent(f.Path)
	if err != nil {
		return
	}
	defer dir.Close()
	second := secondName(name)
	if pinned, err := dir.Pin(second); err == nil {
		pinned.Close()
		var own unix.Stat_t
		if unix.Fstat(f.FD, &own) == nil && pinned.Same(&own) {
			_ = dir.Remove(second)
		}
	}
}

// Watch makes an inotify(7) descriptor report what happens to the names in the
// file's directory, or in the nearest directory above that exists. It returns the
// name that matters there, "" where nothing could be watched.
func (f *File) Watch(inotify int) string {
	for path := f.Path; path != "/"; path = filepath.Dir(path) {
		dir, name, err := safepath.Parent(path)
		if err != nil {
			continue
		}
		err = dir.Watch(inotify, unix.IN_CREATE|unix.IN_DELETE|unix.IN_MOVED_FROM|unix.IN_MOVED_TO|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF)
		dir.Close()
		if err != nil {
			return ""
		}
		return name
	}
	return ""
}
