package release

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/safepath"
)

// A Store is a directory that outlives the container (--state-dir). It keeps
// copies of the last good releases, and a list of them and of those that were
// rejected.
//
// The invariant: what Open returns has the digest that the list gives, whatever
// happened to the directory. Nothing in it is believed where anybody but root and
// hotinit's own user may write to it.
//
//	releases.json      the list; replaced as a whole, by rename(2)
//	releases/NAME/     the copy of a release: tree/, or file/ with one file in it
//
// Several hotinit may share it. Each change is made under flock(2) on the
// directory, to the list as it is then. Where that lock cannot be had in time (a
// network file system without locks, another hotinit that is stopped) the change
// is made without: the list is one of the two then, and never a mixture.
type Store struct {
	path string
}

// Kept is a release of the list that can be gone back to.
type Kept struct {
	Release Release   `json:"release"`
	Command Command   `json:"command"` // as it ran, with the paths of the original
	Script  bool      `json:"script"`  // an interpreter reads the file
	Since   time.Time `json:"since"`   // when it was last seen to be good
}

// Name is the release's.
func (k *Kept) Name() string { return k.Release.Name() }

// content is the name of its copy, which is the same whatever its settings are.
func (k *Kept) content() string {
	r := k.Release
	r.Settings = ""
	return r.Name()
}

// Rejected is a release of the list that is not to be started.
type Rejected struct {
	Name   string    `json:"name"`
	Path   string    `json:"path"`
	Reason string    `json:"reason"`
	ByHand bool      `json:"byHand"` // somebody rolled it back
	Since  time.Time `json:"since"`
}

// List is what releases.json has in it, the newest last.
type List struct {
	Good     []Kept     `json:"good"`
	Rejected []Rejected `json:"rejected"`
	// Signed is when the latest that ran was signed, in seconds since 1970
	// (--no-downgrade).
	Signed int64 `json:"signed,omitempty"`
}

const (
	listName    = "releases.json"
	listVersion = 1
	mostList    = 1 << 20
	mostKept    = 3
	mostReject  = 16
	mostText    = 8 << 10
	lockWait    = 2 * time.Second
	stray       = time.Hour // an unfinished copy of another hotinit is left alone for so long
)

// OpenStore opens the directory, making it where there is none, and as many as above
// says of those that it is in.
func OpenStore(path string, above int) (*Store, error) {
	s := &Store{path: path}
	if above > 0 {
		if _, err := OpenStore(filepath.Dir(path), above-1); err != nil {
			return nil, err
		}
	}
	if err := unix.Mkdir(path, 0o700); err != nil && err != unix.EEXIST {
		return nil, fmt.Errorf("cannot make the state directory %s: %w", path, err)
	}
	if err := s.trusted(path); err != nil {
		return nil, err
	}
	return s, nil
}

// trusted reports whether nobody but root and hotinit's own user can have put
// anything into a directory. That holds for all that is in it, too.
func (s *Store) trusted(path string) error {
	d, err := safepath.OpenDir(path)
	if err != nil {
		return fmt.Errorf("cannot use the state directory %s: %w", s.path, err)
	}
	defer d.Close()
	if !d.Settled() {
		return fmt.Errorf("cannot use the state directory %s: others than root and hotinit's own user may write to %s or to a directory above it (chown it to root, chmod go-w)", s.path, path)
	}
	return nil
}

// List reads the list. An error says why there is none; where none was written
// yet the list is empty.
func (s *Store) List() (List, error) {
	if err := s.trusted(s.path); err != nil {
		return List{}, err
	}
	name := filepath.Join(s.path, listName)
	fd, err := openRetryAt(unix.AT_FDCWD, name, 0)
	if err == unix.ENOENT {
		return List{}, nil
	}
	if err != nil {
		return List{}, fmt.Errorf("cannot read %s: %w", name, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return List{}, fmt.Errorf("cannot read %s: %w", name, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return List{}, fmt.Errorf("%s is not believed: it is not a regular file", name)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 || st.Nlink > 1: // 0: it was replaced just now
		return List{}, fmt.Errorf("%s is not believed: others than root and hotinit's own user may write to it", name)
	case st.Size > mostList:
		return List{}, fmt.Errorf("%s is not believed: it has %d bytes", name, st.Size)
	}
	b := make([]byte, mostList+1)
	n, err := ReaderAt(fd).ReadAt(b, 0)
	if n > mostList || err != nil && n == 0 && st.Size != 0 {
		return List{}, fmt.Errorf("cannot read %s: %v", name, err)
	}
	l, err := ParseList(b[:n])
	if err != nil {
		return List{}, fmt.Errorf("%s is not believed: %w", name, err)
	}
	return l, nil
}

// The list in its envelope. The checksum is that of the bytes of List.
type envelope struct {
	Version  int             `json:"version"`
	Checksum string          `json:"checksum"`
	List     json.RawMessage `json:"list"`
}

func checksum(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// ParseList reads what Encode wrote. It believes nothing that Encode does not
// write.
func ParseList(b []byte) (List, error) {
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return List{}, errors.New("it is not complete JSON")
	}
	if e.Version != listVersion {
		return List{}, fmt.Errorf("it has version %d, and this hotinit knows version %d", e.Version, listVersion)
	}
	if e.Checksum != checksum(e.List) {
		return List{}, errors.New("its checksum is wrong")
	}
	var l List
	if err := json.Unmarshal(e.List, &l); err != nil {
		return List{}, errors.New("its list cannot be read")
	}
	return l, l.valid()
}

func (l *List) valid() error {
	if len(l.Good) > mostKept || len(l.Rejected) > mostReject {
		return fmt.Errorf("it has %d good and %d rejected releases", len(l.Good), len(l.Rejected))
	}
	for i := range l.Good {
		k := &l.Good[i]
		switch {
		case !k.Release.Digest.Known() || len(k.Command.Argv) == 0:
			return errors.New("a release has no digest or no command")
		case !filepath.IsAbs(k.Release.Real) || !filepath.IsAbs(k.Command.Path) || k.Release.Root != "" && !filepath.IsAbs(k.Release.Root):
			return errors.New("a release has a path that is not absolute")
		case (k.Release.Root != "") != k.Release.Tree.Known():
			return errors.New("a release has a tree without a digest")
		}
	}
	for i := range l.Rejected {
		if n := l.Rejected[i].Name; len(n) != 32 || strings.Trim(n, "0123456789abcdef") != "" {
			return errors.New("a rejected release has no name")
		}
	}
	return nil
}

// Encode writes the list, as a whole line.
func (l List) Encode() ([]byte, error) {
	raw, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(envelope{listVersion, checksum(raw), raw})
	if err == nil && len(b) > mostList {
		err = fmt.Errorf("it would have %d bytes", len(b))
	}
	return append(b, '\n'), err
}

// RejectedAs returns the rejection of a release, nil where it was not rejected.
func (l List) RejectedAs(name string) *Rejected {
	i := slices.IndexFunc(l.Rejected, func(r Rejected) bool { return r.Name == name })
	if i < 0 {
		return nil
	}
	return &l.Rejected[i]
}

// Last returns the last good release, nil where there is none.
func (l List) Last() *Kept {
	for i := len(l.Good) - 1; i >= 0; i-- {
		if l.RejectedAs(l.Good[i].Name()) == nil {
			return &l.Good[i]
		}
	}
	return nil
}

// Reject notes that a release is not to be started any more.
func (s *Store) Reject(r Rejected) error {
	r.Reason = short(r.Reason)
	return s.change(func(l *List) error {
		l.Rejected = slices.DeleteFunc(l.Rejected, func(o Rejected) bool { return o.Name == r.Name })
		l.Rejected = append(l.Rejected, r)
		l.Rejected = l.Rejected[max(0, len(l.Rejected)-mostReject):]
		if !r.ByHand { // who rolled it back may name it later
			l.Good = slices.DeleteFunc(l.Good, func(k Kept) bool { return k.Name() == r.Name })
		}
		return nil
	})
}

// Ran notes that a release ran that was signed at this time.
func (s *Store) Ran(signed int64) error {
	return s.change(func(l *List) error {
		l.Signed = max(l.Signed, signed)
		return nil
	})
}

func short(s string) string {
	if len(s) > mostText {
		s = s[:mostText]
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "?")
	}
	return s
}

// Keep copies a good release, and notes it as the newest one. f is its file,
// tree the directory that belongs to it, or a copy of that.
func (s *Store) Keep(k Kept, f *File, tree Tree, done <-chan struct{}) error {
	if !k.Release.Digest.Known() {
		return errors.New("its content cannot be read")
	}
	return s.change(func(l *List) error {
		if err := s.copyIn(&k, f, tree, done); err != nil {
			return err
		}
		l.Rejected = slices.DeleteFunc(l.Rejected, func(r Rejected) bool { return r.Name == k.Name() })
		l.Good = slices.DeleteFunc(l.Good, func(o Kept) bool { return o.content() == k.content() })
		l.Good = append(l.Good, k)
		for len(l.Good) > mostKept {
			drop := slices.IndexFunc(l.Good, func(k Kept) bool { return l.RejectedAs(k.Name()) != nil })
			drop = max(drop, 0)
			l.Good = slices.Delete(l.Good, drop, drop+1)
		}
		return nil
	})
}

func (s *Store) releases() string { return filepath.Join(s.path, "releases") }

// home is the directory of a release's copy.
func (s *Store) home(k *Kept) string { return filepath.Join(s.releases(), k.content()) }

// file is the copy of the release's own file.
func (s *Store) file(k *Kept) string {
	if k.Release.Root != "" {
		if rel, ok := (Tree{Root: k.Release.Root}).Within(k.Release.Real); ok {
			return filepath.Join(s.home(k), "tree", rel)
		}
	}
	return filepath.Join(s.home(k), "file", filepath.Base(k.Release.Real))
}

// copyIn makes the copy beside its place and renames it there once it is on the
// disk, so that a copy with a name is complete.
func (s *Store) copyIn(k *Kept, f *File, tree Tree, done <-chan struct{}) error {
	if s.intact(k, done) == nil {
		return nil // kept before, by this or another hotinit
	}
	if err := unix.Mkdir(s.releases(), 0o700); err != nil && err != unix.EEXIST {
		return fmt.Errorf("cannot make %s: %w", s.releases(), err)
	}
	temporary, err := os.MkdirTemp(s.releases(), ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	if k.Release.Root != "" {
		if _, err := tree.Copy(filepath.Join(temporary, "tree"), CopyOptions{Done: done}); err != nil {
			return err
		}
		d, err := tree.at(filepath.Join(temporary, "tree")).Digest(done)
		if err != nil {
			return err
		}
		if d != k.Release.Tree {
			return fmt.Errorf("%s is not any more as it was when it was started", k.Release.Root)
		}
	}
	if _, in := (Tree{Root: k.Release.Root}).Within(k.Release.Real); k.Release.Root == "" || !in {
		if err := keepFile(k, f, filepath.Join(temporary, "file"), done); err != nil {
			return err
		}
	}
	if err := syncTree(temporary); err != nil {
		return err
	}
	_ = os.RemoveAll(s.home(k)) // what is there is not intact
	return os.Rename(temporary, s.home(k))
}

func keepFile(k *Kept, f *File, dir string, done <-chan struct{}) error {
	if err := unix.Mkdir(dir, 0o700); err != nil {
		return err
	}
	fd, err := createFile(filepath.Join(dir, filepath.Base(k.Release.Real)))
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if unix.IoctlFileClone(fd, f.fd) != nil {
		if err := copyBytes(fd, f.fd, k.Release.Size); err != nil {
			return err
		}
	}
	giveAway(fd, f)
	r, err := openRetryAt(unix.AT_FDCWD, filepath.Join(dir, filepath.Base(k.Release.Real)), 0)
	if err != nil {
		return err
	}
	defer unix.Close(r)
	d, err := digest(r, done)
	if err == nil && d != k.Release.Digest {
		err = fmt.Errorf("%s is not any more as it was when it was started", k.Release.Path)
	}
	return err
}

// syncTree has all that was copied on the disk before its name is: else a power
// cut could leave a name that leads to empty files.
func syncTree(path string) error {
	fd, err := openRetryAt(unix.AT_FDCWD, path, unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Syncfs(fd)
}

// intact reports, by its error, why the copy of a release is not as it was.
func (s *Store) intact(k *Kept, done <-chan struct{}) error {
	if err := s.trusted(s.path); err != nil {
		return err
	}
	f, err := s.openFile(k)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Read(done); err != nil {
		return err
	}
	if f.Digest != k.Release.Digest {
		return errors.New("its copy was changed")
	}
	return nil
}

func (s *Store) openFile(k *Kept) (*File, error) {
	fd, err := openRetryAt(unix.AT_FDCWD, s.file(k), 0)
	if err != nil {
		return nil, &Reason{Text: "its copy cannot be opened: " + err.Error(), Err: err}
	}
	f := &File{Release: k.Release, fd: fd, local: true}
	if err := f.stat(); err != nil {
		f.Close()
		return nil, &Reason{Text: "its copy cannot be examined: " + err.Error(), Err: err}
	}
	if !f.regular() {
		f.Close()
		return nil, refuse("its copy is not a regular file")
	}
	return f, nil
}

// Hold opens the copy of a release's file, so that it is there still when a newer
// release has taken its place in the list. What it contains is for Prove to say.
func (s *Store) Hold(k *Kept) (*File, error) {
	f, err := s.openFile(k)
	if err != nil {
		return nil, err
	}
	f.Release = k.Release // the copy stands for the original: see Snapshot
	return f, nil
}

// Prove reports, by its error, why a file that Hold opened is not what was kept.
func (k *Kept) Prove(f *File, done <-chan struct{}) error {
	defer func() { f.Release = k.Release }()
	if err := f.stat(); err != nil {
		return &Reason{Text: "its copy cannot be examined: " + err.Error(), Err: err}
	}
	if err := f.Read(done); err != nil {
		return err
	}
	if f.Digest != k.Release.Digest {
		return refuse("its copy was changed")
	}
	return nil
}

// Open opens the copy of a release and proves that it is what was kept. like is how
// its tree was read. The tree that is returned is that of the copy; its Root is ""
// where only the file was kept. Nobody but
// hotinit may enter the state directory: what an app is to find by a path has to
// be copied elsewhere.
func (s *Store) Open(k *Kept, like Tree, done <-chan struct{}) (*File, Tree, error) {
	if err := s.trusted(s.path); err != nil {
		return nil, Tree{}, err
	}
	f, err := s.openFile(k)
	if err != nil {
		return nil, Tree{}, err
	}
	var tree Tree
	err = f.Read(done)
	if err == nil && f.Digest != k.Release.Digest {
		err = refuse("its copy was changed")
	}
	if err == nil && k.Release.Root != "" {
		tree = like.at(filepath.Join(s.home(k), "tree"))
		var d Digest
		if d, err = tree.Digest(done); err == nil && d != k.Release.Tree {
			err = refuse("its copy was changed, or other files are ignored now than when it was kept")
		}
	}
	if err != nil {
		f.Close()
		return nil, Tree{}, err
	}
	// The copy stands for the original: see Snapshot.
	f.Release = k.Release
	return f, tree, nil
}

// change changes the list, under the lock.
func (s *Store) change(f func(*List) error) error {
	if err := s.trusted(s.path); err != nil {
		return err
	}
	dir, err := openRetryAt(unix.AT_FDCWD, s.path, unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("cannot use the state directory %s: %w", s.path, err)
	}
	defer unix.Close(dir) // and with it the lock
	for until := time.Now().Add(lockWait); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(dir, unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EWOULDBLOCK && err != unix.EINTR || time.Now().After(until) {
			break
		}
	}
	l, err := s.List()
	if err != nil {
		l = List{} // what is not believed is replaced
	}
	if err := f(&l); err != nil {
		return err
	}
	b, err := l.Encode()
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", filepath.Join(s.path, listName), err)
	}
	if err := replace(dir, b); err != nil {
		return fmt.Errorf("cannot write %s: %w", filepath.Join(s.path, listName), err)
	}
	s.sweep(l)
	return nil
}

// replace writes the list so that it is there as a whole, old or new, also after
// a power cut.
func replace(dir int, b []byte) error {
	const temporary = listName + ".new"
	_ = unix.Unlinkat(dir, temporary, 0) // of one that was killed; this is under the lock
	fd, err := unix.Openat(dir, temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	for rest := b; len(rest) > 0 && err == nil; {
		var n int
		n, err = unix.Write(fd, rest)
		if err == unix.EINTR {
			err, n = nil, max(n, 0)
		}
		rest = rest[max(n, 0):]
	}
	if err == nil {
		err = unix.Fsync(fd)
	}
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	if err == nil {
		err = unix.Renameat(dir, temporary, dir, listName)
	}
	if err != nil {
		_ = unix.Unlinkat(dir, temporary, 0)
		return err
	}
	return unix.Fsync(dir)
}

// sweep removes the copies that the list does not name, and what a hotinit that
// was killed left unfinished.
func (s *Store) sweep(l List) {
	names, err := os.ReadDir(s.releases())
	if err != nil {
		return
	}
	for _, e := range names {
		path := filepath.Join(s.releases(), e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			if info, err := e.Info(); err != nil || time.Since(info.ModTime()) < stray {
				continue // of another hotinit, maybe, that got no lock
			}
		} else if slices.ContainsFunc(l.Good, func(k Kept) bool { return k.content() == e.Name() }) {
			continue
		}
		_ = os.RemoveAll(path)
	}
}
