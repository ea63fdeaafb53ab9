// Package roll decides which instance of a program is replaced next. Its invariant: at
// most one is replaced at a time, in the order of their numbers.
//
// It is pure, and has no state of its own: who waits and who is being replaced is what
// the states of the instances say (package machine, leave.go), so that a handoff which
// takes over in the middle goes on there. What has to be told to an instance comes back
// as an event for it; one that ended for good, or was stopped, is nobody to wait for.
package roll

import "github.com/hotinit/hotinit/internal/machine"

// Step is what instance N, counted in the list, is to be told.
type Step struct {
	N     int
	Event machine.Event
}

// Next returns the next step, and reports whether there is any. It is called until there
// is none.
func Next(all []*machine.State) (Step, bool) {
	for n, s := range all {
		if !s.Over && s.Leave == machine.LeaveUsed {
			return Step{n, machine.Event{Kind: machine.LeaveEnded, N: s.LeaveN}}, true
		}
	}
	for _, s := range all {
		if starts(s) {
			return Step{}, false
		}
	}
	for n, s := range all {
		if !s.Over && s.Situation() == machine.Waiting && s.Leave == machine.LeaveAsked {
			return Step{n, machine.Event{Kind: machine.LeaveCome, N: s.LeaveN}}, true
		}
	}
	return Step{}, false
}

// starts reports whether a generation of an instance is being started. One that restarts
// by itself, as it died, is waited for as well: else two would be away.
func starts(s *machine.State) bool {
	if s.Over {
		return false
	}
	switch s.Situation() {
	case machine.Booting, machine.Swapping:
		return true
	}
	return false
}

// Rolling reports whether instances are being replaced, or wait for that. No probation
// ends before that is over: where a later one fails, all go back.
func Rolling(all []*machine.State) bool {
	for _, s := range all {
		if !s.Over && s.Stop == 0 && (s.Due || s.Leave != machine.NoLeave || s.Situation() == machine.Swapping) {
			return true
		}
	}
	return false
}

// Withdrawn returns what the other instances are told when one withdraws a release. who
// is how that one is called.
func Withdrawn(e machine.Effect, who string) machine.Event {
	return machine.Event{Kind: machine.Withdrawn, Release: e.Release, Reason: who + ": " + e.Text, Swap: e.Swap}
}
