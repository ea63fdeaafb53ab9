package machine

import "fmt"

// Happening is what an event came to, for who watches a program from outside
// (--on-event, --log-format json). Its names are documented.
type Happening struct {
	Kind    string
	N       int    // the generation, 0 for the program as a whole
	Release string // its short name, "" where it is not known
	Reason  string
	Status  int // of Ended and Over
}

// The kinds of a Happening.
const (
	DidStart     = "started"     // it runs
	DidReady     = "ready"       // it serves, and is current
	DidReject    = "rejected"    // it failed before it served
	DidEnd       = "ended"       // its main process has ended
	DidStall     = "stalled"     // it accepts nothing of what comes
	DidRecover   = "recovered"   // it accepts again
	DidRollBack  = "rolled-back" // the release before is started in its place
	DidBeginStop = "stopping"    // the program was told to stop
	DidStop      = "stopped"     // the program is over
)

// Happened says what an event came to: Next led from before to after, with effects. It
// decides nothing.
func Happened(before, after *State, ev Event, effects []Effect) (list []Happening) {
	add := func(kind string, n int, release, reason string) *Happening {
		if release = Short(release); release == "?" {
			release = ""
		}
		list = append(list, Happening{Kind: kind, N: n, Release: release, Reason: reason})
		return &list[len(list)-1]
	}
	was := before.Find(ev.N)
	if ev.Kind == Exited && was != nil && was.Phase != Lingering {
		add(DidEnd, ev.N, was.Release, ev.Reason).Status = ev.Status
	}
	for i := range after.Gens {
		g := &after.Gens[i]
		old := before.Find(g.N)
		begun := old != nil && old.Phase != Preparing
		if !begun && g.Phase != Preparing && g.Phase != Lingering {
			add(DidStart, g.N, g.Release, g.Cause.String())
		}
		if g.Phase == Current && (old == nil || old.Phase != Current) {
			add(DidReady, g.N, g.Release, "")
		}
		switch stalled := old != nil && old.Stalled; {
		case g.Stalled && !stalled:
			add(DidStall, g.N, g.Release, ev.Reason)
		case stalled && !g.Stalled && g.Phase == Current:
			add(DidRecover, g.N, g.Release, "")
		}
	}
	for i := range effects {
		switch e := &effects[i]; {
		case e.Kind == Outcome && !e.OK && !e.None:
			g := after.Find(e.N)
			release := e.Release
			if g != nil && release == "" {
				release = g.Release
			}
			if g == nil || g.Phase != Retiring || after.Rejection(g.Release) != nil {
				add(DidReject, e.N, release, e.Text)
			} // else its content was replaced, or taken back
		case e.Kind == Prepare && (e.Cause == ByFailure || e.Cause == ByRollback):
			from, reason := before.Current(), ev.Reason
			if from == nil {
				from = was
			}
			if e.Cause == ByRollback {
				reason = "by hand"
			}
			if from != nil {
				add(DidRollBack, from.N, from.Release, reason)
			}
		case e.Kind == Exit:
			text := e.Text
			switch { // which does not depend on what is printed
			case e.Stopped:
				text = "it was told to stop (" + after.StopReason + ")"
			case text == "":
				text = fmt.Sprintf("exited with status %d", e.Status)
			}
			add(DidStop, 0, "", text).Status = e.Status
		}
	}
	if before.Stop == 0 && after.Stop != 0 {
		add(DidBeginStop, 0, "", after.StopReason)
	}
	return list
}
