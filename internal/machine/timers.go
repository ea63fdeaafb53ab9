package machine

import (
	"fmt"
	"slices"
	"time"
)

// Timer names a timer that runs: what happens when it runs out, and to which
// generation. A greater Beat makes it another timer, which starts anew.
type Timer struct {
	Kind EventKind
	N    int
	Beat int
}

func (t Timer) String() string { return fmt.Sprintf("%v %d", t.Kind, t.N) }

// Event is what follows when a timer runs out.
func (t Timer) Event() Event { return Event{Kind: t.Kind, N: t.N} }

// Timers returns the timers that run in a state, with how long each runs from
// when it first appears. Nobody arms or disarms a timer: the loop compares.
func Timers(s State, p Policy) map[Timer]time.Duration {
	run := make(map[Timer]time.Duration)
	arm := func(kind EventKind, n, beat int, d time.Duration) { run[Timer{kind, n, beat}] = d }
	if s.Over {
		return run
	}
	for _, g := range s.Gens {
		switch {
		case g.Killed || g.Phase == Preparing:
		case (g.Hung || g.Overran) && g.Phase == Current:
			arm(DrainTimedOut, g.N, 0, hungFor(&p))
		case g.Phase == Lingering || g.Phase == Retiring && g.Terminated:
			if p.DrainTimeout > 0 {
				arm(DrainTimedOut, g.N, 0, p.DrainTimeout)
			}
		case s.Stop != 0:
		case g.Phase == Candidate:
			candidateTimers(&s, &p, &g, arm)
			if p.MaxRuntime > 0 {
				arm(RunTimedOut, g.N, 0, p.MaxRuntime)
			}
		case g.Phase == Retiring:
			arm(KillOldDelayOver, g.N, 0, p.KillOldDelay)
		case g.Phase == Current:
			if !g.Proven && !g.Stalled && !p.Rolling {
				arm(ProbationOver, g.N, 0, p.Probation)
			}
			if p.MaxRuntime > 0 {
				arm(RunTimedOut, g.N, 0, p.MaxRuntime)
			}
			if s.Fails > 0 && !p.Once {
				arm(SteadyOver, g.N, 0, steadyAfter)
			}
			if p.Watchdog > 0 {
				arm(WatchdogTimedOut, g.N, g.Beats, max(p.Watchdog, g.Extended))
			}
			if p.AutoRestart > 0 && s.Situation() == Serving && !s.OnHold {
				arm(AutoRestartOver, g.N, 0, p.AutoRestart)
			}
		}
	}
	if p.LeaveTimeout > 0 && s.Stop == 0 && !s.LeaveLate {
		switch s.Leave {
		case LeaveAsked, LeaveHere:
			arm(LeaveTimedOut, s.LeaveN, 0, p.LeaveTimeout)
		case LeaveUsed:
			arm(LeaveTimedOut, s.LeaveN, 1, p.LeaveTimeout) // from when its swap was decided
		}
	}
	switch {
	case s.Stop != 0:
		if p.StopTimeout > 0 && slices.ContainsFunc(s.Gens, func(g Gen) bool { return !g.Killed }) {
			arm(StopTimedOut, 0, 0, p.StopTimeout)
		}
	case s.RestartDue:
		arm(RestartDelayOver, s.Next, 0, restartDelay(s, p))
	case s.Delayed:
		if s.Situation() == Serving && !s.OnHold {
			arm(SwapDelayOver, s.Next, 0, swapDelay(s))
		}
	case s.Swaps > 0:
		arm(CalmOver, s.Next, 0, loopWindow)
	}
	return run
}

func candidateTimers(s *State, p *Policy, g *Gen, arm func(kind EventKind, n, beat int, d time.Duration)) {
	timed := p.Ready == ReadyInterval || (p.Ready == ReadyAuto || p.Ready == ReadyAccept) && g.Blind
	if timed && !g.Lived {
		arm(IntervalOver, g.N, 0, p.Interval)
	}
	waits := s.ready(p, g) // and something serves, or it would be current
	if waits {
		arm(QuietOver, g.N, g.Traffic, p.Interval)
	}
	switch {
	case p.ReadyTimeout > 0:
		arm(ReadyTimedOut, g.N, g.Beats, max(p.ReadyTimeout, g.Extended))
	case waits && g.Traffic > 0:
		arm(ReadyTimedOut, g.N, g.Beats, max(acceptWithin, g.Extended))
	}
}

// acceptWithin bounds how long a candidate may wait for connections, and accept
// none of those that come, where --ready-timeout bounds nothing.
const acceptWithin = 60 * time.Second

// hungFor is how long a generation may take to end once it got SIGABRT, since it
// hangs: as long as one that drains, and never for ever.
func hungFor(p *Policy) time.Duration {
	if p.DrainTimeout > 0 {
		return p.DrainTimeout
	}
	return acceptWithin
}

// steadyAfter is how long a generation has to serve for the next restart to be
// at once again. It is not the probation: that may be short, or none.
const steadyAfter = 10 * time.Second

// longestDelay bounds the wait between two restarts.
const longestDelay = 30 * time.Second

// restartDelay is how long a restart waits: nothing the first time, then
// twice as long each time, so that an app that dies at once burns no processor. What
// runs once is tried again only where somebody asked for it: what it waits for may
// need a moment.
func restartDelay(s State, p Policy) time.Duration {
	switch {
	case p.Once:
		return min(time.Second<<min(max(s.Fails-1, 0), 10), longestDelay)
	case !s.Served && p.RetryLater:
		return min(100*time.Millisecond<<min(max(s.Fails-1, 0), 10), longestDelay)
	case !s.Served:
		return max(p.Interval, 100*time.Millisecond)
	}
	if s.Fails <= 1 {
		return 0
	}
	return min(100*time.Millisecond<<min(s.Fails-2, 10), longestDelay)
}

const (
	// loopWindow is how soon after a start a change in a watched directory
	// counts as the app's own doing.
	loopWindow = 5 * time.Second
	// mostSwaps is how many such changes in a row are acted upon at once.
	mostSwaps = 3
	// longestSwapDelay bounds the wait for the next.
	longestSwapDelay = 10 * time.Minute
)

// swapDelay is how long a change waits that came after too many.
func swapDelay(s State) time.Duration {
	return min(10*time.Second<<min(max(s.Swaps-mostSwaps, 0), 10), longestSwapDelay)
}
