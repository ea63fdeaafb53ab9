package release

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/safepath"
)

// Snapshot makes a private copy of a checked release, so that its path may be
// overwritten in place while it runs: in the directory dir, sharing the blocks where
// the file system can (ioctl_ficlone(2)), or with dir "" in memory
// (memfd_create(2)). The copy has no path of its own and goes with its last
// descriptor, also after a crash. It is proven to have f's content. own says that
// nobody but hotinit's own user may write to the copy, whoever could to the file.
func Snapshot(f *File, dir string, own bool) (*File, error) {
	if !f.readable() {
		return nil, fmt.Errorf("cannot copy %s: it may be executed but not read", f.Path)
	}
	var fd int
	var err error
	if dir == "" {
		fd, err = snapshotMemory(f, own)
	} else {
		fd, err = snapshotDisk(f, dir, own)
	}
	if err != nil {
		return nil, err
	}
	c := &File{Release: f.Release, fd: fd, local: true}
	if err := c.stat(); err != nil {
		c.Close()
		return nil, fmt.Errorf("cannot examine the copy of %s: %w", f.Path, err)
	}
	d, err := digest(fd, nil)
	switch {
	case err != nil:
		err = fmt.Errorf("cannot read the copy of %s: %w", f.Path, err)
	case f.Digest.Known() && d != f.Digest || c.Size != f.Size:
		err = fmt.Errorf("%s changed while it was being copied", f.Path)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	// The copy stands for the original: what is seen at the path is compared
	// with the original's identity, not with the copy's.
	c.Release = f.Release
	c.Digest = d
	return c, nil
}

func snapshotMemory(f *File, own bool) (int, error) {
	name := filepath.Base(f.Path)
	// MFD_EXEC says that it is meant to be executed; before Linux 6.3 every
	// memfd was, and the flag is refused.
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_EXEC)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return -1, fmt.Errorf("cannot make a copy of %s in memory: %w", f.Path, err)
	}
	err = copyBytes(fd, f.fd, f.Size)
	if err == nil {
		giveTo(fd, f, own)
		// Nobody, not the program itself, can change what runs (fcntl(2), F_ADD_SEALS).
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("cannot copy %s into memory: %w", f.Path, err)
	}
	return fd, nil
}

func snapshotDisk(f *File, dir string, own bool) (int, error) {
	in, err := safepath.OpenDir(dir)
	if err != nil {
		return -1, fmt.Errorf("cannot make a copy of %s in %s: %w", f.Path, dir, err)
	}
	defer in.Close()
	// A directory of its own, which nobody else may enter, so that the file has
	// the program's name, which is what ps(1) shows of a program executed by
	// descriptor.
	made, temporary, err := in.MakeDir(".hotinit-")
	if err != nil {
		return -1, fmt.Errorf("cannot make a copy of %s in %s: %w", f.Path, dir, err)
	}
	defer in.RemoveDir(temporary)
	defer made.Close()
	name := filepath.Base(f.Path)
	w, err := made.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o700)
	if err != nil {
		return -1, fmt.Errorf("cannot make a copy of %s in %s: %w", f.Path, dir, err)
	}
	defer made.Remove(name)
	if unix.IoctlFileClone(w, f.fd) != nil {
		err = copyBytes(w, f.fd, f.Size)
	}
	if err == nil {
		giveTo(w, f, own)
	}
	var fd int
	if err == nil {
		// Reading only: a descriptor for writing would make exec fail with ETXTBSY.
		fd, err = made.Open(name, unix.O_RDONLY, 0)
	}
	if cerr := unix.Close(w); err == nil && cerr != nil {
		unix.Close(fd)
		err = cerr
	}
	if err != nil {
		return -1, fmt.Errorf("cannot copy %s into %s: %w", f.Path, dir, err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err == nil && fs.Flags&unix.ST_NOEXEC != 0 {
		unix.Close(fd)
		return -1, fmt.Errorf("cannot run a copy from %s: its file system is mounted noexec; choose another directory", dir)
	}
	return fd, nil
}

// giveTo makes a copy executable, for everybody where nobody else may own it.
func giveTo(fd int, f *File, own bool) {
	if own {
		unix.Fchmod(fd, 0o555)
		return
	}
	giveAway(fd, f)
}

// giveAway makes the copy executable by whoever could execute the original.
// Only root can give it away, and only then somebody else may have to run it.
func giveAway(fd int, f *File) {
	var st unix.Stat_t
	if unix.Fstat(f.fd, &st) == nil {
		unix.Fchown(fd, int(st.Uid), int(st.Gid))
	}
	unix.Fchmod(fd, f.Mode|0o500)
}

// copyBytes copies in the kernel where it can, else through a fixed buffer.
func copyBytes(to, source int, size int64) error {
	from := int64(0)
	for from < size {
		n, err := unix.CopyFileRange(source, &from, to, nil, int(min(size-from, 1<<30)), 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			break // between these file systems it can't: copy_file_range(2)
		}
	}
	if from > 0 && from == size {
		return nil
	}
	buf := make([]byte, 128<<10)
	for {
		n, rerr := ReaderAt(source).ReadAt(buf, from)
		for done := 0; done < n; {
			m, err := unix.Write(to, buf[done:n])
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return os.NewSyscallError("write", err)
			}
			done += m
		}
		from += int64(n)
		if rerr == io.EOF {
			return nil
		}
		if rerr != nil {
			return rerr
		}
	}
}
