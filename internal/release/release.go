// Package release says what a good release is: a file that is complete and can
// be started, named by its content.
//
// The invariant: a File is held open from its check to its execution, so what
// was checked is what runs, whatever happens to its path.
//
// How to read it: release.go has the types, check.go judges an open file (elf.go
// for ELF files, writer.go for writers, signed.go for signatures), snapshot.go
// makes a private copy.
// watchable.go finds the file that a command line deploys.
package release

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/passwd"
)

// Kind says how the kernel runs a file.
type Kind uint8

const (
	KindOther    Kind = iota // whatever execve(2) makes of it
	KindELF                  // a program or a shared object with an entry point
	KindScript               // starts with #!
	KindDoubtful             // an ELF file that only execve(2) can judge, see CheckOptions
)

func (k Kind) String() string {
	switch k {
	case KindELF:
		return "ELF"
	case KindScript:
		return "script"
	case KindDoubtful:
		return "doubtful ELF"
	}
	return "other"
}

// Digest is the SHA-256 of a file's content. The zero Digest means that it is
// not known, as for a file that may be executed but not read.
type Digest [32]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText and UnmarshalText let a record or a status page carry it as text.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is the reverse of MarshalText.
func (d *Digest) UnmarshalText(text []byte) error {
	if hex.DecodedLen(len(text)) != len(d) {
		return fmt.Errorf("a SHA-256 digest has %d hexadecimal digits, not %d", 2*len(d), len(text))
	}
	_, err := hex.Decode(d[:], text)
	return err
}

// Known reports whether the content was read.
func (d Digest) Known() bool { return d != Digest{} }

// Release is the content that a generation runs.
type Release struct {
	Path   string // as asked for
	Real   string // resolved through every symbolic link
	Dev    uint64
	Ino    uint64
	Size   int64
	MTime  int64 // nanoseconds since 1970
	CTime  int64
	Mode   uint32 // permission bits
	Kind   Kind
	Digest Digest
	Root   string // the watched directory that belongs to it, "" where none does
	Tree   Digest // of that directory, zero where it is not known

	// Settings names the settings that it runs with, "" for those of the command line:
	// a program's file can change as its executable can.
	Settings string `json:"settings,omitempty"`

	Signature string // of the file, as it lay beside it; "" where none was asked for, or is there
	Signed    int64  // when the file or the directory was signed, in seconds since 1970; 0 where that is not known
}

// Same reports whether both are the same release, so that starting the one in
// place of the other would change nothing. What counts is where the path leads
// and the bytes: a file that was touched, copied, chowned or chmodded in its
// place is the same release; a symbolic link that was turned leads to another
// one, whatever the bytes, since what the program loads later lies beside it.
// (A file that lost its x bit cannot be started again, but that is no reason to
// replace what runs.) Where the bytes could not be read, the same unmodified
// inode must do.
func (r Release) Same(o Release) bool {
	if r.Real != o.Real || r.Root != o.Root || r.Tree != o.Tree {
		return false
	}
	if r.Digest.Known() && o.Digest.Known() {
		return r.Digest == o.Digest && r.Size == o.Size
	}
	return r.Dev == o.Dev && r.Ino == o.Ino && r.Size == o.Size && r.MTime == o.MTime
}

// Name names a release: the same name is the same release, also to another
// hotinit. Where the content was not read (yet) the name is the inode's and
// holds for as long as this hotinit runs.
func (r Release) Name() string {
	h := sha256.New()
	unread := ""
	if r.Digest.Known() {
		h.Write(r.Digest[:])
	} else {
		fmt.Fprintf(h, "%d:%d:%d:%d", r.Dev, r.Ino, r.Size, r.MTime)
		unread = "?"
	}
	h.Write(r.Tree[:])
	fmt.Fprintf(h, "%d:%s%s", len(r.Real), r.Real, r.Root)
	if r.Settings != "" {
		fmt.Fprintf(h, "\x00settings:%s", r.Settings)
	}
	if r.Signature != "" {
		// A release that was rejected for its signature is another one with another.
		fmt.Fprintf(h, "\x00%s", r.Signature)
	}
	return unread + hex.EncodeToString(h.Sum(nil)[:16])
}

// Reason is why a file cannot be started, short enough for a line of the log
// that names the path already.
type Reason struct {
	Text string
	Err  error // the system's error where there was one: errors.Is(err, unix.ENOENT) works
}

func (r *Reason) Error() string { return r.Text }
func (r *Reason) Unwrap() error { return r.Err }

func refuse(format string, args ...any) *Reason {
	return &Reason{Text: fmt.Sprintf(format, args...)}
}

// File is a release held open: what was checked is what runs, whatever happens
// to its path afterwards.
type File struct {
	Release
	fd    int
	Doubt string // what speaks against a KindDoubtful file
	local bool   // on a file system where a lease reports writers
	stamp Stamp  // as of the last stat
}

// Stamp is the file's as of the last look at the descriptor.
func (f *File) Stamp() Stamp { return f.stamp }

// FD is the open descriptor, close-on-exec, for execveat(2) with AT_EMPTY_PATH.
// It stays the File's own.
func (f *File) FD() int { return f.fd }

// Local reports whether the file is on a file system whose ctime tells each change.
func (f *File) Local() bool { return f.local }

// Close gives the descriptor back. A second Close does nothing.
func (f *File) Close() error {
	if f == nil || f.fd < 0 {
		return nil
	}
	fd := f.fd
	f.fd = -1
	return unix.Close(fd)
}

// CloseBeside is Close that is not waited for: close(2) asks the server of a file
// system (FUSE, NFS), which may not answer.
func (f *File) CloseBeside() {
	if f == nil || f.fd < 0 {
		return
	}
	fd := f.fd
	f.fd = -1
	go unix.Close(fd)
}

// CheckOptions says under which circumstances a file is to be started.
type CheckOptions struct {
	As     *passwd.Credential // who will run the file; nil: the calling process's own
	NoExec bool               // an interpreter will read it: it need not be executable
	Done   <-chan struct{}    // closed: give up reading

	// Undigested leaves Digest for Read to fill in, so that a large file can be
	// started at once, unless there is a checksum file beside it.
	Undigested bool

	// KernelDecides lets an ELF file pass that has all that is loaded, and that
	// checkELF refuses: execve(2) tells whether it runs.
	KernelDecides bool

	Trust *Trust // not nil: the file has to be signed
}

// Open opens the file at path once and checks that descriptor: that it is a
// regular file that may be executed, a complete ELF file for this machine or a
// script whose interpreter exists, and the content that a checksum file beside
// it names (server.sha256, as sha256sum(1) writes it). An error is a *Reason.
func Open(path string, o CheckOptions) (*File, error) {
	f, err := OpenUnchecked(path)
	if err != nil {
		return nil, err
	}
	fault := f.Check(o, nil)
	if fault != nil {
		f.Close()
		return nil, fault
	}
	return f, nil
}

// Read fills in Digest. It fails where the content may have changed since the
// file was opened: whatever is read now is not what was checked.
func (f *File) Read(done <-chan struct{}) error {
	for range 3 {
		before := f.Release
		d, err := f.read(done)
		if err != nil {
			return &Reason{Text: "cannot be read: " + err.Error(), Err: err}
		}
		if err := f.stat(); err != nil {
			return &Reason{Text: "cannot be examined: " + err.Error(), Err: err}
		}
		if before.Size != f.Size || before.MTime != f.MTime {
			break
		}
		if !f.local || before.CTime == f.CTime {
			f.Digest = d
			return nil
		}
		// It got another name or lost one, or somebody wrote to it and put the
		// mtime back.
	}
	return &Reason{Text: "changed while it was being read", Err: unix.EAGAIN}
}

// read returns the digest of the content, which need not be read again if nobody has
// touched the file since.
func (f *File) read(done <-chan struct{}) (Digest, error) {
	at, local := f.state()
	if local {
		if d, again := recall(at); again {
			return d, nil
		}
	}
	began := now()
	d, err := digest(f.fd, done)
	if err != nil {
		return d, err
	}
	if after, ok := f.state(); ok && local && after == at {
		remember(at, began, d)
	}
	return d, nil
}

// OpenUnchecked opens path without judging it.
func OpenUnchecked(path string) (*File, error) {
	// What is opened is what path was resolved to, without a further link: else
	// a link that is turned meanwhile would give one file the other's name.
	for range 8 {
		real, err := filepath.EvalSymlinks(path)
		if err != nil || procLink(path) {
			break // opening it says why
		}
		f, err := openFile(real)
		if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOENT) {
			continue
		}
		if f != nil {
			f.Path, f.Real = path, real
		}
		return f, err
	}
	f, err := openFile(path)
	if f != nil {
		f.Real = path
	}
	return f, err
}

func openFile(path string) (*File, error) {
	// O_NONBLOCK: a FIFO in the file's place must not hang us (OpenUnchecked(2)).
	// O_NOCTTY: nor may a terminal there become ours.
	const flags = unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY
	fd, err := OpenRetry(path, flags)
	if errors.Is(err, unix.EACCES) {
		// Mode 0111: it may be executed, not read. O_PATH is enough to
		// execute it (execveat(2)).
		fd, err = OpenRetry(path, unix.O_PATH|unix.O_CLOEXEC)
	}
	if err != nil {
		text := "cannot be opened: " + err.Error()
		switch {
		case errors.Is(err, unix.ENOENT):
			text = "does not exist"
		case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
			text = "not a regular file"
		}
		return nil, &Reason{Text: text, Err: err}
	}
	f := &File{fd: fd}
	f.Path = path
	if err := f.stat(); err != nil {
		f.Close()
		return nil, &Reason{Text: "cannot be examined: " + err.Error(), Err: err}
	}
	var fs unix.Statfs_t
	f.local = unix.Fstatfs(fd, &fs) == nil && !RemoteType(int64(fs.Type))
	return f, nil
}

// stat takes the identity from the open descriptor.
func (f *File) stat() error {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return err
	}
	f.stamp = StampOf(&st)
	f.Dev, f.Ino, f.Size = uint64(st.Dev), st.Ino, st.Size
	f.MTime, f.CTime = st.Mtim.Nano(), st.Ctim.Nano()
	f.Mode = st.Mode & 0o7777
	return nil
}

func OpenRetry(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}
