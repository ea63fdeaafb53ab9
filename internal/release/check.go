package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/passwd"
)

// ReaderAt reads from a raw descriptor: an *os.File would own it and put it into
// the runtime's poller for nothing.
type ReaderAt int

func (fd ReaderAt) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		m, err := unix.Pread(int(fd), p[n:], off+int64(n))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return n, err
		case m == 0:
			return n, io.EOF
		}
		n += m
	}
	return n, nil
}

// Check judges the open file. It fills in Kind. It fills in Digest where the
// content can be read, and either the file has no fault or it has the size of
// other, so that it may have other's content.
func (f *File) Check(o CheckOptions, other *Release) error {
	fault := f.checkForm(o)
	if f.readable() && (fault == nil && !f.later(o) || other != nil && f.Size == other.Size && f.regular()) {
		if err := f.Read(o.Done); err != nil {
			if fault == nil || errors.Is(err, unix.EAGAIN) {
				fault = err
			}
			return fault
		}
	}
	if fault == nil {
		fault = f.checkChecksum()
	}
	if o.Trust != nil {
		// Also where there is another fault: the name of a release has it in it.
		err := f.LoadSignature()
		if fault == nil && err == nil {
			err = f.Verify(o.Trust, false, o.Done)
		}
		if fault == nil {
			fault = err
		}
	}
	return fault
}

// later reports whether the content need not be read yet.
func (f *File) later(o CheckOptions) bool {
	if !o.Undigested {
		return false
	}
	_, promised := ChecksumFile(f.Path, f.Real)
	return !promised
}

// checkForm is all that can be told without reading the whole content.
func (f *File) checkForm(o CheckOptions) error {
	if err := CheckType(f.stamp.Mode); err != nil {
		return err
	}
	if f.Size == 0 {
		return refuse("an empty file")
	}
	if !o.NoExec {
		if err := f.checkExecutable(o.As); err != nil {
			return err
		}
	}
	if !f.readable() {
		return nil
	}
	var head [256]byte // the kernel looks no further for #! (execve(2))
	n, err := ReaderAt(f.fd).ReadAt(head[:], 0)
	if err != nil && err != io.EOF {
		return &Reason{Text: "cannot be read: " + err.Error(), Err: err}
	}
	if n == 0 {
		return refuse("an empty file") // by now
	}
	switch b := head[:n]; {
	case bytes.HasPrefix(b, []byte(elfMagic)):
		f.Kind = KindELF
		interpreter, err := checkELF(ReaderAt(f.fd), f.Size, native)
		if err != nil && o.KernelDecides && loadable(ReaderAt(f.fd), f.Size) {
			f.Kind, f.Doubt = KindDoubtful, err.Error()
			return nil
		}
		if err == nil && interpreter != "" && !o.NoExec {
			err = checkInterpreter(interpreter)
		}
		return err
	case bytes.HasPrefix(b, []byte("#!")):
		f.Kind = KindScript
		if o.NoExec {
			return nil // whoever reads it takes the line for a comment
		}
		return checkScript(b)
	case b[0] == 0 && !o.NoExec:
		// No program starts so, but a copy does whose first block comes last.
		return refuse("an incomplete file: it starts with zeros")
	}
	f.Kind = KindOther
	return nil
}

// CheckType returns nil for a regular file.
func CheckType(mode uint32) error {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return nil
	case unix.S_IFDIR:
		return refuse("a directory, not a file")
	case unix.S_IFIFO:
		return refuse("a FIFO, not a regular file")
	}
	return refuse("not a regular file")
}

func (f *File) regular() bool { return f.stamp.Mode&unix.S_IFMT == unix.S_IFREG }

// readable is false for a file that was opened for execution only.
func (f *File) readable() bool {
	flags, err := unix.FcntlInt(uintptr(f.fd), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_PATH == 0
}

// checkExecutable reports whether a user may execute the file, without becoming
// that user.
func (f *File) checkExecutable(as *passwd.Credential) error {
	denied := refuse("not executable (mode %04o)", f.Mode)
	denied.Err = unix.EACCES
	var fs unix.Statfs_t
	if err := unix.Fstatfs(f.fd, &fs); err == nil && fs.Flags&unix.ST_NOEXEC != 0 {
		return &Reason{Text: "on a file system mounted noexec", Err: unix.EACCES}
	}
	if f.Mode&0o111 == 0 {
		return denied // not even by root (capabilities(7), CAP_DAC_OVERRIDE)
	}
	if as == nil {
		// The kernel's own answer, which knows of access control lists.
		const flags = unix.AT_EMPTY_PATH | unix.AT_EACCESS
		err := unix.Faccessat2(f.fd, "", unix.X_OK, flags)
		if err != nil && unix.Faccessat2(f.fd, "", unix.F_OK, flags) == nil {
			return denied
		}
		return nil // or the call is not to be had; execve(2) will tell
	}
	if as.UID == 0 {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return &Reason{Text: "cannot be examined: " + err.Error(), Err: err}
	}
	bit := uint32(0o001)
	switch {
	case st.Uid == as.UID:
		bit = 0o100
	case st.Gid == as.GID || slices.Contains(as.Groups, st.Gid):
		bit = 0o010
	}
	if f.Mode&bit != 0 {
		return nil
	}
	// An access control list may grant what the bits deny (acl(5)).
	if n, err := unix.Fgetxattr(f.fd, "system.posix_acl_access", nil); err == nil && n > 0 {
		return nil
	}
	return refuse("not executable by user %d, group %d (mode %04o, owner %d:%d)", as.UID, as.GID, f.Mode, st.Uid, st.Gid)
}

// checkScript judges the first line of a script as the kernel reads it
// (execve(2), "Interpreter scripts").
func checkScript(head []byte) error {
	line, _, _ := bytes.Cut(head[2:], []byte("\n"))
	line = bytes.TrimLeft(line, " \t")
	if i := bytes.IndexAny(line, " \t\x00"); i >= 0 {
		line = line[:i]
	}
	if len(line) == 0 {
		return refuse("a script whose first line names no interpreter")
	}
	return checkInterpreter(string(line))
}

// checkInterpreter judges the program that the kernel starts to run the file.
func checkInterpreter(path string) error {
	if !filepath.IsAbs(path) {
		return nil // relative to the directory that it is started in, which only exec knows
	}
	if strings.HasSuffix(path, "\r") {
		return refuse("its interpreter %q does not exist: the first line ends as on Windows, in CR LF", path)
	}
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	switch {
	case err == unix.ENOENT || err == unix.ENOTDIR:
		return &Reason{Text: "its interpreter " + path + " does not exist", Err: err}
	case err != nil:
		return &Reason{Text: "its interpreter " + path + ": " + err.Error(), Err: err}
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return refuse("its interpreter %s is not a regular file", path)
	case st.Mode&0o111 == 0:
		return refuse("its interpreter %s is not executable (mode %04o)", path, st.Mode&0o7777)
	}
	return nil
}

var ErrStopped = errors.New("stopped")

// digest reads the whole file in constant memory. It leaves the descriptor's
// offset alone and gives up when done is closed.
func digest(fd int, done <-chan struct{}) (Digest, error) {
	h := sha256.New()
	// Not on the heap: a process that hardly ever collects would keep one for
	// each release that it has read.
	buf, free := buffer(32 << 10)
	defer free()
	m := polite()
	for off := int64(0); ; {
		select {
		case <-done:
			return Digest{}, ErrStopped
		default:
		}
		n, err := ReaderAt(fd).ReadAt(buf, off)
		h.Write(buf[:n])
		off += int64(n)
		// The machine's processor is for those first who serve meanwhile: a block is
		// small, as each of the steps of a request may have to wait for one.
		m.step()
		if err == io.EOF {
			break
		}
		if err != nil {
			return Digest{}, err
		}
	}
	var d Digest
	h.Sum(d[:0])
	return d, nil
}

const (
	ChecksumSuffix  = ".sha256"
	maxChecksumFile = 64 << 10
)

// ChecksumFile returns the checksum file of a release: the one beside
// the path as asked for, else the one beside the file that it leads to.
func ChecksumFile(path, real string) (string, bool) { return beside(path, real, ChecksumSuffix) }

func beside(path, real, suffix string) (string, bool) {
	for _, p := range []string{path + suffix, real + suffix} {
		var st unix.Stat_t
		if err := unix.Stat(p, &st); err == nil {
			return p, true
		}
	}
	return "", false
}

// checkChecksum compares the content with the checksum file beside it, if any.
func (f *File) checkChecksum() error {
	p, ok := ChecksumFile(f.Path, f.Real)
	if !ok || !f.Digest.Known() {
		return nil
	}
	name := filepath.Base(p)
	text, err := readSmall(p)
	if err != nil {
		return &Reason{Text: "its checksum file " + name + " cannot be read: " + err.Error(), Err: err}
	}
	want, ok := listedDigest(text, filepath.Base(f.Path), filepath.Base(f.Real))
	switch {
	case !ok:
		return refuse("its checksum file %s has no SHA-256 for it", name)
	case want != f.Digest:
		return refuse("does not match %s: it has %.12s…, the file says %.12s…", name, f.Digest.String(), want.String())
	}
	return nil
}

// listedDigest finds the digest for one of the names in what sha256sum(1) wrote,
// plain or with --tag. A file with a single digest needs no name: it may have
// been made where the file was called something else.
func listedDigest(text string, names ...string) (Digest, bool) {
	var only Digest
	count := 0
	for line := range strings.Lines(text) {
		d, name, ok := checksumLine(strings.TrimRight(line, "\r\n"))
		if !ok {
			continue
		}
		if slices.Contains(names, filepath.Base(name)) {
			return d, true
		}
		only = d
		count++
	}
	return only, count == 1
}

func checksumLine(line string) (d Digest, name string, ok bool) {
	hexed := ""
	if rest, tagged := strings.CutPrefix(line, "SHA256 ("); tagged {
		i := strings.LastIndex(rest, ") = ")
		if i < 0 {
			return d, "", false
		}
		name, hexed = rest[:i], rest[i+len(") = "):]
	} else {
		line = strings.TrimPrefix(line, `\`) // marks a name with escapes in it
		hexed, name, _ = strings.Cut(line, " ")
		name = strings.TrimPrefix(strings.TrimPrefix(name, " "), "*")
	}
	if hex.DecodedLen(len(hexed)) != len(d) || len(hexed)%2 != 0 {
		return d, "", false
	}
	_, err := hex.Decode(d[:], []byte(hexed))
	return d, name, err == nil
}

func readSmall(path string) (string, error) {
	fd, err := OpenRetry(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return "", errors.New("it is not a regular file")
	}
	buf := make([]byte, maxChecksumFile)
	n, err := ReaderAt(fd).ReadAt(buf, 0)
	if err != nil && err != io.EOF {
		return "", err
	}
	return string(buf[:n]), nil
}
