package handoff

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/fault"
	"github.com/hotinit/hotinit/internal/kernel"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/release"
	"github.com/hotinit/hotinit/internal/watch"
)

// heldRelease is a release that is held open.
type heldRelease struct {
	file *release.File
	path string // as the command line leads to it

	// command is what a generation of it executes. Its paths are resolved, so
	// that a rollback leads into the directory that it was started from.
	command release.Command

	// origin is the command without a private copy, and copy the directory with
	// that copy, nil where there is none (--snapshot).
	origin release.Command
	copy   *release.Private

	// kept: file is the copy in the state directory, open so that it cannot go, and
	// not proven. See openKept.
	kept  bool
	since time.Time // when it was last seen to be good, by a hotinit before this one

	read bool // its content was read, or cannot be, or is being read
	done bool // and that is over
}

// releases are the releases of a program that run or may run again, and the
// watch for a new one.
type releases struct {
	*common
	held     map[string]*heldRelease
	memory   *memory
	watcher  *watch.Watcher                                  // nil: nothing is watched (yet)
	watching int                                             // counts the watches that were ended
	settings func() string                                   // names the settings that the next generation gets
	newest   func() func(done <-chan struct{}) *release.File // as starts has it, for the next generation
	watches  bool                                            // there is a watcher, or will be
	paths    []string                                        // what it watches, for the line at the start
	offered  *release.File                                   // what the watcher has found, until a start takes it
	naming   chan struct{}                                   // closed where the name of what it has found is not waited for; nil: none is
	watched  string                                          // the release that the watcher compares with

	lies    release.Release // the file that was found at the command's path last
	looked  *watch.Before   // what was at the watched paths before the last start
	started *plan           // of that start

	// passedOver is the release that the command's path led to when another one was
	// started in its place.
	passedOver *release.Release
}

// doubtful reports whether the kernel runs what the check of ELF files would
// refuse, as it has shown with a release that is held: so further ones may pass.
func (s *releases) doubtful() bool {
	for _, r := range s.held {
		if r.file != nil && r.file.Kind == release.KindDoubtful {
			return true
		}
	}
	return false
}

// runs reports whether a held release has this content, whatever its settings.
func (s *releases) runs(name string, content release.Release) bool {
	r := s.held[name]
	return r != nil && r.file != nil && content.Same(r.file.Release)
}

// nameOf returns the name of a held file, which may have got its name after it
// was asked for as key.
func (s *releases) nameOf(f *release.File, key string) string {
	for name, r := range s.held {
		if r.file == f {
			return name
		}
	}
	return key
}

// hold keeps a release open from now on, and makes init keep it, too. The same
// content in another file is not held twice: what is known about it stays known.
// A file of which more is known than of one that was kept takes its place.
func (s *releases) hold(key string, r *heldRelease) {
	if old := s.held[key]; key == "" || old != nil && !old.kept {
		return
	} else if old != nil {
		old.file.CloseBeside()
	}
	s.held[key] = r
	_ = s.kept.keep(releaseName(key), r.file.FD())
	if r.copy != nil {
		_ = s.kept.keep(copyName(key), r.copy.FD)
	}
}

// giveBack closes a file that was checked, unless it is held: then letGo does.
func (s *releases) giveBack(f *release.File) {
	if r := s.held[f.Name()]; r == nil || r.file != f {
		f.CloseBeside()
	}
}

func releaseName(key string) string { return "release/" + key }

func copyName(key string) string { return "copy/" + key }

// before returns the newest private copy of the watched directory, "" for none.
func (s *releases) before() string {
	for i := len(s.engine.state.Gens) - 1; i >= 0; i-- {
		if r := s.held[s.engine.state.Gens[i].Release]; r != nil && r.copy != nil {
			return filepath.Join(r.copy.Path, "tree")
		}
	}
	return ""
}

// copies reports whether there are private copies of directories.
func (s *releases) copies() bool {
	for _, r := range s.held {
		if r.copy != nil {
			return true
		}
	}
	return false
}

// removeCopies removes the private copies of directories.
func (s *releases) removeCopies() {
	for _, r := range s.held {
		r.copy.Remove()
	}
}

// takeOffered returns what the watcher has opened and checked for path, if
// that is what path leads to still: now. It is the caller's from then on.
func (s *releases) takeOffered(path string, now *unix.Stat_t) *release.File {
	f := s.offered
	s.offered = nil
	if f != nil && (f.Path != path || now == nil || !isFile(now, f) || !asWas(now, f)) {
		f.CloseBeside()
		return nil
	}
	return f
}

// withdraw closes what the watcher has found, where no start will take it.
func (s *releases) withdraw() {
	if s.offered != nil {
		s.offered.CloseBeside()
		s.offered = nil
	}
}

// leadsTo reports whether path leads to the file that was checked.
func leadsTo(path string, f *release.File) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && isFile(&st, f)
}

// unmodified reports whether path leads to the file that was checked, and
// nobody has written to it since.
func unmodified(path string, f *release.File) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && isFile(&st, f) && asWas(&st, f)
}

func isFile(st *unix.Stat_t, f *release.File) bool {
	return uint64(st.Dev) == f.Dev && st.Ino == f.Ino
}

// statx is replaced by tests.
var statx = unix.Statx

// statCached is stat(2) that asks no server, where the file is a process's own.
func statCached(path string, st *unix.Stat_t) error {
	var x unix.Statx_t
	if err := statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, unix.STATX_BASIC_STATS, &x); err != nil {
		if kernel.Missing(err) { // Linux 4.11 has statx(2)
			return unix.Stat(path, st)
		}
		return err
	}
	st.Dev, st.Ino, st.Size = unix.Mkdev(x.Dev_major, x.Dev_minor), x.Ino, int64(x.Size)
	st.Mtim = unix.NsecToTimespec(x.Mtime.Sec*1e9 + int64(x.Mtime.Nsec))
	st.Ctim = unix.NsecToTimespec(x.Ctime.Sec*1e9 + int64(x.Ctime.Nsec))
	return nil
}

// asWas reports whether nobody has written to a file since it was checked. Whoever
// writes to it can put its mtime back, but not its ctime. That changes with its names
// and its mode as well: then the file is read again.
func asWas(st *unix.Stat_t, f *release.File) bool {
	return st.Size == f.Size && st.Mtim.Nano() == f.MTime && (!f.Local() || st.Ctim.Nano() == f.CTime)
}

// copied reports whether a release is a private copy (--snapshot). It stands for
// the file that it was copied from, under whose numbers it goes.
func copied(f *release.File) bool {
	var st unix.Stat_t
	return f != nil && unix.Fstat(f.FD(), &st) == nil && (uint64(st.Dev) != f.Dev || st.Ino != f.Ino)
}

// intact reports whether a held file is unmodified, wherever it is by now.
func intact(f *release.File) bool {
	var st unix.Stat_t
	return copied(f) || unix.Fstat(f.FD(), &st) == nil && asWas(&st, f)
}

// reread returns what a held file contains now. It works on a descriptor of
// its own, for it runs beside the loop, which may close the file.
// counts, where it is not nil, says what belongs to the release's directory, which
// is read as well.
func reread(f *release.File, counts func(string, bool) bool) (read func(done <-chan struct{}) (release.Release, error), err error) {
	fd, err := unix.FcntlInt(uintptr(f.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return func(done <-chan struct{}) (release.Release, error) {
		own := release.Resume(f.Release, fd)
		defer own.Close()
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return release.Release{}, err
		}
		own.Size, own.MTime, own.CTime = st.Size, st.Mtim.Nano(), st.Ctim.Nano()
		err := own.Read(done)
		if err == nil && own.Root != "" && counts != nil {
			own.Tree, err = release.Tree{Root: own.Root, Counts: counts}.Digest(done)
		}
		return own.Release, err
	}, nil
}

// readLater reads the content of releases that were started without, so that
// the first generation need not wait for it. Once it is known, they are named
// by it, and only then the watcher can tell what is new.
func (s *releases) readLater() {
	if s.watches && s.watcher == nil {
		return // the watch begins soon, see watchAfter, and calls this
	}
	for key, r := range s.held {
		if r.read {
			continue
		}
		r.read = true
		if r.file.Digest.Known() && (r.file.Root == "" || r.file.Tree.Known()) {
			r.done = true
			continue
		}
		file, before := r.file, r.file.Release
		read, err := reread(file, s.counts())
		if err != nil {
			r.done = true
			continue
		}
		go func() {
			now, err := read(nil)
			if err == nil && (now.Size != before.Size || now.MTime != before.MTime) {
				err = fmt.Errorf("it changed meanwhile")
			}
			s.engine.do(func() {
				if s.held[key] != r {
					return // nobody needs it any more
				}
				r.done = true
				if err == nil && r.file == file {
					s.rename(key, now)
					return
				}
				s.engine.record()
			})
		}()
	}
}

// rename names a release by its content, everywhere.
func (s *releases) rename(key string, now release.Release) {
	r := s.held[key]
	r.file.Digest, r.file.Tree = now.Digest, now.Tree
	name := r.file.Name()
	if old := s.held[name]; old == nil || old.kept {
		if old != nil {
			old.file.CloseBeside()
		}
		s.held[name] = r
		_ = s.kept.keep(releaseName(name), r.file.FD())
	} else {
		r.file.CloseBeside() // the same content was started since, from a newer file
	}
	delete(s.held, key)
	_ = fault.At("effect", "after", "rename")
	s.engine.act(machine.Event{Kind: machine.Renamed, Release: key, Name: name})
	// Until the record has the new name, the next handoff finds it by the old one.
	s.kept.drop(releaseName(key))
}

// tellWatcher tells the watcher what runs, whenever that is another release
// than before: a start, a rejection, a rollback. So what is there already is
// no news to it, and what was put back is none either.
func (s *releases) tellWatcher(st machine.State) {
	if s.watcher == nil {
		return
	}
	for i := len(st.Gens) - 1; i >= 0; i-- {
		g := st.Gens[i]
		switch g.Phase {
		case machine.Preparing:
			return // it is not known yet
		case machine.Candidate, machine.Current:
			r := s.held[g.Release]
			if r != nil && r.done && g.Release != s.watched {
				s.watched = g.Release
				now := r.file.Release
				if s.passedOver != nil {
					s.watcher.Running(fileOnly(*s.passedOver)) // it is no news
					s.passedOver = nil
				}
				s.watcher.Running(fileOnly(now))
			}
			return
		}
	}
}

// fileOnly is a release without its directory, as the watcher knows it.
func fileOnly(r release.Release) release.Release {
	r.Root, r.Tree, r.Settings = "", release.Digest{}, ""
	return r
}

// letGo closes the releases that no state can lead back to, and tells the watcher
// which one runs.
func (s *releases) letGo(st machine.State) {
	if !st.Again {
		s.withdraw()
	}
	needed := st.Releases()
	for key, r := range s.held {
		if slices.Contains(needed, key) {
			continue
		}
		s.kept.drop(releaseName(key))
		r.file.CloseBeside()
		if r.copy != nil {
			s.kept.drop(copyName(key))
			go r.copy.Remove()
		}
		delete(s.held, key)
	}
	s.readLater()
	s.tellWatcher(st)
}
