package watch

import (
	"cmp"
	"hash/maphash"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/gitignore"
	"github.com/hotinit/hotinit/internal/release"
)

// A mark stands for one file or symbolic link of a tree, in 24 bytes. Names are
// kept as hashes: a tree may have a hundred thousand.
type mark struct {
	path    uint64
	stamp   uint64
	content uint64 // its hash but for the bit readFresh; 0: not read
}

// readFresh marks content that was read so shortly after a change that another
// one may have left the stamp as it is: it is read once more.
const readFresh = 1

// scan is the result of a sweep.
type scan struct {
	marks   []mark // sorted by path
	before  []mark // of a first sweep: what it was compared with, see Before
	sum     uint64 // of them
	changed int    // how many differ from before
	what    string // the first of them that is there
	added   bool   // directories are watched that were not
	written bool   // somebody has a changed file open for writing
	polled  bool
	err     error
}

// Content is compared for as many files as these, so that a touched file, or
// one written with the bytes it had, is no change. Of more, the stamps must do:
// reading all of a great tree at every start is no price for that.
const (
	maxRead      = 1 << 20 // of one file
	maxReadFiles = 1000
	maxReadBytes = 16 << 20
	maxWriters   = 256 // changed files that are asked whether somebody is writing
)

// seed is the process's own: marks are compared within it only. Making it
// allocates nothing.
var seed = maphash.MakeSeed()

// sweeper goes through a tree; it keeps nothing.
type sweeper struct {
	*extent
	command string // path of a file that has a watch of its own, "" for none
	apply   func([]need) (added bool, err error)
	poll    bool // told to poll everything
	stop    <-chan struct{}
}

// A walker is the state of one way through.
type walker struct {
	sweeper
	before  []mark
	first   bool
	out     scan
	known   int // of before, how many are still there
	needs   []need
	files   int // of which the content is known
	bytes   int64
	writers int
	buf     []byte
	dev     uint64
	skip    inode // what command leads to
}

func (s sweeper) sweep(q sweep) scan {
	added := false
	for range 8 { // each time a watch is new, what it missed must be seen
		w := &walker{sweeper: s, before: q.marks, first: q.first}
		w.out.marks = make([]mark, 0, len(q.marks))
		w.all()
		again, err := s.apply(w.needs)
		added = added || again
		if !again || s.stopped() {
			w.out.added, w.out.err = added, err
			w.out.polled = w.out.polled || s.poll || err != nil
			w.finish()
			return w.out
		}
	}
	// It changes faster than it can be watched. Say so; the loop comes back.
	return scan{marks: q.marks, changed: 1, what: s.base, added: true}
}

func (s sweeper) stopped() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// finish sorts what was found and counts what is gone.
func (w *walker) finish() {
	slices.SortFunc(w.out.marks, func(a, b mark) int { return cmp.Compare(a.path, b.path) })
	for _, m := range w.out.marks {
		m.content &^= readFresh
		w.out.sum ^= maphash.Comparable(seed, m)
	}
	if !w.first {
		w.out.changed += len(w.before) - w.known
	}
}

func (w *walker) all() {
	r := walk(w.base)
	w.needs = r.needs
	w.out.polled = r.remote
	if w.command != "" {
		st := release.StatStamp(w.command)
		w.skip = inode{st.Dev, st.Ino}
	}
	switch r.file.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		w.dev = r.file.Dev
		w.directory(r.real, "", inode{r.file.Dev, r.file.Ino})
	case unix.S_IFREG:
		w.needs = append(w.needs, need{path: r.real, inode: inode{r.file.Dev, r.file.Ino}, role: roleFile})
		fallthrough
	default:
		if r.file != (release.Stamp{}) && w.globs == nil {
			w.file(r.real, "", r.file)
		}
	}
}

// directory goes through one directory. Symbolic links to directories are not entered;
// where they lead counts as their content.
func (w *walker) directory(path, rel string, at inode) {
	w.needs = append(w.needs, need{path: path, inode: at, name: rel, role: roleTree})
	// What was a directory may be a FIFO or a link by now.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return // removed meanwhile, or not ours to read: nothing of it is known
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	for {
		entries, err := f.ReadDir(128)
		for _, e := range entries {
			w.entry(path, rel, e)
		}
		if err != nil || w.stopped() {
			return
		}
	}
}

func (w *walker) entry(dir, dirRel string, e os.DirEntry) {
	rel := join(dirRel, e.Name())
	if w.ignore.Match(rel, e.IsDir()) {
		return
	}
	held := w.holds(rel)
	if !held && !(e.IsDir() && gitignore.Leads(w.globs, rel)) {
		return
	}
	path := filepath.Join(dir, e.Name())
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if uint64(st.Dev) != w.dev {
			w.out.polled = w.out.polled || remotePath(path)
		}
		if held {
			// A directory counts by being there: its times change with each
			// ignored file in it.
			w.add(mark{path: maphash.String(seed, rel), stamp: 1}, path)
		}
		w.directory(path, rel, inode{uint64(st.Dev), st.Ino})
	case unix.S_IFLNK:
		w.link(path, rel)
	case unix.S_IFREG:
		w.file(path, rel, release.StampOf(&st))
	}
	// Sockets, FIFOs and devices come and go with who uses them.
}

func (w *walker) link(path, rel string) {
	target, _ := readlink(path)
	st := release.StatStamp(path) // of what it leads to
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		w.file(path, rel, st)
		return
	}
	w.add(mark{path: maphash.String(seed, rel), stamp: maphash.String(seed, target)}, path)
}

// file marks a file, reading it where that is affordable.
func (w *walker) file(path, rel string, st release.Stamp) {
	if w.skip != (inode{}) && w.skip == (inode{st.Dev, st.Ino}) {
		return
	}
	// Neither owner nor mode nor the time of their change: chmod is no change.
	m := mark{
		path:  maphash.String(seed, rel),
		stamp: maphash.Comparable(seed, release.Stamp{Dev: st.Dev, Ino: st.Ino, Size: st.Size, MTime: st.MTime, Mode: st.Mode & unix.S_IFMT}),
	}
	old, known := w.old(m.path)
	unmodified := known && old.stamp == m.stamp
	fresh := isFresh(st, w.out.polled)
	if unmodified && (old.content == 0 || !fresh && old.content&readFresh == 0) {
		m.content = old.content
	} else if st.Mode&unix.S_IFMT == unix.S_IFREG {
		if st.Size <= maxRead && w.files < maxReadFiles && w.bytes+st.Size <= maxReadBytes {
			m.content = w.read(path)
			if m.content != 0 && fresh {
				m.content |= readFresh
			}
		}
	}
	if m.content != 0 {
		w.files++
		w.bytes += st.Size
	}
	w.add(m, path)
}

// add compares a mark with the one before.
func (w *walker) add(m mark, path string) {
	w.out.marks = append(w.out.marks, m)
	old, known := w.old(m.path)
	if known {
		w.known++
	}
	if w.first || known && old.same(m) {
		return
	}
	w.out.changed++
	if w.out.what == "" {
		w.out.what = path
	}
	if w.writers < maxWriters && !w.out.written {
		w.writers++
		w.out.written = openForWriting(path)
	}
}

func (m mark) same(o mark) bool {
	if m.content != 0 && o.content != 0 {
		return m.content|readFresh == o.content|readFresh
	}
	return m.stamp == o.stamp
}

func (w *walker) old(path uint64) (mark, bool) {
	i, ok := slices.BinarySearchFunc(w.before, path, func(m mark, p uint64) int { return cmp.Compare(m.path, p) })
	if !ok {
		return mark{}, false
	}
	return w.before[i], true
}

// read is the hash of a small file's content without the bit readFresh, 0 where
// it cannot be read.
func (w *walker) read(path string) uint64 {
	fd, err := release.OpenRetry(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	if w.buf == nil {
		w.buf = make([]byte, 32<<10)
	}
	var h maphash.Hash
	h.SetSeed(seed)
	for off := int64(0); off <= maxRead; {
		n, err := release.ReaderAt(fd).ReadAt(w.buf, off)
		h.Write(w.buf[:n])
		off += int64(n)
		if err == io.EOF {
			return max(h.Sum64()&^readFresh, 2)
		}
		if err != nil {
			return 0
		}
	}
	return 0 // it grew
}

// openForWriting reports whether somebody is known to be writing a file.
func openForWriting(path string) bool {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false
	}
	f, err := release.OpenUnchecked(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return f.Writer() == release.WriterOpen
}
