package handoff

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/release"
)

// The state directory is read before the first generation is started, since it
// decides which release that is. It may be on a file system that hangs, so it is
// read beside the loop, and only for so long: the app is started in any case.
const (
	// answerWithin bounds the list and the files of what was kept.
	answerWithin = 3 * time.Second
	// openWithin bounds the copying of a kept release, which may be large.
	openWithin = time.Minute
)

// memories are what the state directory knows.
type memories struct {
	store *release.Store
	err   error // there is no list, or no store
	list  release.List
	held  map[string]*heldRelease // the copies of the good releases, open
}

// recallApp is recall for the command line's app, before the loop runs. Where the app is
// not started yet, that follows once the state directory is read.
func (s *starts) recallApp() {
	boots := s.engine.first.Kind == machine.Boot
	if s.recall(boots) && boots {
		s.engine.first = machine.Event{Kind: machine.Noted}
	}
}

// recall reads the state directory, if there is one. With boots the program is started
// once it is read.
func (s *starts) recall(boots bool) bool {
	if s.cfg.StateDir == "" {
		return false
	}
	path, settings, above := s.fromStart(s.cfg.StateDir), s.plan.hash, s.storesAbove()
	if s.member {
		path = filepath.Join(filepath.Dir(path), s.name) // each instance has its own
	}
	read := make(chan *memories, 1)
	go func() { read <- readMemories(path, above, settings) }()
	go func() {
		var m *memories
		select {
		case m = <-read:
		case <-time.After(answerWithin):
			if s.cfg.NoDowngrade {
				s.line("the state directory %s does not answer within %v; it knows what may not be started (--no-downgrade), so it is waited for", path, answerWithin)
				m = <-read
				break
			}
			s.line("the state directory %s does not answer within %v; the newest release is started, whatever became of it before", path, answerWithin)
			if boots {
				s.engine.do(func() { s.boot(machine.Event{Kind: machine.Boot}) })
				boots = false
			}
			m = <-read
		}
		switch {
		case m.store == nil:
			s.releases.memory.say("%v; after a restart hotinit will start the newest release, whatever became of it", m.err)
		case m.err != nil:
			s.releases.memory.say("%v; hotinit begins a new list: it does not know what was rejected before", m.err)
		}
		var newest *release.File
		if boots && len(m.list.Rejected) > 0 {
			newest = s.newestInTime()
			if newest != nil && m.list.RejectedAs(newest.Name()) != nil {
				s.openLast(m)
			}
		}
		s.engine.do(func() {
			s.remember(m)
			if !boots {
				s.engine.record()
				return
			}
			ev := machine.Event{Kind: machine.Boot}
			if newest != nil {
				ev.Release = newest.Name()
				s.releases.saw(newest.Release)
				if s.engine.state.Rejection(ev.Release) != nil {
					now := newest.Release
					s.releases.passedOver = &now
				}
				s.releases.withdraw()
				s.releases.offered = newest // for the first start, or nobody
			}
			s.boot(ev)
		})
	}()
	return true
}

// storesAbove is how many directories of hotinit's own a program's state directory is in:
// that of programs/NAME below --state-dir is in two.
func (c *common) storesAbove() int {
	if c.member {
		return 2
	}
	return 0
}

// readMemories reads the state directory. What a program was good with it is started
// with the settings that it has now.
func readMemories(path string, above int, settings string) *memories {
	m := &memories{held: make(map[string]*heldRelease)}
	if m.store, m.err = release.OpenStore(path, above); m.err != nil {
		return m
	}
	m.list, m.err = m.store.List()
	for i := range m.list.Good {
		k := &m.list.Good[i]
		f, err := m.store.Hold(k)
		k.Release.Settings = settings
		if err == nil {
			f.Settings = settings
			m.held[k.Name()] = &heldRelease{file: f, path: k.Release.Path, command: k.Command, origin: k.Command,
				kept: true, since: k.Since, read: true, done: true}
		}
	}
	return m
}

// remember tells the machine what the state directory knows. It runs in the loop.
func (s *starts) remember(m *memories) {
	mem := s.releases.memory
	mem.store = m.store
	s.resumeSigned(m.list.Signed)
	for _, k := range slices.Backward(m.list.Good) {
		name := k.Name()
		r := m.held[name]
		if r == nil {
			continue // it cannot be started; a generation of it would keep it again
		}
		if m.list.RejectedAs(name) == nil {
			mem.good = append(mem.good, name)
		}
		if s.releases.held[name] != nil {
			r.file.CloseBeside()
		} else {
			s.releases.hold(name, r)
		}
		s.engine.apply(machine.Event{Kind: machine.Recalled, Release: name})
	}
	for _, r := range slices.Backward(m.list.Rejected) {
		mem.bad = append(mem.bad, r.Name)
		s.engine.apply(machine.Event{Kind: machine.Recalled, Release: r.Name, Reason: why(r), ByHand: r.ByHand})
	}
}

// newestInTime is newest where file systems may not answer: nil then.
func (s *starts) newestInTime() *release.File {
	found := make(chan *release.File, 1)
	go func() { found <- s.newest(nil) }()
	select {
	case f := <-found:
		return f
	case <-time.After(openWithin):
		go func() { (<-found).Close() }()
		return nil
	}
}

// newest opens what the command leads to and reads it, as a first start would, so
// that it has its name. It returns nil where it has none; the start says why.
func (s *starts) newest(done <-chan struct{}) *release.File {
	j := &job{n: 1, source: machine.Newest, script: -1, cancel: make(chan struct{})}
	if s.resolve(j) != nil || !s.checked(j) {
		return nil
	}
	f, err := release.Open(s.target(j), release.CheckOptions{As: s.credential(), NoExec: j.script >= 0, KernelDecides: true, Done: done})
	if err != nil {
		return nil
	}
	if s.trust != nil && !s.signedAsTree(s.target(j)) {
		_ = f.LoadSignature() // it is in the name; the start says what is wrong with it
	}
	f.Settings = s.plan.hash
	if tree, ok := s.tree(); ok {
		f.Root = tree.Root
		if f.Tree, err = tree.Digest(done); err != nil {
			f.Close()
			return nil
		}
	}
	return f
}

// openLast proves the last good release, which is to be started, and opens what a
// generation of it executes. Where it cannot be started it is not good, and the
// one before it is tried.
func (s *starts) openLast(m *memories) {
	for _, k := range slices.Backward(m.list.Good) {
		name := k.Name()
		r := m.held[name]
		if r == nil || m.list.RejectedAs(name) != nil {
			continue
		}
		done := make(chan struct{})
		timer := time.AfterFunc(openWithin, func() { close(done) })
		opened, err := s.openKept(m.store, r, r.file, done)
		timer.Stop()
		if err == nil {
			r.file.Close()
			m.held[name] = opened
			return
		}
		s.line("release %s, which was kept in the state directory, cannot be started: %v", machine.Short(name), err)
		r.file.Close()
		delete(m.held, name)
	}
}

// isKept reports whether a release is one of which only the copy in the state
// directory is open.
func (s *releases) isKept(key string) bool {
	r := s.held[key]
	return r != nil && r.kept
}

// take puts what was proven of a kept release in its place. It runs in the loop.
func (s *releases) take(j *job) {
	if j.proven == nil {
		return
	}
	if old := s.held[j.key]; old != nil {
		old.file.CloseBeside()
		delete(s.held, j.key)
	}
	s.hold(j.key, j.proven)
	j.verified = s.trust != nil // by openKept
	j.file, j.copy, j.proven = j.proven.file, j.proven.copy, nil
}

// proveKept returns what proves a kept release, beside the loop, which may close
// the file meanwhile: it works on a descriptor of its own.
func (s *starts) proveKept(r *heldRelease) (func(<-chan struct{}) (*heldRelease, error), error) {
	var own *release.File // of the copy
	if r.kept {
		fd, err := unix.FcntlInt(uintptr(r.file.FD()), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		own = release.Resume(r.file.Release, fd)
	}
	store, name := s.releases.memory.store, r.file.Name()
	return func(done <-chan struct{}) (*heldRelease, error) {
		defer own.Close()
		opened, err := s.openKept(store, r, own, done)
		if err != nil {
			return nil, &refusal{exitcode.Failure, fmt.Sprintf("release %s, which was kept in the state directory, cannot be started: %v", machine.Short(name), err)}
		}
		return opened, nil
	}, nil
}

// openKept proves a release that was kept, and opens what a generation of it
// executes: the file where it was, if that is as it was, or else the copy. held is
// the copy's file.
func (s *starts) openKept(store *release.Store, r *heldRelease, held *release.File, done <-chan struct{}) (*heldRelease, error) {
	k := release.Kept{Release: r.file.Release, Command: r.origin, Script: r.origin.Path != r.file.Real}
	opened := &heldRelease{path: r.path, command: r.origin, origin: r.origin, since: r.since, read: true, done: true}
	if s.trust == nil {
		if opened.file = s.inPlace(&k, done); opened.file != nil {
			return opened, nil
		}
	}
	// A program by itself is executed by its descriptor.
	program := k.Release.Root == "" && !k.Script && k.Release.Kind == release.KindELF
	if program && r.kept && k.Prove(held, done) == nil {
		fd, err := unix.FcntlInt(uintptr(held.FD()), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		opened.file = release.Resume(k.Release, fd)
		return opened, s.verifyKept(opened, done)
	}
	if store == nil {
		return nil, errors.New("the state directory does not answer")
	}
	f, tree, err := store.Open(&k, s.treeAt(""), done)
	if err != nil {
		return nil, err
	}
	if program {
		opened.file = f
		return opened, s.verifyKept(opened, done)
	}
	defer f.Close()
	// What is found by its path has to be copied: the app may not enter the state
	// directory.
	p, err := s.makePrivate(!k.Script || k.Release.Root != "" && k.Command.ExecutesIn(k.Release.Root))
	if err != nil {
		return nil, err
	}
	moves, path, err := copyKept(&k, f, tree, p, release.CopyOptions{Done: done, Own: s.own()})
	if err == nil {
		opened.file, err = f.InCopy(path, done)
	}
	if err != nil {
		p.Remove()
		return nil, err
	}
	opened.command, opened.copy = k.Command.Move(moves), p
	return opened, s.verifyKept(opened, done)
}

// inPlace opens a kept release where it was, nil where it is not any more as it was.
func (s *starts) inPlace(k *release.Kept, done <-chan struct{}) *release.File {
	f, err := release.Open(k.Release.Real, release.CheckOptions{NoExec: k.Script, As: s.credential(), Done: done, KernelDecides: true})
	if err != nil {
		return nil
	}
	same := f.Digest == k.Release.Digest && f.Real == k.Release.Real
	if same && k.Release.Root != "" {
		d, err := s.treeAt(k.Release.Root).Digest(done)
		same = err == nil && d == k.Release.Tree
	}
	if !same {
		f.Close()
		return nil
	}
	f.Path, f.Root, f.Tree, f.Settings = k.Release.Path, k.Release.Root, k.Release.Tree, k.Release.Settings
	return f
}

// copyKept copies what the state directory has of a release to a private
// directory. It returns where the file is there, and what of the command moves.
func copyKept(k *release.Kept, f *release.File, tree release.Tree, p *release.Private, o release.CopyOptions) (moves []release.Move, path string, err error) {
	if tree.Root != "" {
		copied, d, err := release.CopyTree(tree, p, o)
		if err == nil && d != k.Release.Tree {
			err = release.ErrTorn
		}
		if err != nil {
			return nil, "", err
		}
		moves = append(moves, release.Move{From: k.Release.Root, To: copied.Root})
		if rel, ok := (release.Tree{Root: k.Release.Root}).Within(k.Release.Real); ok {
			return moves, filepath.Join(copied.Root, rel), nil
		}
	}
	if path, err = f.CopyFile(p, o.Done); err != nil {
		return nil, "", err
	}
	return append(moves, release.Move{From: k.Release.Real, To: path}), path, nil
}
