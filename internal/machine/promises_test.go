package machine

import (
	"fmt"
	"slices"
	"strings"
)

// check says what is wrong with a step, "" if nothing is.
func check(before State, ev Event, after State, effects []Effect, p *Policy) string {
	var current, starting int
	seen := 0
	for _, g := range after.Gens {
		if g.N <= seen || g.N >= after.Next {
			return "the generations are not in order"
		}
		seen = g.N
		switch g.Phase {
		case Current:
			current++
		case Preparing, Candidate:
			starting++
		}
	}
	if current > 1 {
		return "two generations are current"
	}
	if starting > 1 {
		return "two generations start at once"
	}
	if before.Over && (len(effects) > 0 || key(before) != key(after)) {
		return "something happens after the verdict"
	}
	exits := 0
	for _, e := range effects {
		if e.Kind == Exit {
			exits++
		}
		if e.Kind == Tell || e.Kind == Kill {
			g := before.Find(e.N)
			if g == nil || g.Phase == Preparing && ev.Kind != Started && ev.Kind != Resumed {
				return fmt.Sprintf("%v to generation %d, which has no process", e.Kind, e.N)
			}
			if e.Kind == Tell && g.Phase == Lingering {
				return fmt.Sprintf("generation %d gets a signal, and its main process has ended", e.N)
			}
		}
	}
	if exits > 1 || (exits == 1) != (after.Over && !before.Over) {
		return "the verdict is not given exactly once"
	}
	if after.Over {
		return ""
	}
	for _, e := range effects {
		if p.Once && e.Kind == Prepare && ev.Kind != Resumed && (before.starting() != nil || before.In(Current) != nil) && ev.Kind != Exited && ev.Kind != NotStarted {
			return "it runs twice at a time"
		}
	}
	if p.Once && after.Over && before.Stop == 0 && after.Stop == 0 && after.Status != 0 && before.Fails < p.Retries {
		return "it is given up before it was tried as often as told"
	}
	// The promise: who serves is only terminated once a newer one is ready.
	if was := before.In(Current); was != nil && !was.Hung && !was.Overran && before.Stop == 0 && after.Stop == 0 {
		now := after.Find(was.N)
		died := ev.Kind == Exited && ev.N == was.N
		hangs := ev.N == was.N && (ev.Kind == RunTimedOut || ev.Kind == WatchdogTimedOut || ev.Kind == Triggered || ev.Kind == DrainTimedOut)
		if !died && !hangs && (now == nil || now.Phase != Current || now.Terminated || now.Killed) {
			next := after.In(Current)
			if next == nil || next.N <= was.N || next.Terminated || next.Killed {
				return fmt.Sprintf("generation %d served and goes, and none has taken over", was.N)
			}
		}
	}
	if after.Again && (after.Stop != 0 || after.starting() == nil) {
		return "what is to follow the start under way follows nothing"
	}
	if after.RestartDue && after.Situation() != Down {
		return "a restart is due, and it is not down"
	}
	if after.Situation() == Down && !after.RestartDue && after.Next > 1 {
		return "nothing runs, and nothing will be started"
	}
	if !p.Once && (ev.Kind == Reload || ev.Kind == Changed && ev.Release == "") && before.Stop == 0 && after.Next == before.Next && !after.Again && !after.Delayed && !(after.Noted && ev.Kind == Changed) && !after.Due {
		return "what was asked for is forgotten"
	}
	if before.OnHold && ev.Kind == Changed && after.Next != before.Next {
		return "a change is acted upon, though swaps are on hold"
	}
	if before.OnHold && ev.Kind == Changed && after.Due && !before.Due {
		return "a change is due, though swaps are on hold"
	}
	// The promise of --swap-through: no swap without leave, one command at a time, and
	// no swap that waits for nothing.
	for _, e := range effects {
		swaps := e.Cause == ByChange || e.Cause == ByReload || e.Cause == ByDeploy || e.Cause == BySignal || e.Cause == ByAutoRestart
		swaps = swaps || p.InTurn && e.Cause == ByRollback
		if p.needsLeave() && e.Kind == Prepare && swaps && ev.Kind != Resumed && before.In(Current) != nil && after.In(Current) != nil && before.Leave != LeaveGiven && after.Leave != LeaveGiven {
			return "a swap has begun without leave"
		}
		if e.Kind == AskLeave && before.Leave != NoLeave && ev.Kind != LeaveEnded && ev.Kind != LeaveLost {
			return "leave is asked for twice"
		}
	}
	if after.Situation() == Waiting && after.Leave == NoLeave {
		return "a swap waits, and nobody is asked"
	}
	if after.Leave == LeaveGiven && after.starting() == nil || (after.Leave == LeaveAsked || after.Leave == LeaveHere) && !after.Due {
		return "leave was asked for or given, and there is no swap"
	}
	if after.Noted && !after.OnHold {
		return "a change was noted, and nothing will act upon it"
	}
	if ev.Kind == Changed && ev.Release != "" && before.Rejection(ev.Release) != nil && after.Next != before.Next {
		return "a rejected release is started again"
	}
	if after.Delayed && after.Situation() == Down {
		return "a change waits, and nothing serves"
	}
	unread := 0
	if slices.ContainsFunc(after.GoodReleases, func(g Good) bool { return strings.HasPrefix(g.Release, Unread) }) {
		unread = 1
	}
	if len(after.GoodReleases) > mostGood+unread || len(after.Rejected) > mostRejected {
		return "what is remembered of releases is not bounded"
	}
	// What was rolled back by hand comes back by name, or with new content, or
	// when somebody asks for what is there, and never by itself.
	asked := before.Again || before.Due || ev.Kind == Changed || ev.Kind == Unhold || ev.Kind == Deployed || ev.Kind == Reload || ev.Kind == SwapDelayOver ||
		ev.Kind == Rollback && ev.Release != "" || ev.Kind == Resumed || ev.Kind == Boot
	for _, e := range effects {
		release := e.Release
		if e.Source == Newest {
			release = after.Newest
		}
		if e.Kind != Prepare || asked {
			continue
		}
		if r := after.Rejection(release); r != nil && r.ByHand {
			return fmt.Sprintf("release %s was rolled back by hand, and is started again", release)
		}
	}
	// Where another one serves, a candidate of a program with sockets becomes
	// current only if it accepted, or nothing came, or nobody can tell.
	if was, now := before.In(Current), after.In(Current); was != nil && now != nil && now.N > was.N && before.Stop == 0 && ev.Kind != Exited &&
		(p.Ready == ReadyAuto || p.Ready == ReadyAccept) && ev.Kind != QuietOver && !now.Accepted && !now.Blind {
		return fmt.Sprintf("generation %d takes over, and has not accepted", now.N)
	}
	for t := range Timers(after, *p) {
		if t.Kind < Boot && after.Find(t.N) == nil {
			return fmt.Sprintf("timer %v is for a generation that is gone", t)
		}
	}
	return ""
}
