package handoff

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/release"
)

// memory is what a program's releases came to, for as long as --state-dir lives.
// recall reads it before the first start. From then on the loop tells it what the
// state says (learn), and one goroutine at a time writes that down.
type memory struct {
	*common
	store *release.Store // nil: nothing outlives the container, or it did not answer yet

	mu   sync.Mutex
	work []func() error
	busy bool
	said map[string]bool

	// What the store knows already. The loop's own.
	good []string
	bad  []string
}

// keeps reports whether the state directory has a copy of a release.
func (m *memory) keeps(name string) bool { return m.store != nil && slices.Contains(m.good, name) }

func (m *memory) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	m.mu.Lock()
	said := m.said[text]
	if m.said == nil {
		m.said = make(map[string]bool)
	}
	m.said[text] = true
	m.mu.Unlock()
	if !said {
		m.line("%s", text)
	}
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
	tree := m.treeAt(r.file.Root)
	if r.copy != nil {
		tree.Root, tree.Copied = filepath.Join(r.copy.Path, "tree"), true
	}
	m.do(func() error {
		f := release.Resume(k.Release, fd)
		defer f.Close()
		if err := m.store.Keep(k, f, tree, nil); err != nil {
			return fmt.Errorf("release %.12s cannot be kept in --state-dir: %w", name, err)
		}
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
