package order

import (
	"slices"

	"github.com/hotinit/hotinit/internal/testkit/fair"
)

// A hope is something that has to come to an end, whatever users ask for meanwhile
// and however often.
type hope struct {
	name  string
	waits func(s *State) bool
	graph *fair.Graph
	w     *world
}

// hopes are those of a world: everything stops, what has to stop does, and what may
// start is started.
func hopes(w *world) []*hope {
	all := []*hope{{name: "the stop of everything", waits: func(s *State) bool { return s.Halting && !s.Over }}}
	for _, spec := range w.specs {
		all = append(all,
			&hope{name: "the stop of " + spec.Name, waits: func(s *State) bool {
				p := s.programs[spec.Name]
				return p != nil && p.Unwant && p.active()
			}},
			&hope{name: "the wait of " + spec.Name + " for its turn", waits: func(s *State) bool {
				return slices.Contains(s.queue, spec.Name) && !s.Halting
			}})
	}
	for _, h := range all {
		h.graph, h.w = fair.New(), w
	}
	return all
}

// step takes in that an event leads from one state to another, after.
func (h *hope) step(from, to int, before *State, ev Event, after *State) {
	if !h.waits(before) {
		return
	}
	if to == from {
		h.graph.State(from, 0)
		return
	}
	bit := h.due(before, ev)
	h.graph.State(from, bit)
	if h.waits(after) {
		h.graph.Step(from, to, bit)
	}
}

// due is the bit of an event which has to happen some time, or 0: what was told to
// stop ends, what starts is ready some time, or is not, and a pause is over.
func (h *hope) due(s *State, ev Event) fair.Due {
	i := slices.IndexFunc(h.w.specs, func(spec Spec) bool { return spec.Name == ev.Name })
	p := s.programs[ev.Name]
	switch {
	case ev.Kind == Spaced:
		return 1
	case ev.Kind == Ended && p.Phase == Stopping:
		return 1 << (2*i + 1)
	case p != nil && p.Slot && slices.Contains([]EventKind{Began, Ready, Faltered, Ended}, ev.Kind) && (ev.Kind != Began || p.Once || p.Timed):
		return 1 << (2*i + 2)
	}
	return 0
}
