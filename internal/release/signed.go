package release

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/signature"
)

// Trust says whose releases may run (--trusted-key).
type Trust struct {
	Keys        signature.Keys
	NoDowngrade bool

	newest atomic.Int64
}

// Newest is the latest time at which a release that ran was signed, in seconds
// since 1970.
func (t *Trust) Newest() int64 { return t.newest.Load() }

// Ran notes that a release that was signed at this time has run. It reports
// whether none that ran before was signed as late.
func (t *Trust) Ran(signed int64) bool {
	for {
		newest := t.newest.Load()
		if signed <= newest {
			return false
		}
		if t.newest.CompareAndSwap(newest, signed) {
			return true
		}
	}
}

// The names of the files that sign a directory.
const (
	SumsName          = "SHA256SUMS"
	SumsSignatureName = SumsName + signature.Suffix

	SignatureSuffix = signature.Suffix // of the name of a file's signature

	mostSums = 32 << 20
)

// LoadSignature takes in the signature that lies beside the file: that of the
// path as asked for, or else that of the file that it leads to. It is verified by
// Verify.
func (f *File) LoadSignature() error {
	f.Signature, f.Signed = "", 0
	if p, ok := SignatureFile(f.Path, f.Real); ok {
		text, err := readSmall(p)
		if err != nil {
			return &Reason{Text: "its signature " + filepath.Base(p) + " cannot be read: " + err.Error(), Err: err}
		}
		s, err := signature.Parse([]byte(text))
		if err != nil {
			return refuse("its signature %s %v", filepath.Base(p), err)
		}
		f.Signature = s.Text()
		return nil
	}
	name := filepath.Base(f.Path)
	return refuse("not signed: there is no %s beside it (`minisign -Sm %s` makes it; the release is looked at again when it is there)", name+signature.Suffix, name)
}

// SignatureFile returns the path of the signature of a release, as ChecksumFile
// does that of its checksum file.
func SignatureFile(path, real string) (string, bool) {
	return beside(path, real, signature.Suffix)
}

// Verify proves that what the descriptor has in it was signed by a trusted key, by
// the signature that was loaded. again says that it is gone back to: then it may
// be older than what ran.
func (f *File) Verify(t *Trust, again bool, done <-chan struct{}) error {
	if !f.readable() {
		return refuse("may be executed but not read, so its signature cannot be verified")
	}
	s, err := signature.Parse([]byte(f.Signature))
	if err != nil {
		return refuse("its signature %v", err)
	}
	buf, free := buffer(128 << 10)
	defer free()
	c, err := signature.Read(&steady{fd: f.fd, done: done}, buf)
	if err != nil {
		return &Reason{Text: "cannot be read: " + err.Error(), Err: err}
	}
	f.Signed, err = t.accept(s, c, "its signature", again)
	return err
}

// accept returns when something was signed, or why it may not run.
func (t *Trust) accept(s *signature.Signature, c signature.Content, what string, again bool) (int64, error) {
	if err := s.Verify(t.Keys, c); err != nil {
		return 0, refuse("%s %v", what, err)
	}
	signed, ok := s.Time()
	if !t.NoDowngrade || again {
		return signed, nil
	}
	newest := t.Newest()
	switch {
	case !ok:
		return 0, refuse("%s has no timestamp: in its trusted comment, which --no-downgrade asks for (minisign writes it unless -t is given)", what)
	case signed < newest:
		return 0, refuse("%s is of %s, and a release that ran was signed later, at %s (--no-downgrade; to go back to it, sign it again)", what, date(signed), date(newest))
	}
	return signed, nil
}

func date(seconds int64) string { return time.Unix(seconds, 0).UTC().Format("2006-01-02 15:04:05 MST") }

// steady reads a file from its beginning, wherever the descriptor's offset is. It
// ends when done is closed.
type steady struct {
	fd   int
	done <-chan struct{}
	off  int64
}

func (r *steady) Read(p []byte) (int, error) {
	select {
	case <-r.done:
		return 0, ErrStopped
	default:
	}
	n, err := ReaderAt(r.fd).ReadAt(p, r.off)
	r.off += int64(n)
	runtime.Gosched() // see manners
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// buffer is one for reading, of so many bytes. It is not on the heap: see digest.
func buffer(size int) (buf []byte, free func()) {
	buf, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return make([]byte, 16<<10), func() {}
	}
	return buf, func() { unix.Munmap(buf) }
}

// Verify proves that all that is in a directory was signed by a trusted key: that
// SHA256SUMS.minisig is the signature of SHA256SUMS, and that this lists every
// file, and each with the content that it has. Symbolic links must be listed as
// files are, and lead to a file in the directory. It returns when that was signed.
// What does not count does not belong to the directory.
//
// Nobody but hotinit may write to the directory: what was verified is then what is
// read from it later.
func (t Tree) Verify(trust *Trust, again bool, done <-chan struct{}) (signed int64, err error) {
	buf, free := buffer(128 << 10)
	defer free()
	open := func(name string) (int, error) {
		fd, err := openRetryAt(unix.AT_FDCWD, filepath.Join(t.Root, name), 0)
		if err == unix.ENOENT {
			return -1, refuse("not signed: there is no %s in it (`find . -type f ! -name '%s*' -exec sha256sum {} + >%[2]s; minisign -Sm %[2]s` makes it; the directory is looked at again when it is there)", name, SumsName)
		}
		if err != nil {
			return -1, &Reason{Text: name + " cannot be opened: " + err.Error(), Err: err}
		}
		return fd, nil
	}
	fd, err := open(SumsName)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	sfd, err := open(SumsSignatureName)
	if err != nil {
		return 0, err
	}
	defer unix.Close(sfd)
	var small [maxChecksumFile]byte
	n, err := ReaderAt(sfd).ReadAt(small[:], 0)
	if err != nil && err != io.EOF {
		return 0, &Reason{Text: SumsSignatureName + " cannot be read: " + err.Error(), Err: err}
	}
	s, err := signature.Parse(small[:n])
	if err != nil {
		return 0, refuse("%s %v", SumsSignatureName, err)
	}
	var text strings.Builder
	c, err := signature.Read(io.TeeReader(io.LimitReader(&steady{fd: fd, done: done}, mostSums+1), &text), buf)
	if err != nil {
		return 0, &Reason{Text: SumsName + " cannot be read: " + err.Error(), Err: err}
	}
	if text.Len() > mostSums {
		return 0, refuse("%s has more than %d MiB", SumsName, mostSums>>20)
	}
	if signed, err = trust.accept(s, c, SumsSignatureName, again); err != nil {
		return 0, err
	}
	sums, err := parseSums(text.String())
	if err != nil {
		return 0, err
	}
	return signed, t.matches(sums, done, buf)
}

// matches compares a directory with what is listed of it.
func (t Tree) matches(sums map[string]Digest, done <-chan struct{}, buf []byte) error {
	content := sha256.New()
	w := treeWalk{tree: t, done: done}
	w.visit = func(e *entry) error {
		if e.kind() == unix.S_IFDIR || e.rel == SumsName || e.rel == SumsSignatureName {
			return nil
		}
		want, listed := sums[e.rel]
		switch {
		case !listed && e.kind() == unix.S_IFLNK:
			return refuse("%s is a symbolic link that %s does not list (list it as a file, or leave it out with --ignore)", e.rel, SumsName)
		case !listed:
			return refuse("%s is not listed in %s (list it and sign that again, or leave it out with --ignore)", e.rel, SumsName)
		}
		fd, err := t.openListed(e)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		content.Reset()
		if _, err := readInto(content, fd, buf); err != nil {
			return w.failed(e, err)
		}
		var got Digest
		content.Sum(got[:0])
		if got != want {
			return refuse("%s does not match %s: it has %.12s…, which says %.12s… (deploy what was signed)", e.rel, SumsName, got, want)
		}
		delete(sums, e.rel)
		return nil
	}
	// It is no part of the release, but an app that opens it reads what nobody has signed.
	w.special = func(e *entry) error {
		return refuse("%s is neither a file nor a directory, so it cannot be signed: leave it out (--ignore)", e.rel)
	}
	w.skip = func(e *entry) error {
		// Copy leads to the originals of what somebody has chosen to leave out. What
		// is left out otherwise is not in a copy, and no link may stand for it.
		if e.kind() == unix.S_IFLNK && (t.Lead == nil || !t.Lead(e.rel, true) && !t.Lead(e.rel, false)) {
			return refuse("%s is a symbolic link in the place of something that is left out", e.rel)
		}
		return nil
	}
	if err := w.run(); err != nil {
		return err
	}
	for rel := range sums {
		if rel != SumsName && rel != SumsSignatureName && t.counts(rel) {
			return refuse("%s is listed in %s and not there", rel, SumsName)
		}
	}
	return nil
}

// openListed opens a file, or the one that a symbolic link leads to in the tree.
func (t Tree) openListed(e *entry) (int, error) {
	if e.kind() == unix.S_IFREG {
		fd, err := openRetryAt(e.dir, e.name, 0)
		if err != nil {
			return -1, &Reason{Text: e.rel + " cannot be read: " + err.Error(), Err: err}
		}
		return fd, nil
	}
	real, err := filepath.EvalSymlinks(filepath.Join(t.Root, e.rel))
	rel, within := t.Within(real)
	if err != nil || !within || !t.counts(rel) {
		return -1, refuse("%s is a symbolic link that leads out of the signed directory, or nowhere", e.rel)
	}
	fd, err := openRetryAt(unix.AT_FDCWD, real, 0)
	if err != nil {
		return -1, &Reason{Text: e.rel + " cannot be read: " + err.Error(), Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || CheckType(st.Mode) != nil {
		unix.Close(fd)
		return -1, refuse("%s is a symbolic link to something that is not a regular file", e.rel)
	}
	return fd, nil
}

// counts reports whether a file belongs to the tree.
func (t Tree) counts(rel string) bool {
	if t.Counts == nil {
		return true
	}
	for i := range rel {
		if rel[i] == '/' && !t.Counts(rel[:i], true) {
			return false
		}
	}
	return t.Counts(rel, false)
}

// parseSums reads what sha256sum(1) writes, plain or with --tag. A line that it
// would not write is an error: what is signed is to be understood as a whole.
func parseSums(text string) (map[string]Digest, error) {
	sums := make(map[string]Digest)
	number := 0
	for line := range strings.Lines(text) {
		number++
		d, name, err := sumsLine(strings.TrimSuffix(line, "\n"))
		if err == nil && !filepath.IsLocal(name) {
			err = errors.New("names a file outside of the directory")
		}
		if err != nil {
			return nil, refuse("line %d of %s %v", number, SumsName, err)
		}
		name = path.Clean(name)
		if before, twice := sums[name]; twice && before != d {
			return nil, refuse("line %d of %s lists %s again, with another checksum", number, SumsName, name)
		}
		sums[name] = d
	}
	return sums, nil
}

func sumsLine(line string) (d Digest, name string, err error) {
	unlike := errors.New("is not as sha256sum writes it")
	line, escaped := strings.CutPrefix(line, `\`)
	var hexed string
	if rest, tagged := strings.CutPrefix(line, "SHA256 ("); tagged {
		i := strings.LastIndex(rest, ") = ")
		if i < 0 {
			return d, "", unlike
		}
		name, hexed = rest[:i], rest[i+len(") = "):]
	} else {
		if len(line) < 2*len(d)+3 || line[2*len(d)] != ' ' || line[2*len(d)+1] != ' ' && line[2*len(d)+1] != '*' {
			return d, "", unlike
		}
		hexed, name = line[:2*len(d)], line[2*len(d)+2:]
	}
	if len(hexed) != 2*len(d) {
		return d, "", unlike
	}
	if _, err := hex.Decode(d[:], []byte(hexed)); err != nil {
		return d, "", unlike
	}
	if !escaped {
		return d, name, nil
	}
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] != '\\' {
			b.WriteByte(name[i])
			continue
		}
		i++
		switch {
		case i == len(name):
			return d, "", unlike
		case name[i] == '\\':
			b.WriteByte('\\')
		case name[i] == 'n':
			b.WriteByte('\n')
		case name[i] == 'r':
			b.WriteByte('\r')
		default:
			return d, "", unlike
		}
	}
	return d, b.String(), nil
}
