package release

import "golang.org/x/sys/unix"

// Writer says whether some process has a file open for writing.
type Writer uint8

const (
	WriterUnknown Writer = iota
	WriterNone
	WriterOpen
)

// BeingWritten reports whether some process has the file open for writing, in
// which case execve(2) would fail with ETXTBSY, and whether that can be told
// at all: neither on a network file system nor, before Linux 6.14, of another
// user's file without CAP_LEASE.
func (f *File) BeingWritten() (open, known bool) {
	w := f.Writer()
	return w == WriterOpen, w != WriterUnknown
}

// Writer reports whether some process has the file open for writing.
func (f *File) Writer() Writer {
	if !f.local || !f.readable() {
		return WriterUnknown
	}
	// A read lease is only granted while nobody has the file open for writing
	// (fcntl(2), F_SETLEASE). It is given back at once; a writer that comes in
	// between waits for these microseconds and notices nothing. What the lease
	// costs us then is a SIGIO, which Go's runtime drops.
	// A scan of /proc/*/fd would be slow and blind to other users' processes.
	_, err := unix.FcntlInt(uintptr(f.fd), unix.F_SETLEASE, unix.F_RDLCK)
	switch err {
	case nil:
		unix.FcntlInt(uintptr(f.fd), unix.F_SETLEASE, unix.F_UNLCK)
		return WriterNone
	case unix.EAGAIN:
		return WriterOpen
	}
	// Not our file. Asking whether it could be executed needs no right to
	// lease it (execveat(2), AT_EXECVE_CHECK, Linux 6.14). Second choice: a
	// writer that comes while it looks gets the ETXTBSY.
	switch execCheck(f.fd) {
	case nil:
		return WriterNone
	case unix.ETXTBSY:
		return WriterOpen
	}
	return WriterUnknown
}

// Since Linux 6.14; an older kernel answers EINVAL.
const atExecveCheck = 0x10000

var emptyString [1]byte

// A remoteType is a file system type whose changes may come from elsewhere, so
// that inotify(7) misses them and nobody can tell of writers: NFS, SMB, 9p,
// FUSE (which virtiofs reports too), AFS, Ceph, Lustre, VirtualBox, VMware.
func RemoteType(t int64) bool {
	switch uint32(t) {
	case unix.EXT2_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC,
		unix.TMPFS_MAGIC, unix.RAMFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC,
		unix.F2FS_SUPER_MAGIC, unix.SQUASHFS_MAGIC, unix.EROFS_SUPER_MAGIC_V1,
		unix.MSDOS_SUPER_MAGIC, unix.EXFAT_SUPER_MAGIC, unix.ISOFS_SUPER_MAGIC,
		unix.REISERFS_SUPER_MAGIC, unix.NILFS_SUPER_MAGIC, unix.PROC_SUPER_MAGIC,
		unix.SYSFS_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.CGROUP_SUPER_MAGIC,
		zfsMagic, bcachefsMagic, ntfs3Magic, jfsMagic, aufsMagic, unix.HUGETLBFS_MAGIC:
		return false
	}
	return true // and whatever nobody heard of yet
}

const (
	zfsMagic      = 0x2fc12fc1
	bcachefsMagic = 0xca451a4e
	ntfs3Magic    = 0x7366746e
	jfsMagic      = 0x3153464a
	aufsMagic     = 0x61756673
)
