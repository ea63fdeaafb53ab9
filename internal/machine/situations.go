package machine

import (
	"cmp"
	"slices"
)

// The cells of the tables of situations, in the tables' order, and what these share.

func downBoot(m *step, ev Event) {
	m.s.Newest = ev.Release
	if r := m.s.Rejection(ev.Release); r != nil {
		if good := m.s.lastGood(""); good != "" {
			m.notStarted(r, "the last good release, "+Short(good)+", is started instead")
			m.begin(ByBoot, Held, good)
			return
		}
		m.say(anError, "release %s was rejected before: %s; it is started all the same, for no other is kept", Short(r.Release), r.Reason)
	}
	m.begin(ByBoot, Newest, "")
}

// recalled takes in what is known of a release from before hotinit was started.
// What has happened since then counts more.
func recalled(m *step, ev Event) {
	runs := slices.ContainsFunc(m.s.Gens, func(g Gen) bool { return g.Release == ev.Release && g.Phase != Lingering })
	switch {
	case ev.Release == "":
	case ev.Reason != "":
		if m.s.Rejection(ev.Release) == nil && len(m.s.Rejected) < mostRejected && !runs {
			m.s.Rejected = slices.Insert(m.s.Rejected, 0, Rejection{ev.Release, ev.Reason, ev.ByHand})
		}
	case m.s.goodIndex(ev.Release) < 0 && len(m.s.GoodReleases) < mostGood:
		m.s.GoodReleases = slices.Insert(m.s.GoodReleases, 0, Good{Release: ev.Release})
	}
}

// startingResumed goes on with what the handoff before was starting. Where the
// app was executed it is a candidate by now; else its work is lost with it.
func startingResumed(m *step, ev Event) {
	for i := range m.s.Gens {
		g := &m.s.Gens[i]
		switch {
		case g.Phase != Preparing:
		case g.N == ev.N:
			m.candidate(g)
		default:
			unfork(g)
			m.prepare(g)
		}
	}
}

func stoppingResumed(m *step, ev Event) {
	for _, g := range slices.Clone(m.s.Gens) {
		switch {
		case g.Phase != Preparing:
		case g.N == ev.N:
			own := m.s.Find(g.N)
			own.Phase = Candidate
			m.terminate(own, m.stopSignal())
		default:
			m.remove(g.N)
			m.exitIfStopped()
		}
	}
}

func servingChanged(m *step, ev Event) {
	if m.p.Once {
		return // each run takes what is there; none runs beside another
	}
	if ev.Release != "" {
		m.s.Newest = ev.Release
		if r := m.s.Rejection(ev.Release); r != nil {
			m.notStarted(r, "nothing changes")
			return
		}
		if g := m.s.In(Current); g != nil && g.Release == ev.Release {
			m.say(aDecision, "%s", runsAlready(g))
			m.unnote()
			return // what was put back runs already
		}
	}
	if m.noted(ev.Release) || m.tooMany(ev) {
		return
	}
	m.swap(ByChange)
}

func startingChanged(m *step, ev Event) {
	if m.p.Once {
		return
	}
	g := m.s.starting()
	if ev.Release != "" {
		m.s.Newest = ev.Release
		if r := m.s.Rejection(ev.Release); r != nil {
			m.notStarted(r, "nothing changes")
			return
		}
	}
	if g.Phase == Preparing {
		// It is not known yet which content it took. One more look at what
		// is there then costs nothing if it is the same.
		m.later(false, ev.Release)
		return
	}
	if ev.Release != "" && ev.Release == g.Release {
		m.unnote()
		return
	}
	if m.noted(ev.Release) || m.tooMany(ev) {
		return
	}
	m.supersede(g, ev.Release, ByChange)
}

// servingDeployed starts what somebody has put there. That it was rejected before
// does not count: somebody asks for it.
func servingDeployed(m *step, ev Event) {
	if m.leftToNextRun(ev) {
		return
	}
	m.s.Newest = ev.Release
	if g := m.s.In(Current); g != nil && g.Release == ev.Release && !g.Stalled && !g.Hung {
		m.say(aDecision, "%s", runsAlready(g))
		m.do(Effect{Kind: Outcome, N: m.s.Next, Release: ev.Release, None: true, OK: true, Text: runsAlready(g)})
		return
	}
	m.unreject(ev.Release)
	m.swap(ByDeploy)
}

// leftToNextRun has a program that runs once take a release in its next run.
func (m *step) leftToNextRun(ev Event) bool {
	if m.p.Once {
		m.do(Effect{Kind: Outcome, N: m.s.Next, Release: ev.Release, None: true, OK: true, Text: "release " + Short(ev.Release) + " is in place, and the next run takes it (HOTINIT_RUN=once)"})
	}
	return m.p.Once
}

// startingDeployed is servingDeployed while another generation starts. The watcher
// may have seen the same file first: then that start is this one.
func startingDeployed(m *step, ev Event) {
	if m.leftToNextRun(ev) {
		return
	}
	g := m.s.starting()
	m.s.Newest = ev.Release
	if g.Phase == Candidate && g.Release == ev.Release {
		return
	}
	m.unreject(ev.Release)
	if g.Phase == Preparing {
		if m.later(false, ev.Release) {
			m.s.Asked = ByDeploy
		}
		return
	}
	m.supersede(g, ev.Release, ByDeploy)
}

func startingReload(m *step, ev Event) {
	if m.runsOnce() {
		return
	}
	if m.later(false, "") {
		m.s.Asked = askedBy(ev)
	}
}

func servingReload(m *step, ev Event) {
	if m.s.In(Current) != nil && m.runsOnce() {
		return
	}
	m.swap(askedBy(ev))
}

// runsOnce refuses another start beside a run of a program that runs once.
func (m *step) runsOnce() bool {
	if m.p.Once {
		m.do(Effect{Kind: Outcome, N: m.s.Next, None: true, Text: "it runs already, and never twice at a time (HOTINIT_RUN=once)"})
	}
	return m.p.Once
}

// askedBy is the cause of a generation that somebody asked for.
func askedBy(ev Event) Cause {
	if ev.Signal != 0 {
		return BySignal
	}
	return ByReload
}

func hold(m *step, _ Event) {
	if !m.s.OnHold {
		m.s.OnHold = true
		m.say(aDecision, "on hold: changes are noted, and not acted on (hotinit resume)")
		if m.s.Due && m.s.DueBy == ByChange {
			m.s.Noted, m.s.Note = true, m.s.Newest
			m.off(aDecision, "changes are only noted now")
		}
	}
}

// unhold acts upon the last change that was noted.
func unhold(m *step, _ Event) {
	if !m.s.OnHold {
		return
	}
	due, release := m.s.Noted, m.s.Note
	m.s.OnHold = false
	m.unnote()
	m.say(aDecision, "no longer on hold")
	if !due {
		return
	}
	change := Event{Kind: Changed, Release: release}
	switch m.s.Situation() {
	case Booting, Swapping:
		startingChanged(m, change)
	case Waiting:
		waitingChanged(m, change)
	default:
		servingChanged(m, change)
	}
}

// noted reports whether a change is only noted, since somebody has asked for that.
func (m *step) noted(release string) bool {
	if !m.s.OnHold {
		return false
	}
	if !m.s.Noted || m.s.Note != release {
		m.say(aDecision, "a change%s is noted, and not acted on: on hold (hotinit resume)", of(release))
	}
	m.s.Noted, m.s.Note = true, release
	return true
}

// unnote forgets a change that was noted: what is there is started, or runs.
func (m *step) unnote() { m.s.Noted, m.s.Note = false, "" }

func startingRollback(m *step, ev Event) {
	if m.noRollback() {
		return
	}
	m.later(true, "")
	m.s.BackTo = ev.Release
}

func servingRollback(m *step, ev Event) {
	if m.noRollback() {
		return
	}
	m.beginBack(ev.Release)
}

// noRollback refuses a rollback of a program that runs once.
func (m *step) noRollback() bool {
	if m.p.Once {
		m.do(Effect{Kind: Outcome, N: m.s.Next, None: true, Text: "cannot roll back: it runs once, and what it did stays done (HOTINIT_RUN=once)"})
	}
	return m.p.Once
}

func stoppingRefuses(m *step, _ Event) {
	m.do(Effect{Kind: Outcome, N: m.s.Next, None: true, Text: "hotinit is stopping"})
}

func swappingTraffic(m *step, _ Event) {
	if g := m.s.In(Candidate); g != nil && m.s.ready(m.p, g) {
		g.Traffic++
	}
}

func renamed(m *step, ev Event) { m.s.rename(ev.Release, ev.Name) }

func halt(m *step, ev Event) {
	m.s.Stop = ev.Signal
	m.s.StopReason = cmp.Or(ev.Reason, SignalName(ev.Signal))
	m.say(m.firstLevel(), "stops: %s%s", m.s.StopReason, m.whoGoes())
	if m.s.Next == 1 {
		m.s.Status = 128 + ev.Signal // nothing was started yet
	}
	m.s.RestartDue, m.s.Delayed, m.s.Swaps = false, false, 0
	m.unnote()
	m.undue()
	if m.s.Leave != NoLeave {
		m.s.Leave = NoLeave
		m.do(Effect{Kind: EndLeave, N: m.s.LeaveN})
	}
	m.forget()
	for i := range m.s.Gens {
		g := &m.s.Gens[i]
		switch {
		case g.Phase == Preparing:
			m.do(Effect{Kind: Cancel, N: g.N})
		case g.Phase != Lingering && !g.Terminated:
			m.terminate(g, m.stopSignal())
		}
	}
	m.exitIfStopped()
}

// stopSignal is what the app gets where hotinit was told to stop.
func (m *step) stopSignal() int {
	if sig, ok := m.p.StopSignals[m.s.Stop]; ok {
		return sig
	}
	return m.s.Stop
}

func stoppingSignal(m *step, ev Event) {
	sig := ev.Signal
	if to, ok := m.p.StopSignals[sig]; ok {
		sig = to
	}
	for _, g := range m.s.Gens {
		if g.Phase != Preparing && g.Phase != Lingering {
			m.do(Effect{Kind: Tell, N: g.N, Signal: sig})
		}
	}
}

func relay(m *step, ev Event) {
	sent := false
	for _, g := range m.s.Gens {
		if g.Phase == Current || g.Phase == Candidate {
			m.do(Effect{Kind: Tell, N: g.N, Signal: ev.Signal})
			sent = true
		}
	}
	if !sent {
		downRelay(m, ev)
	}
}

// downRelay keeps a signal for the next process. Like the kernel it keeps each
// number once, so this cannot grow.
func downRelay(m *step, ev Event) {
	if !slices.Contains(m.s.PendingSignals, ev.Signal) {
		m.s.PendingSignals = append(m.s.PendingSignals, ev.Signal)
	}
}

func downRestartDelayOver(m *step, _ Event) { m.beginAnother(ByRestart) }

func servingAutoRestartOver(m *step, _ Event) {
	if m.p.needsLeave() {
		m.swap(ByAutoRestart)
		return
	}
	m.beginAnother(ByAutoRestart)
}

func servingSwapDelayOver(m *step, _ Event) {
	m.s.Swaps++
	m.swap(ByChange)
}

func calmOver(m *step, _ Event) { m.s.Swaps = 0 }

func stoppingTimedOut(m *step, _ Event) {
	m.say(anError, "not all has ended in %v (--stop-timeout); it is killed", m.p.StopTimeout)
	for i := range m.s.Gens {
		if g := &m.s.Gens[i]; !g.Killed && g.Phase != Preparing {
			m.kill(g)
		}
	}
}
