package handoff

import (
	"fmt"
	"strings"
	"time"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/machine"
)

// list returns the releases that run, that can be gone back to, and that were
// rejected, the newest first.
func (s *clients) list() []control.Release {
	st := &s.engine.state
	byName := make(map[string]*control.Release)
	var names []string
	entry := func(name string) *control.Release {
		if name == "" {
			name = "?" // it was started without a look at its file
		}
		if byName[name] == nil {
			byName[name] = &control.Release{Name: name}
			names = append(names, name)
		}
		return byName[name]
	}
	for i := len(st.Gens) - 1; i >= 0; i-- {
		g := &st.Gens[i]
		if g.Phase == machine.Preparing || g.Phase == machine.Lingering {
			continue
		}
		r := entry(g.Release)
		if r.Generation != 0 {
			continue // a newer generation of it runs
		}
		r.Generation, r.Fate = g.N, g.Phase.String()
		if p := s.processes.all[g.N]; p != nil {
			r.Since = p.since
		}
	}
	for i := len(st.GoodReleases) - 1; i >= 0; i-- {
		good := &st.GoodReleases[i]
		r := entry(good.Release)
		r.Good = true
		if r.Generation == 0 {
			r.Generation, r.Fate = good.N, "served until it was replaced"
			r.Since, r.Fate = s.history(good.N, r.Fate)
			if held := s.releases.held[good.Release]; good.N == 0 && held != nil {
				r.Since, r.Fate = held.since, "kept in --state-dir"
			}
		}
	}
	for i := len(st.Rejected) - 1; i >= 0; i-- {
		rejected := &st.Rejected[i]
		r := entry(rejected.Release)
		r.Rejected, r.ByHand = rejected.Reason, rejected.ByHand
	}
	var list []control.Release
	for _, name := range names {
		r := byName[name]
		if held := s.releases.held[name]; held != nil {
			r.Path = held.file.Real
		}
		list = append(list, *r)
	}
	return list
}

// history returns since when a generation ran and how it ended, as far as that is
// remembered.
func (s *clients) history(n int, unknown string) (since time.Time, how string) {
	for _, p := range s.processes.past {
		if p.N == n {
			return p.Since, p.How
		}
	}
	return time.Time{}, unknown
}

// named returns the full name of the release that a client named by the first
// letters of its name, as `hotinit releases` prints them.
func (s *clients) named(prefix string) (string, error) {
	if prefix == "" {
		return "", nil
	}
	var found []string
	for _, r := range s.list() {
		if strings.HasPrefix(r.Name, prefix) {
			found = append(found, r.Name)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("there is no release %q (hotinit releases lists them)", prefix)
	}
	return "", fmt.Errorf("%d releases begin with %q: name more letters", len(found), prefix)
}

// describe names the release of the current generation, for the answer to reload.
func (s *clients) describe() string {
	g := s.engine.state.Current()
	if g == nil || g.Release == "" || machine.IsUnread(g.Release) {
		return ""
	}
	return machine.Short(g.Release)
}

// change says which release a swap led from and to.
func change(before, after string) string {
	switch {
	case after == "":
		return ""
	case before == after:
		return fmt.Sprintf(" (release %s, the same as before)", after)
	case before == "":
		return fmt.Sprintf(" (release %s)", after)
	}
	return fmt.Sprintf(" (release %s, before it %s)", after, before)
}
