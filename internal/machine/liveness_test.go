package machine

import (
	"time"

	"github.com/hotinit/hotinit/internal/testkit/fair"
)

// A hope is something that has to come to an end, whatever users ask for meanwhile
// and however often: the start of a generation, an old generation, a stop. What has
// to happen some time for that is the world's (a timer runs out, what was killed
// ends) or, where nothing limits it, the app's.
type hope struct {
	name string
	// whose tells which generation it is about in a state, 0 for the program as a
	// whole, and whether there is anything to wait for at all.
	whose func(s *State) (n int, waits bool)
	graph *fair.Graph
	p     *Policy
}

// hopes are those of a policy.
func hopes(p *Policy) []*hope {
	of := func(find func(s *State) *Gen) func(s *State) (int, bool) {
		return func(s *State) (int, bool) {
			if g := find(s); g != nil {
				return g.N, true
			}
			return 0, false
		}
	}
	first := func(is func(s *State, g *Gen) bool) func(s *State) (int, bool) {
		return of(func(s *State) *Gen {
			for i := range s.Gens {
				if is(s, &s.Gens[i]) {
					return &s.Gens[i]
				}
			}
			return nil
		})
	}
	all := []*hope{
		{name: "a swap", whose: of((*State).starting)},
		{name: "an old generation", whose: first(func(_ *State, g *Gen) bool { return g.Phase == Retiring })},
		{name: "one that hangs or has run for too long", whose: first(func(_ *State, g *Gen) bool {
			return g.Phase == Current && (g.Hung || g.Overran)
		})},
		{name: "a stop", whose: first(func(s *State, g *Gen) bool { return s.Stop != 0 && g.Phase != Lingering })},
		{name: "the wait for a restart", whose: func(s *State) (int, bool) { return 0, s.RestartDue }},
		{name: "the wait for leave", whose: func(s *State) (int, bool) { return 0, s.Situation() == Waiting }},
		{name: "a change that was put off", whose: func(s *State) (int, bool) {
			return 0, s.Delayed && s.Situation() == Serving && !s.OnHold
		}},
		// What costs no time must not go on for ever.
		{name: "a loop without a pause"},
	}
	for _, h := range all {
		h.graph, h.p = fair.New(), p
	}
	return all
}

// A move is an event that leads from one state to another, after.
type move struct {
	from, to      int // nodes; to is -1 for a state that is not looked at
	before, after *State
	timers        map[Timer]time.Duration // before
	ev            Event
}

// step takes in a move.
func (h *hope) step(m *move) {
	if h.whose == nil {
		if m.atOnce() && m.to != m.from && m.to >= 0 {
			h.graph.State(m.from, 1)
			h.graph.State(m.to, 1)
			h.graph.Step(m.from, m.to, 1)
		}
		return
	}
	n, waits := h.whose(m.before)
	if !waits {
		return
	}
	g := m.before.Find(n)
	if m.to == m.from {
		h.graph.State(m.from, 0)
		return // nothing follows from it, so it is not what is waited for
	}
	bit := h.due(m, g, m.ev)
	h.graph.State(m.from, bit)
	if k, still := h.whose(m.after); m.to < 0 || !still || k != n {
		return
	}
	// A timer that is another one afterwards runs anew.
	timers := Timers(*m.after, *h.p)
	for t := range m.timers {
		if _, same := timers[t]; !same {
			bit |= h.due(m, g, t.Event())
		}
	}
	h.graph.Step(m.from, m.to, bit)
}

// due is the bit of an event which has to happen some time for a generation to go on
// (nil: for the program), or 0.
func (h *hope) due(m *move, g *Gen, ev Event) fair.Due {
	mine := g != nil && ev.N == g.N
	kind := ev.Kind
	switch kind {
	case RestartDelayOver, LeaveTimedOut, SwapDelayOver, StopTimedOut:
		return 1 << kind
	case LeaveCome:
		if h.p.InTurn && m.before.Leave == LeaveAsked { // package roll comes to each
			return 1 << kind
		}
	case LeaveEnded:
		if h.p.InTurn && m.before.Leave == LeaveUsed && ev.N == m.before.LeaveN {
			return 1 << kind
		}
		if m.before.LeaveLate && ev.N == m.before.LeaveN { // it was killed
			return 1 << kind
		}
	case IntervalOver, QuietOver, ReadyTimedOut, KillOldDelayOver, DrainTimedOut, RunTimedOut, WatchdogTimedOut:
		if mine {
			return 1 << kind
		}
	case Started, NotStarted:
		if mine && g.Phase == Preparing {
			return 1 << Started // one or the other
		}
	case Exited:
		if mine && (g.Killed || h.unbounded(m.before, g)) {
			return 1 << kind
		}
	case Waits, Ready, Notified:
		if mine && g.Phase == Candidate && h.unbounded(m.before, g) {
			return 1 << kind
		}
	}
	return 0
}

// unbounded reports whether nothing limits how long a generation may stay what it
// is, as it was configured: then it is up to the app.
func (h *hope) unbounded(s *State, g *Gen) bool {
	if g.Phase == Candidate && !g.Terminated {
		return h.p.ReadyTimeout == 0
	}
	return g.Terminated && h.p.DrainTimeout == 0 && (s.Stop == 0 || h.p.StopTimeout == 0)
}

// atOnce reports whether an event may come without any time between: an app that
// is started, gets ready and ends, and timers of no time.
func (m *move) atOnce() bool {
	switch m.ev.Kind {
	case Started, NotStarted, Waits, Accepted, Notified, Ready, Exited, Empty:
		return true
	}
	d, timer := m.timers[Timer{Kind: m.ev.Kind, N: m.ev.N}]
	return timer && d == 0
}
