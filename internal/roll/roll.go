// Package roll decides about the instances of one program. Its invariant: at most
// one instance is replaced at a time, and no roll leaves some instances on the new
// release and some on the old.
//
// It is pure, as package order is for the programs. What each instance runs is its
// own machine's business (package machine); here it is only told when to look.
package roll

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// EventKind is what happened.
type EventKind int

const (
	Resize   EventKind = iota // there shall be Count instances
	Changed                   // all shall be replaced
	Current                   // instance N has a new current generation
	Rejected                  // what instance N was to become is rejected: Reason; what ran before still runs
	Failed                    // a generation of instance N failed in its probation: Reason; it goes back by itself
	Ended                     // instance N has ended for good
)

// Event is something that happened.
type Event struct {
	Kind   EventKind
	N      int
	Count  int
	Reason string
}

// EffectKind is what has to be done.
type EffectKind int

const (
	Add     EffectKind = iota // there is an instance N from now on: start it
	Remove                    // stop instance N; Ended follows
	Swap                      // start what is newest in instance N; Current or Rejected follows
	Back                      // instance N leaves the release that failed elsewhere: Text; Current or Rejected follows, at once where it does not run it
	Say                       // print Text
	Outcome                   // the roll is over: OK, or else Text says why not
)

// Effect is one thing that has to be done, in order.
type Effect struct {
	Kind EffectKind
	N    int
	OK   bool
	Text string
}

// State is all that decisions are made from. The zero value is the first one.
type State struct {
	Count   int
	Alive   []int // instances that have not ended, sorted
	Left    []int // those that the roll has still to come to
	Busy    int   // the one that is being replaced, counted from 1; 0: none
	Moved   []int // those that the roll has replaced
	Going   bool  // back
	Again   bool  // another roll follows
	Reason  string
	Removed []int // told to end, since there shall be fewer

	out []Effect
}

// Rolling reports whether instances are being replaced.
func (s *State) Rolling() bool { return s.Busy != 0 }

// Next changes the state as an event asks for, and returns what has to be done.
func (s *State) Next(ev Event) []Effect {
	s.out = nil
	switch ev.Kind {
	case Resize:
		s.resize(ev.Count)
	case Changed:
		if s.Rolling() {
			s.Again = true
			break
		}
		s.begin()
	case Current:
		if s.Busy != ev.N+1 {
			break // it restarted alone
		}
		if !s.Going {
			s.Moved = append(s.Moved, ev.N)
		}
		s.next()
	case Rejected:
		s.rejected(ev)
	case Failed:
		s.failed(ev)
	case Ended:
		s.ended(ev)
	}
	out := s.out
	s.out = nil
	return out
}

func (s *State) do(e Effect) { s.out = append(s.out, e) }

func (s *State) begin() {
	s.Going, s.Moved, s.Reason = false, nil, ""
	s.Left = slices.Clone(s.Alive)
	s.Left = slices.DeleteFunc(s.Left, func(n int) bool { return slices.Contains(s.Removed, n) })
	s.next()
}

// next comes to the next instance, or to the end of the roll.
func (s *State) next() {
	if len(s.Left) == 0 {
		rolled := s.Busy != 0
		s.Busy = 0
		if rolled {
			s.do(Effect{Kind: Outcome, OK: !s.Going, Text: s.Reason})
		}
		s.Going, s.Moved, s.Reason = false, nil, ""
		if s.Again {
			s.Again = false
			s.begin()
		}
		return
	}
	n := s.Left[0]
	s.Left = s.Left[1:]
	s.Busy = n + 1
	if s.Going {
		s.do(Effect{Kind: Back, N: n, Text: s.Reason})
		return
	}
	s.do(Effect{Kind: Swap, N: n})
}

// rejected stops the roll: what was replaced goes back.
func (s *State) rejected(ev Event) {
	if s.Busy != ev.N+1 {
		return
	}
	if s.Going {
		s.next() // it runs what it ran, or has said why it cannot go back
		return
	}
	s.goBack(fmt.Sprintf("instance %d: %s", ev.N, ev.Reason), s.Moved)
	s.next()
}

func (s *State) goBack(reason string, who []int) {
	s.Going, s.Reason = true, reason
	s.Left = slices.Clone(who)
	s.Moved = nil
	if len(who) > 0 {
		s.do(Effect{Kind: Say, Text: fmt.Sprintf("%s; %s to the release before", reason, goes(who))})
	}
}

func goes(who []int) string {
	if len(who) == 1 {
		return fmt.Sprintf("instance %d goes back", who[0])
	}
	var b strings.Builder
	for i, n := range who {
		switch {
		case i == len(who)-1:
			b.WriteString(" and ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(strconv.Itoa(n))
	}
	return "instances " + b.String() + " go back"
}

// failed has all leave a release that one of them failed with.
func (s *State) failed(ev Event) {
	if s.Going {
		return
	}
	others := slices.DeleteFunc(slices.Clone(s.Alive), func(n int) bool {
		return n == ev.N || n+1 == s.Busy || slices.Contains(s.Removed, n)
	})
	busy := s.Busy
	s.goBack(fmt.Sprintf("instance %d: %s", ev.N, ev.Reason), others)
	if busy != 0 && busy != ev.N+1 {
		s.do(Effect{Kind: Back, N: busy - 1, Text: s.Reason}) // it is on its way to it
		return
	}
	if busy == 0 && len(others) == 0 {
		s.Going, s.Reason = false, ""
		return // it is the only one, and goes back by itself
	}
	s.next()
}

func (s *State) ended(ev Event) {
	s.Alive = slices.DeleteFunc(s.Alive, func(n int) bool { return n == ev.N })
	s.Left = slices.DeleteFunc(s.Left, func(n int) bool { return n == ev.N })
	s.Moved = slices.DeleteFunc(s.Moved, func(n int) bool { return n == ev.N })
	told := slices.Contains(s.Removed, ev.N)
	s.Removed = slices.DeleteFunc(s.Removed, func(n int) bool { return n == ev.N })
	switch {
	case s.Busy != ev.N+1:
	case s.Going || told:
		s.next()
	default:
		s.rejected(ev)
	}
	if told && ev.N < s.Count {
		s.add(ev.N) // there shall be more again
	}
}

func (s *State) resize(count int) {
	s.Count = count
	for _, n := range slices.Backward(s.Alive) {
		if n >= count && !slices.Contains(s.Removed, n) {
			s.Removed = append(s.Removed, n)
			s.Left = slices.DeleteFunc(s.Left, func(m int) bool { return m == n })
			s.do(Effect{Kind: Remove, N: n})
		}
	}
	s.fill()
}

// fill adds the instances that there shall be, also those that have ended for good:
// a file that changed is another try.
func (s *State) fill() {
	for n := range s.Count {
		if !slices.Contains(s.Alive, n) {
			s.add(n)
		}
	}
}

func (s *State) add(n int) {
	i, _ := slices.BinarySearch(s.Alive, n)
	s.Alive = slices.Insert(s.Alive, i, n)
	s.do(Effect{Kind: Add, N: n})
	if s.Rolling() {
		s.Left = append(s.Left, n) // it may start what the others leave
	}
}
