package order

import (
	"slices"
	"strings"
)

// files takes in what the files say now.
func (s *State) files(ev Event) {
	var gone []string
	for _, name := range ev.Gone {
		if p := s.programs[name]; p != nil && !p.Gone {
			p.Gone = true
			gone = append(gone, name)
		}
	}
	var changed []*Program
	resumed := make(map[*Program]bool) // they say nothing new
	for _, spec := range ev.Set {
		spec.After = normal(spec.After)
		p := s.programs[spec.Name]
		if p == nil {
			p = s.add(spec)
			resumed[p] = spec.Was != nil
			s.appears(p)
		} else {
			once := p.Once
			s.unlink(p)
			p.Spec = spec
			s.link(p)
			s.changes(p, once)
		}
		changed = append(changed, p)
	}
	for _, name := range gone {
		s.unwant(s.programs[name])
	}
	// Only now everything is known that one may come after.
	if s.circles {
		s.findCircles()
	}
	for _, p := range changed {
		p.unready = false
		s.enqueue(p)
		s.wake(p)
	}
	for _, p := range changed {
		s.explain(p)
		if !resumed[p] {
			s.warn(p)
		}
	}
	for _, name := range gone {
		s.explainThoseAfter(name)
	}
	// An edge may have made or broken a circle that leads far around: whoever waits to
	// be stopped may wait for nobody now.
	s.stopNext(s.names)
}

// findCircles looks which circles are left.
func (s *State) findCircles() {
	s.circles = false
	for _, name := range s.names {
		if p := s.programs[name]; p.circle {
			p.circle = s.circle(p) != nil
			s.circles = s.circles || p.circle
		}
	}
}

// normal returns the names once each.
func normal(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}

// appears decides what a program does whose file is new.
func (s *State) appears(p *Program) {
	if p.Was != nil {
		s.resume(p)
		return
	}
	if s.Halting || p.Scheduled {
		return
	}
	s.setPhase(p, Waiting)
}

// resume goes on where the handoff before has ended.
func (s *State) resume(p *Program) {
	f := *p.Was
	p.Was = nil
	p.Facts = f
	p.Phase = Down
	s.setPhase(p, f.Phase)
	switch p.Phase {
	case Down:
		// It was not told of it before the handoff was lost, or it was stopped as its
		// file had gone, which is back, or it would be gone as well.
		if (p.Result == NotRun || p.Result == Stopped) && !p.Held && !p.Scheduled && !s.Halting {
			s.setPhase(p, Waiting)
		}
	case Starting:
		s.take(p)
	case Stopping:
		p.Unwant, p.Told = true, true
		p.Again = p.Again || !p.Held && !p.Scheduled // likewise
	}
}

// changes decides what follows a changed file. once is what the program was before.
func (s *State) changes(p *Program, once bool) {
	p.Was = nil
	back := p.Gone
	p.Gone = false
	if s.Halting || p.Held {
		return
	}
	if back && p.Unwant && p.Phase != Stopping {
		p.Unwant = false // it was removed, and came back before it was told to stop
	}
	switch {
	case p.Phase == Stopping:
		p.Again = !p.Scheduled
	case p.active() && p.Once != once:
		// What runs is of the other kind: it would never end, or never be ready.
		p.Again = !p.Scheduled
		s.unwant(p)
	case p.Same:
	case p.Scheduled:
		if p.Phase == Waiting {
			s.setPhase(p, Down) // the next tick starts it
		}
	case p.Phase == Down:
		s.setPhase(p, Waiting)
	case p.Phase == Waiting:
	case p.Once:
		p.Again = true // never two of it at a time
	default:
		s.do(Effect{Kind: Swap, Name: p.Name})
	}
}

func began(s *State, p *Program, _ Event) {
	if p.Timed || p.Once {
		s.free(p)
	}
	if p.Once && p.Phase == Starting {
		s.setPhase(p, Up)
	}
}

func ready(s *State, p *Program, _ Event) {
	s.free(p)
	if p.Phase != Starting && p.Phase != Faltering {
		return
	}
	s.setPhase(p, Up)
	if !p.Once {
		s.wake(p)
	}
}

func faltered(s *State, p *Program, _ Event) {
	s.free(p)
	if p.Phase == Starting || p.Phase == Up && !p.Once {
		s.setPhase(p, Faltering)
	}
}

func ended(s *State, p *Program, ev Event) {
	if !p.active() {
		return
	}
	s.free(p)
	told := p.Phase == Stopping || p.Unwant
	again := p.Again && !p.Held && !p.Gone && !s.Halting
	s.setPhase(p, Down)
	p.Unwant, p.Told, p.Again = false, false, false
	p.Status, p.Reason = ev.Status, ev.Reason
	switch {
	case told:
		p.Result = Stopped
	case p.Once && ev.Status == 0:
		p.Result, p.Done = Success, true
	default:
		p.Result = Failure
		if p.Once {
			p.Done = false
		}
	}
	if again {
		s.setPhase(p, Waiting)
		s.enqueue(p)
		s.explain(p)
	}
	s.stopNext(p.After)
	switch {
	case told || s.Halting:
	case p.Essential && !(p.Once && ev.Status == 0):
		s.Status, s.Decided = ev.Status, true
		s.complain("%s has ended for good (%s), and is essential: everything ends with status %d (HOTINIT_ESSENTIAL)", p.called(), ev.Reason, ev.Status)
		s.halt(p.called() + " has ended")
	case p.Done:
		s.wake(p)
	default:
		s.explainThoseAfter(p.Name)
	}
	if p.Gone {
		s.forget(p)
		s.explainThoseAfter(p.Name)
	}
}

// forget lets go of a program of which nothing is left.
func (s *State) forget(p *Program) {
	if s.Halting {
		return // Finish comes
	}
	s.do(Effect{Kind: Drop, Name: p.Name})
	s.remove(p)
}

func hold(s *State, p *Program, _ Event) {
	p.Held, p.Again = true, false
	s.unwant(p)
	s.stopNext([]string{p.Name})
}

func release(s *State, p *Program, _ Event) {
	was := p.Held
	p.Held = false
	switch {
	case s.Halting || p.Gone:
	case p.Phase == Down:
		s.setPhase(p, Waiting)
		s.enqueue(p)
		s.explain(p)
	case was && p.Unwant && !p.Told:
		p.Unwant = false
		s.stopNext(p.After)
	case p.Phase == Stopping:
		p.Again = true
	}
}

func tick(s *State, p *Program, _ Event) {
	switch {
	case s.Halting || p.Held || p.Gone || !p.Scheduled:
	case p.Phase == Down:
		s.setPhase(p, Waiting)
		s.enqueue(p)
		s.explain(p)
	case p.Phase == Waiting:
		s.say("%s is due again and still waits: %s", p.called(), s.Why(p.Name))
	default:
		s.complain("%s is due, and the run before has not ended: this one is left out", p.called())
	}
}

// halt stops everything.
func (s *State) halt(reason string) {
	if s.Halting {
		return
	}
	s.Halting, s.Reason = true, reason
	for _, name := range s.names {
		p := s.programs[name]
		p.Again = false
		s.unwant(p)
	}
	s.stopNext(s.names)
}

// hurry tells all at once that were not told yet.
func (s *State) hurry() {
	if !s.Halting || s.Hurried {
		return
	}
	s.Hurried = true
	var late []string
	for _, name := range s.names {
		if p := s.programs[name]; p.active() && p.Phase != Stopping {
			late = append(late, name)
		}
	}
	if len(late) > 0 {
		s.complain("what comes after them has not ended in time; these are stopped all the same: %s", strings.Join(s.called(late), ", "))
	}
	s.stopNext(late)
}
