package handoff

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/gitignore"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/release"
	"github.com/hotinit/hotinit/internal/say"
)

// memory is what a program's releases came to, for as long as --state-dir lives.
// The loop tells it what the state says (learn), and one goroutine at a time
// writes that down. What it knew at the start decides the first start: see instead.
type memory struct {
	*common
	store *release.Store // nil: nothing outlives the container

	mu       sync.Mutex
	rejected map[string]release.Rejected // by name, as of the start and since
	work     []func() error
	busy     bool
	said     map[string]bool

	// What was learnt already. The loop's own.
	good []string
	bad  []string
}

// open opens the state directory. Without it the app runs all the same.
func (m *memory) open(resumed bool) {
	m.rejected, m.said = make(map[string]release.Rejected), make(map[string]bool)
	if m.cfg.StateDir == "" {
		return
	}
	store, err := release.OpenStore(m.fromStart(m.cfg.StateDir))
	if err != nil {
		m.say("%v; after a restart hotinit will start the newest release, whatever became of it", err)
		return
	}
	m.store = store
	list, err := store.List()
	if err != nil && !resumed {
		m.say("%v; hotinit begins a new list: it does not know what was rejected before", err)
	}
	for _, r := range list.Rejected {
		m.rejected[r.Name] = r
	}
}

func (m *memory) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	m.mu.Lock()
	said := m.said[text]
	m.said[text] = true
	m.mu.Unlock()
	if !said {
		say.Line("%s", text)
	}
}

// rejects reports whether anything was rejected before.
func (m *memory) rejects() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.rejected) > 0
}

func (m *memory) rejection(name string) (release.Rejected, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.rejected[name]
	return r, ok
}

// why says why a release was rejected.
func why(r release.Rejected) string {
	reason := r.Reason
	if r.ByHand {
		reason = "it was rolled back by hand"
	}
	if r.Since.IsZero() {
		return reason
	}
	return fmt.Sprintf("%s, on %s", reason, r.Since.Local().Format("2006-01-02 15:04:05"))
}

// refuses reports whether new content was rejected before, and says so.
func (m *memory) refuses(name, path string) bool {
	r, ok := m.rejection(name)
	if ok {
		say.Note("%s: release %.12s was rejected before (%s) and is not started; `hotinit reload` starts it all the same", path, name, why(r))
	}
	return ok
}

// learn notes what a state says about releases: which are good, and which were
// rejected.
func (m *memory) learn(st machine.State, held map[string]*heldRelease) {
	if m.store == nil {
		return
	}
	for _, g := range st.GoodReleases {
		r := held[g.Release]
		if r == nil || !r.done || st.Rejection(g.Release) != nil || slices.Contains(m.good, g.Release) {
			continue
		}
		m.good = append(m.good, g.Release)
		m.bad = slices.DeleteFunc(m.bad, func(name string) bool { return name == g.Release })
		m.keep(r)
	}
	for _, bad := range st.Rejected {
		if slices.Contains(m.bad, bad.Release) || held[bad.Release] != nil && !held[bad.Release].done {
			continue
		}
		m.bad = append(m.bad, bad.Release)
		m.good = slices.DeleteFunc(m.good, func(good string) bool { return good == bad.Release })
		r := release.Rejected{Name: bad.Release, Path: m.cfg.Command[0], Reason: bad.Reason, ByHand: bad.ByHand, Since: time.Now().UTC().Truncate(time.Second)}
		if h := held[bad.Release]; h != nil {
			r.Path = h.path
		}
		m.mu.Lock()
		m.rejected[bad.Release] = r
		m.mu.Unlock()
		m.do(func() error { return m.store.Reject(r) })
	}
}

// keep copies a good release to the state directory.
func (m *memory) keep(r *heldRelease) {
	name := r.file.Name()
	k := release.Kept{Release: r.file.Release, Command: r.origin, Script: r.origin.Path != r.file.Real, Since: time.Now().UTC().Truncate(time.Second)}
	fd, err := unix.FcntlInt(uintptr(r.file.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return
	}
	tree := release.Tree{Root: r.file.Root, Counts: m.counts(), Lead: gitignore.Parse(m.cfg.Ignore).Match}
	if r.copy != nil {
		tree.Root, tree.Copied = filepath.Join(r.copy.Path, "tree"), true
	}
	m.do(func() error {
		f := release.Resume(k.Release, fd)
		defer f.Close()
		if err := m.store.Keep(k, f, tree, nil); err != nil {
			return fmt.Errorf("release %.12s cannot be kept in --state-dir: %w", name, err)
		}
		m.mu.Lock()
		delete(m.rejected, name)
		m.mu.Unlock()
		return nil
	})
}

// do carries out work in order, beside the loop.
func (m *memory) do(f func() error) {
	m.mu.Lock()
	m.work = append(m.work, f)
	start := !m.busy
	m.busy = true
	m.mu.Unlock()
	if start {
		go m.run()
	}
}

func (m *memory) run() {
	for {
		m.mu.Lock()
		if len(m.work) == 0 {
			m.busy = false
			m.mu.Unlock()
			return
		}
		f := m.work[0]
		m.work = m.work[1:]
		m.mu.Unlock()
		if err := f(); err != nil {
			m.say("%v; a restart of hotinit may start another release", err)
		}
	}
}

// instead replaces the release of a first start, where that was rejected before
// hotinit was restarted, by the last good one. It runs beside the loop.
func (s *starts) instead(j *job) (kept bool, err error) {
	m := s.releases.memory
	r, rejected := m.rejection(j.file.Name())
	if m.store == nil || !rejected {
		return false, nil
	}
	list, err := m.store.List()
	k := list.Last()
	if err != nil || k == nil {
		m.say("%s: release %.12s was rejected before (%s), and there is no other: it is started all the same", s.target(j), r.Name, why(r))
		return false, nil
	}
	err = s.openKept(j, k)
	if err != nil {
		m.say("%s: release %.12s was rejected before (%s), and the last good one, %.12s, cannot be started: %v; the rejected one is started all the same", s.target(j), r.Name, why(r), k.Name(), err)
		return false, nil
	}
	m.say("%s: release %.12s was rejected before (%s); the last good one, %.12s, is started in its stead. Deploy another one, or `hotinit reload` starts it all the same", s.target(j), r.Name, why(r), k.Name())
	return true, nil
}

// openKept makes a job one of a release that was kept: where it was, if that is
// as it was, or else from the copy in the state directory.
func (s *starts) openKept(j *job, k *release.Kept) error {
	script := release.CheckOptions{NoExec: k.Script, As: s.credential(), Done: j.cancel}
	if f, err := release.Open(k.Release.Real, script); err == nil {
		same := f.Digest == k.Release.Digest && f.Real == k.Release.Real
		if same && k.Release.Root != "" {
			d, err := release.Tree{Root: k.Release.Root, Counts: s.counts()}.Digest(j.cancel)
			same = err == nil && d == k.Release.Tree
		}
		if same {
			f.Root, f.Tree = k.Release.Root, k.Release.Tree
			s.takeKept(j, f, k.Command, k.Command, nil)
			return nil
		}
		f.Close()
	}
	f, tree, err := s.releases.memory.store.Open(k, s.counts(), j.cancel)
	if err != nil {
		return err
	}
	if tree.Root == "" && !k.Script {
		s.takeKept(j, f, k.Command, k.Command, nil) // by its descriptor
		return nil
	}
	// By its path, and the app may not enter the state directory.
	p, err := release.MakePrivate(s.fromStart(s.cfg.SnapshotDir))
	if err != nil {
		f.Close()
		return err
	}
	var moves []release.Move
	path := ""
	if tree.Root != "" {
		copied, d, cerr := release.CopyTree(tree, p, release.CopyOptions{Done: j.cancel})
		if err = cerr; err == nil && d != k.Release.Tree {
			err = release.ErrTorn
		}
		moves = append(moves, release.Move{From: k.Release.Root, To: copied.Root})
		if rel, ok := (release.Tree{Root: k.Release.Root}).Within(k.Release.Real); ok {
			path = filepath.Join(copied.Root, rel)
		}
	}
	if err == nil && path == "" {
		if path, err = f.CopyFile(p, j.cancel); err == nil {
			moves = append(moves, release.Move{From: k.Release.Real, To: path})
		}
	}
	var own *release.File
	if err == nil {
		own, err = f.InCopy(path, j.cancel)
	}
	f.Close()
	if err != nil {
		p.Remove()
		return err
	}
	s.takeKept(j, own, k.Command.Move(moves), k.Command, p)
	return nil
}

func (s *starts) takeKept(j *job, f *release.File, command, origin release.Command, p *release.Private) {
	if j.copy != nil {
		j.copy.Remove()
	}
	j.file.Close()
	j.file, j.command, j.origin, j.copy, j.kept = f, command, origin, p, true
}
