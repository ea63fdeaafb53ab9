package order

import (
	"cmp"
	"slices"
)

// Spec is what a program's file says that matters here.
type Spec struct {
	Name   string
	Called string   // in what is said, where that is not Name
	After  []string // it starts once these are ready, and ends before them
	// Once: it runs to its end, and is done once it has ended with 0.
	Once bool
	// Essential: when it ends for good, everything does.
	Essential bool
	// Scheduled: it is Once, and starts with each tick.
	Scheduled bool
	// Timed: whether it is ready is decided by time alone, so that waiting for it
	// makes no work.
	Timed bool
	// Same: nothing but the fields above has changed, so that what runs may run on.
	Same bool
	// Was is what is known of it from a handoff before, nil for nothing.
	Was *Facts
}

// Facts are what the next handoff has to know of a program.
type Facts struct {
	Phase  Phase
	Held   bool
	Done   bool
	Again  bool
	Result Result
	Status int
	Reason string
}

// Phase is where a program is.
type Phase int

const (
	// Down: nothing of it runs, and nothing is going to be started.
	Down Phase = iota
	// Waiting: it is to be started, as soon as it may. It leaves by being started.
	Waiting
	// Starting: it was started, and is not ready. It leaves by being ready, by
	// faltering or by ending.
	Starting
	// Faltering: it is not ready, and tries again by itself.
	Faltering
	// Up: it is ready; a program that is Once is so while it runs.
	Up
	// Stopping: it was told to stop. It leaves by ending.
	Stopping
)

var phaseNames = []string{"down", "waiting", "starting", "faltering", "up", "stopping"}

func (p Phase) String() string { return phaseNames[p] }

// Result is how a program ended last.
type Result int

const (
	NotRun  Result = iota // it has not run yet
	Success               // it is Once, and ended with 0
	Failure               // it ended for good by itself, with Status
	Stopped               // it was told to
)

var resultNames = []string{"not run", "success", "failure", "stopped"}

func (r Result) String() string { return resultNames[r] }

// Program is one of the programs.
type Program struct {
	Spec
	Facts

	Gone   bool // its file is no more
	Unwant bool // it has to stop, in order
	Told   bool // Stop was asked for
	Slot   bool // it counts for --max-starts

	unready bool // that it waits for what cannot come was said
	circle  bool // that it waits for itself was said
	queued  bool
}

// Policy is what hotinit was configured with.
type Policy struct {
	MaxStarts int  // 0: any number
	Spacing   bool // --start-spacing is above 0
}

// State is all that decisions are made from. The zero value with a Policy is the
// first one.
type State struct {
	Policy
	programs map[string]*Program
	names    []string            // sorted
	before   map[string][]string // who comes after a name, sorted
	queue    []string            // who waits only for its turn

	Starts int  // how many count for --max-starts
	Pacing bool // a start was so short a time ago that the next has to wait: Spaced follows

	Halting bool // everything stops
	Hurried bool
	Reason  string
	Status  int
	Decided bool // Status is that of an essential program
	Over    bool

	running int  // how many are neither Down nor Waiting
	circles bool // some program is known to come after itself
	out     []Effect
}

// New returns the first state.
func New(p Policy) *State {
	return &State{Policy: p, programs: make(map[string]*Program), before: make(map[string][]string)}
}

// Find returns a program, or nil.
func (s *State) Find(name string) *Program { return s.programs[name] }

// Names returns the programs' names, sorted.
func (s *State) Names() []string { return s.names }

// called is how a program is called in what is said.
func (p *Program) called() string { return cmp.Or(p.Called, p.Name) }

func (s *State) called(names []string) []string {
	names = slices.Clone(names)
	for i, name := range names {
		if p := s.programs[name]; p != nil {
			names[i] = p.called()
		}
	}
	return names
}

// IsReady reports whether those after p may start.
func (p *Program) IsReady() bool {
	if p.Once {
		return p.Done
	}
	return p.Phase == Up
}

// active reports whether something of p runs.
func (p *Program) active() bool { return p.Phase > Waiting }

// setPhase is the one place where a phase changes.
func (s *State) setPhase(p *Program, to Phase) {
	was := p.active()
	p.Phase = to
	if p.queued && to != Waiting {
		p.queued = false
		s.queue = slices.DeleteFunc(s.queue, func(name string) bool { return name == p.Name })
	}
	switch {
	case p.active() && !was:
		s.running++
	case !p.active() && was:
		s.running--
	}
}

// add makes a program known, and its edges.
func (s *State) add(spec Spec) *Program {
	p := &Program{Spec: spec}
	s.programs[spec.Name] = p
	i, _ := slices.BinarySearch(s.names, spec.Name)
	s.names = slices.Insert(s.names, i, spec.Name)
	s.link(p)
	return p
}

func (s *State) remove(p *Program) {
	s.unlink(p)
	delete(s.programs, p.Name)
	if i, ok := slices.BinarySearch(s.names, p.Name); ok {
		s.names = slices.Delete(s.names, i, i+1)
	}
}

func (s *State) link(p *Program) {
	for _, name := range p.After {
		list := s.before[name]
		if i, ok := slices.BinarySearch(list, p.Name); !ok {
			s.before[name] = slices.Insert(list, i, p.Name)
		}
	}
}

func (s *State) unlink(p *Program) {
	for _, name := range p.After {
		list := s.before[name]
		if i, ok := slices.BinarySearch(list, p.Name); ok {
			s.before[name] = slices.Delete(list, i, i+1)
		}
		if len(s.before[name]) == 0 {
			delete(s.before, name)
		}
	}
}

// circle returns the names from p to p, each of which comes after the next, or nil
// where p does not come after itself.
func (s *State) circle(p *Program) []string {
	if len(p.After) == 0 || len(s.before[p.Name]) == 0 {
		return nil
	}
	seen := map[string]bool{}
	var walk func(name string) []string
	walk = func(name string) []string {
		if seen[name] {
			return nil
		}
		seen[name] = true
		q := s.programs[name]
		if q == nil {
			return nil
		}
		for _, next := range q.After {
			if next == p.Name {
				return []string{name, next}
			}
			if rest := walk(next); rest != nil {
				return append([]string{name}, rest...)
			}
		}
		return nil
	}
	return walk(p.Name)
}

// inOneCircle reports whether q, which comes after p, also comes before it.
func (s *State) inOneCircle(p, q *Program) bool {
	if len(p.After) == 0 {
		return false
	}
	seen := map[string]bool{}
	var reaches func(name string) bool
	reaches = func(name string) bool {
		if name == q.Name {
			return true
		}
		if seen[name] {
			return false
		}
		seen[name] = true
		r := s.programs[name]
		return r != nil && slices.ContainsFunc(r.After, reaches)
	}
	return slices.ContainsFunc(p.After, reaches)
}
