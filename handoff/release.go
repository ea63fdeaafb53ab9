package handoff

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/release"
)

// heldRelease is a release that is held open.
type heldRelease struct {
	file *release.File
	path string // as the command line leads to it

	// command is what a generation of it executes. Its paths are resolved, so
	// that a rollback leads into the directory that it was started from.
	command release.Command

	read bool // its content was read, or cannot be, or is being read
	done bool // and that is over
}

// keyOf names the release of a job.
func (s *supervisor) keyOf(j *job) string {
	if j.file == nil {
		return ""
	}
	if j.source == machine.Held {
		for key, r := range s.releases { // it may have got its name since
			if r.file == j.file {
				return key
			}
		}
		return j.key
	}
	return j.file.Name()
}

func releaseName(key string) string { return "release/" + key }

// hold keeps a release open from now on, also by init. The same content in
// another file is not held twice: what is known of it stays known.
func (s *supervisor) hold(key string, j *job) {
	if key == "" || j.source == machine.Held || s.releases[key] != nil {
		return
	}
	s.releases[key] = &heldRelease{file: j.file, path: s.target(j), command: j.command}
	_ = s.link.keep(releaseName(key), j.file.FD())
}

// putBack closes what a job has checked, unless it is held: then letGo does.
func (s *supervisor) putBack(j *job) {
	if j.file == nil || j.source == machine.Held {
		return
	}
	if r := s.releases[s.keyOf(j)]; r == nil || r.file != j.file {
		j.file.Close()
	}
	j.file = nil
}

// takeOffered returns what the watcher has opened and checked for path, if
// that is what path leads to still. It is the caller's from then on.
func (s *supervisor) takeOffered(path string) *release.File {
	f := s.offered
	s.offered = nil
	if f != nil && (f.Path != path || !unmodified(path, f)) {
		f.Close()
		return nil
	}
	return f
}

// withdraw closes what the watcher has found, where no start will take it.
func (s *supervisor) withdraw() {
	if s.offered != nil {
		s.offered.Close()
		s.offered = nil
	}
}

// leadsTo tells whether path leads to the file that was checked.
func leadsTo(path string, f *release.File) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && uint64(st.Dev) == f.Dev && st.Ino == f.Ino
}

// unmodified tells whether path leads to the file that was checked, and
// nobody has written to it since.
func unmodified(path string, f *release.File) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && uint64(st.Dev) == f.Dev && st.Ino == f.Ino && asWas(&st, f)
}

func asWas(st *unix.Stat_t, f *release.File) bool {
	return st.Size == f.Size && st.Mtim.Nano() == f.MTime
}

// copied tells whether a release is a private copy (--snapshot). It stands for
// the file that it was copied from, under whose numbers it goes.
func copied(f *release.File) bool {
	var st unix.Stat_t
	return f != nil && unix.Fstat(f.FD(), &st) == nil && (uint64(st.Dev) != f.Dev || st.Ino != f.Ino)
}

// intact tells whether a held file is unmodified, wherever it is by now.
func intact(f *release.File) bool {
	var st unix.Stat_t
	return copied(f) || unix.Fstat(f.FD(), &st) == nil && asWas(&st, f)
}

// reread returns what a held file contains now. It works on a descriptor of
// its own, for it runs beside the loop, which may close the file.
func reread(f *release.File) (read func(done <-chan struct{}) (release.Release, error), err error) {
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
		own.Size, own.MTime = st.Size, st.Mtim.Nano()
		return own.Release, own.Read(done)
	}, nil
}

// readLater reads the content of releases that were started without, so that
// the first generation need not wait for it. Once it is known, they are named
// by it, and only then the watcher can tell what is new.
func (s *supervisor) readLater() {
	for key, r := range s.releases {
		if r.read {
			continue
		}
		r.read = true
		if r.file.Digest.Known() {
			r.done = true
			continue
		}
		file, before := r.file, r.file.Release
		read, err := reread(file)
		if err != nil {
			r.done = true
			continue
		}
		go func() {
			now, err := read(nil)
			if err == nil && (now.Size != before.Size || now.MTime != before.MTime) {
				err = fmt.Errorf("it changed meanwhile")
			}
			s.loop.inputs <- input{call: func() {
				if s.releases[key] != r {
					return // nobody needs it any more
				}
				r.done = true
				if err == nil && r.file == file {
					s.rename(key, now.Digest)
				}
				s.record(s.loop.state, s.loop.seq)
			}}
		}()
	}
}

// rename names a release by its content, everywhere.
func (s *supervisor) rename(key string, d release.Digest) {
	r := s.releases[key]
	r.file.Digest = d
	name := r.file.Name()
	if s.releases[name] == nil {
		s.releases[name] = r
		_ = s.link.keep(releaseName(name), r.file.FD())
	} else {
		r.file.Close() // the same content was started since, from a newer file
	}
	delete(s.releases, key)
	s.link.drop(releaseName(key))
	s.loop.state.Rename(key, name)
}

// tellWatcher tells the watcher what runs, whenever that is another release
// than before: a start, a rejection, a rollback. So what is there already is
// no news to it, and what was put back is none either.
func (s *supervisor) tellWatcher(st machine.State) {
	if s.watcher == nil {
		return
	}
	for i := len(st.Gens) - 1; i >= 0; i-- {
		g := st.Gens[i]
		switch g.Phase {
		case machine.Preparing:
			return // it is not known yet
		case machine.Candidate, machine.Current:
			r := s.releases[g.Release]
			if r != nil && r.done && g.Release != s.told {
				s.told = g.Release
				s.watcher.Running(r.file.Release)
			}
			return
		}
	}
}

// stillGood tells why a held release can't be started any more, if so: where
// it was overwritten in place, it is not what was good.
func (s *supervisor) stillGood(j *job, read func(<-chan struct{}) (release.Release, error)) error {
	now, err := read(j.cancel)
	if err == nil && now.Digest != j.file.Digest {
		err = fmt.Errorf("its file was overwritten in place (deploy by renaming, or use --snapshot)")
	}
	if err != nil {
		return &refusal{exitcode.Failure, fmt.Sprintf("the last good release of %s cannot be started again: %v", j.file.Path, err)}
	}
	return nil
}
