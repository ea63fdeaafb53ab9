// Package order decides which programs run: who may start, who has to stop, and
// in which order. Its invariant: nothing starts before all that it comes after
// are ready, and at most --max-starts start at once.
//
// It is pure, as package machine is for the generations of one program: no clock,
// no process and no goroutine is in it. What happens comes in as an Event, a timer
// too; what has to be done comes back as Effects. A State is changed in place, for
// an event must not cost more where there are more programs.
//
// Read state.go first (what there is to know), then events.go (what happens),
// decide.go (what follows). Each file in testdata/traces is a whole story. Package
// roll decides about the instances of one program.
package order

import "fmt"

// EventKind is what happened.
type EventKind int

const (
	// Files: the programs' files changed, all at once. Set are those that are new or
	// changed, Gone those that are no more.
	Files EventKind = iota
	// Began: the program executes. Nothing is known yet of whether it is ready.
	Began
	// Ready: it is ready.
	Ready
	// Faltered: it could not be started, or is not ready any more, and tries again by itself.
	Faltered
	// Ended: it ended for good, or could not be started, with Status; Reason says how.
	Ended
	// Hold: somebody stopped it by hand.
	Hold
	// Release: somebody started it by hand.
	Release
	// Tick: its schedule says that it is time.
	Tick
	// Spaced: --start-spacing is over since the last start.
	Spaced
	// Halt: everything stops. Reason says why.
	Halt
	// Hurry: stopping in order has taken too long.
	Hurry

	eventKinds
)

var eventNames = [eventKinds]string{"files", "began", "ready", "faltered", "ended", "hold", "release", "tick", "spaced", "halt", "hurry"}

func (k EventKind) String() string { return eventNames[k] }

// Event is something that happened, to the program Name where it is about one.
type Event struct {
	Kind   EventKind
	Name   string
	Set    []Spec
	Gone   []string
	Status int
	Reason string
}

// EffectKind is what has to be done.
type EffectKind int

const (
	Start  EffectKind = iota // start the program
	Stop                     // stop it; Ended follows
	Swap                     // its file changed while it runs: a new generation takes over
	Drop                     // nothing of it is left, and its file is gone: forget it, free its sockets
	Say                      // print Text
	Finish                   // all have ended after Halt or because of an essential program: hotinit ends with Status where it is Decided
)

var effectNames = []string{"start", "stop", "swap", "drop", "say", "finish"}

func (k EffectKind) String() string { return effectNames[k] }

// Effect is one thing that has to be done, in order.
type Effect struct {
	Kind    EffectKind
	Name    string
	Text    string
	Problem bool // what Text says is an error
	Status  int
	Decided bool // Status is that of an essential program
}

func (s *State) do(e Effect) { s.out = append(s.out, e) }

func (s *State) say(format string, args ...any) {
	s.do(Effect{Kind: Say, Text: fmt.Sprintf(format, args...)})
}

func (s *State) complain(format string, args ...any) {
	s.do(Effect{Kind: Say, Text: fmt.Sprintf(format, args...), Problem: true})
}

// Next changes the state as an event asks for, and returns what has to be done.
func (s *State) Next(ev Event) []Effect {
	s.out = nil
	if s.Over {
		return nil
	}
	switch ev.Kind {
	case Files:
		s.files(ev)
	case Spaced:
		s.Pacing = false
	case Halt:
		s.halt(ev.Reason)
	case Hurry:
		s.hurry()
	default:
		if p := s.programs[ev.Name]; p != nil {
			handlers[ev.Kind](s, p, ev)
		}
	}
	s.startNext()
	s.finishIfDone()
	out := s.out
	s.out = nil
	return out
}

// handlers are what happens to one program.
var handlers = [eventKinds]func(*State, *Program, Event){
	Began: began, Ready: ready, Faltered: faltered, Ended: ended, Hold: hold, Release: release, Tick: tick,
}
