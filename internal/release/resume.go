package release

import "golang.org/x/sys/unix"

// Resume is a release that another process opened and checked, fd being its
// descriptor: what File a handoff takes over that did not open it itself. The
// File owns fd.
func Resume(r Release, fd int) *File {
	f := &File{Release: r, fd: fd}
	var fs unix.Statfs_t
	f.local = unix.Fstatfs(fd, &fs) == nil && !RemoteType(int64(fs.Type))
	return f
}

// OpenFD is a file that was opened by its path, and is not checked yet. The File
// owns fd.
func OpenFD(path string, fd int) (*File, error) {
	f := Resume(Release{Path: path, Real: path}, fd)
	if err := f.stat(); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
