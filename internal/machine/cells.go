package machine

import (
	"cmp"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// The cells of the tables, in the tables' order. A cell is called by its phase or
// situation, and its event.

// killedStatus is how a process ended that SIGKILL ended.
const killedStatus = 128 + int(unix.SIGKILL)

func setProcess(g *Gen, ev Event) {
	if ev.PID != 0 {
		g.PID, g.Start = ev.PID, ev.Start
	}
}

func preparingForked(_ *step, g *Gen, ev Event) {
	g.Release = ev.Release
	setProcess(g, ev)
}

func preparingRetried(_ *step, g *Gen, _ Event) { unfork(g) }

// unfork forgets the process of a generation that never executed the app.
func unfork(g *Gen) {
	g.PID, g.Start = 0, 0
	if g.Source == Newest {
		g.Release = ""
	}
}

func preparingStarted(m *step, g *Gen, ev Event) {
	g.Release = ev.Release
	setProcess(g, ev)
	m.candidate(g)
}

func preparingNotStarted(m *step, g *Gen, ev Event) {
	n, dead := g.N, *g
	m.newest(g, ev.Release)
	m.remove(n)
	if current := m.s.In(Current); current != nil && ev.Reason == "" && current.Release == ev.Release {
		m.do(Effect{Kind: Outcome, N: n, Release: ev.Release, None: true, OK: true, Text: runsAlready(current)})
		m.say(aDecision, "%s", runsAlready(current))
		m.beginAgain()
		return
	}
	if r := m.s.Rejection(ev.Release); r != nil && ev.Reason == "" {
		m.do(Effect{Kind: Outcome, N: n, Release: ev.Release, Text: "its content was rejected before: " + r.reason()})
		m.notStarted(r, "nothing changes")
		m.beginAgain()
		return
	}
	level := m.endLevel(ev.Status)
	if !m.s.Served && !m.p.RetryFirst {
		// There is no app to say what is wrong.
		m.say(anError, "cannot start the app: %s", ev.Reason)
		level = aDetail
	}
	m.reject(ev.Release, ev.Reason, false)
	dead.Release = ev.Release
	m.withdrawStart(&dead, ev.Reason)
	m.failed(n, ev.Release, ev.Status, ev.Reason, level)
}

func mainReplaced(_ *step, g *Gen, ev Event) { setProcess(g, ev) }

func candidateWaits(m *step, g *Gen, _ Event) {
	g.Waits = true
	m.decide(g)
}

func candidateAccepted(m *step, g *Gen, _ Event) {
	g.Accepted = true
	m.decide(g)
}

func candidateNotified(m *step, g *Gen, _ Event) {
	m.notified(g)
	m.decide(g)
}

func currentNotified(m *step, g *Gen, _ Event) { m.notified(g) }

func candidateBlind(m *step, g *Gen, ev Event) {
	if m.p.Ready != ReadyAuto && m.p.Ready != ReadyAccept {
		return
	}
	g.Blind = true
	if !m.s.BlindSaid {
		m.s.BlindSaid = true
		m.say(aDecision, "whether generation %d waits for connections cannot be told (%s); generations count as ready after %v (--interval)", g.N, ev.Reason, m.p.Interval)
	}
	m.decide(g)
}

func candidateReady(m *step, g *Gen, _ Event) { m.promote(g) }

func currentStalled(m *step, g *Gen, ev Event) {
	if g.Stalled || g.Hung || m.p.Once {
		return
	}
	g.Stalled = true
	switch next := m.s.starting(); {
	case next != nil:
		m.say(anError, "generation %d does not accept%s: %s; generation %d, which is starting, takes over once it is ready", g.N, of(g.Release), ev.Reason, next.N)
	case m.rollBack(g, "does not accept ("+ev.Reason+")"):
	case m.p.OnStall:
		m.say(anError, "generation %d does not accept%s: %s; another one is started (--on-stall)", g.N, of(g.Release), ev.Reason)
		m.beginAnother(ByStall)
	default:
		m.say(anError, "generation %d does not accept%s: %s; it stays, for there is no other", g.N, of(g.Release), ev.Reason)
	}
}

func currentStallOver(m *step, g *Gen, _ Event) {
	if !g.Stalled {
		return
	}
	g.Stalled = false
	if next := m.s.starting(); next != nil {
		// The two share their sockets, so it is not known which of them accepts.
		m.say(aDecision, "connections are accepted again, by generation %d or %d", g.N, next.N)
		return
	}
	m.say(aDecision, "generation %d accepts connections again", g.N)
}

func candidateBeat(_ *step, g *Gen, ev Event) {
	if ev.Delay == 0 {
		return // WATCHDOG=1 is no sign of readiness, nor a claim to time
	}
	g.Beats++
	g.Extended = ev.Delay
}

func currentBeat(_ *step, g *Gen, ev Event) {
	g.Beats++
	g.Extended = ev.Delay
}

func currentHangs(m *step, g *Gen, ev Event) {
	if g.Hung {
		return
	}
	g.Hung = true
	m.say(anError, "generation %d did not tell its watchdog that it lives%s; it is ended with SIGABRT, and another one is started (--watchdog)", g.N, of(g.Release))
	m.do(Effect{Kind: Tell, N: g.N, Signal: int(unix.SIGABRT)})
}

func candidateExited(m *step, g *Gen, ev Event) {
	n, release := g.N, g.Release
	m.linger(g, ev.Reason)
	m.reject(release, ev.Reason, false)
	m.withdrawStart(g, ev.Reason)
	m.failed(n, release, ev.Status, ev.Reason, m.endLevel(ev.Status))
}

func currentExited(m *step, g *Gen, ev Event) {
	dead := *g
	m.s.Status = ev.Status
	m.linger(g, ev.Reason)
	if m.p.Once {
		m.onceEnded(dead.N, dead.Release, ev.Status, ev.Reason)
		return
	}
	if spared := m.spared(); spared != nil {
		m.reject(dead.Release, ev.Reason, false)
		m.withdraw(dead.Release, ev.Reason, false)
		m.say(anError, "generation %d %s%s; generation %d, which was not terminated yet, serves again%s", dead.N, ev.Reason, of(dead.Release), spared.N, of(spared.Release))
		spared.Phase = Current
		m.do(Effect{Kind: Foreground, N: spared.N})
		return
	}
	if next := m.s.starting(); next != nil {
		m.say(anError, "generation %d %s%s; generation %d, which is starting, takes over once it is ready", dead.N, ev.Reason, of(dead.Release), next.N)
		if next.Phase == Candidate {
			m.decide(next) // nothing serves beside it any more
		}
		return
	}
	if !dead.Overran && m.rollBack(&dead, ev.Reason) {
		return
	}
	if dead.Hung {
		m.restart(dead.N, dead.Release, ev.Reason, "--watchdog")
		return
	}
	m.onExit(m.endLevel(ev.Status), dead.N, dead.Release, ev.Reason)
}

// spared returns the generation that still serves since --kill-old-delay is
// not over, or nil.
func (m *step) spared() *Gen {
	g := m.s.In(Retiring)
	if g == nil || g.Terminated || g.Killed {
		return nil
	}
	return g
}

func retiringExited(m *step, g *Gen, ev Event) {
	m.linger(g, ev.Reason)
	m.exitIfStopped()
}

func lingeringEmpty(m *step, g *Gen, _ Event) { m.remove(g.N) }

func candidateIntervalOver(m *step, g *Gen, _ Event) {
	g.Lived = true
	m.decide(g)
}

func candidateReadyTimedOut(m *step, g *Gen, _ Event) {
	reason := "it was not ready in time (--ready-timeout)"
	current := m.s.In(Current)
	switch waits := g.Waits || g.Accepted || g.Blind && g.Lived; {
	case m.s.ready(m.p, g) && current != nil:
		reason = "it waits for connections, and accepted none of those that came in time (--ready-timeout)"
	case waits && m.p.Ready == ReadyAuto:
		reason = "it waits for connections, and did not say READY=1 in time (--ready-timeout), as others of this program do"
	case m.p.Ready == ReadyAuto || m.p.Ready == ReadyAccept:
		reason = "it did not wait for connections in time (--ready-timeout)"
	case m.p.Ready == ReadyNotify:
		reason = "it did not say READY=1 in time (--ready-timeout)"
	}
	m.giveUp(g, reason)
}

// giveUp rejects a candidate whose process runs. It may have accepted connections,
// so it is terminated before it is killed.
func (m *step) giveUp(g *Gen, reason string) {
	n := g.N
	m.reject(g.Release, reason, false)
	m.withdrawStart(g, reason)
	g.Phase = Retiring
	m.terminate(g, m.p.RetireSignal)
	m.failed(n, g.Release, killedStatus, reason, m.endLevel(killedStatus))
}

func retiringKillOldDelayOver(m *step, g *Gen, _ Event) {
	m.retire(g)
	m.boundOld()
}

func currentDrainTimedOut(m *step, g *Gen, _ Event) {
	m.say(anError, "generation %d did not end in %v; it is killed%s", g.N, hungFor(m.p), of(g.Release))
	m.kill(g)
}

func retiringDrainTimedOut(m *step, g *Gen, _ Event) {
	m.say(anError, "generation %d did not go in %v (--drain-timeout); it is killed%s", g.N, m.p.DrainTimeout, of(g.Release))
	m.kill(g)
}

func lingeringDrainTimedOut(m *step, g *Gen, _ Event) {
	m.say(aDecision, "generation %d has left processes that did not end in %v (--drain-timeout); they are killed", g.N, m.p.DrainTimeout)
	m.kill(g)
}

func currentProbationOver(m *step, g *Gen, _ Event) { m.prove(g) }

func currentSteadyOver(m *step, _ *Gen, _ Event) { m.s.Fails = 0 }

func candidateOverran(m *step, g *Gen, _ Event) {
	m.giveUp(g, fmt.Sprintf("it was not ready within %v (--max-runtime)", m.p.MaxRuntime))
}

func currentOverran(m *step, g *Gen, _ Event) {
	if g.Overran || g.Hung {
		return
	}
	g.Overran = true
	m.say(aDecision, "generation %d has run for %v%s; it is told to go (%s) (--max-runtime)", g.N, m.p.MaxRuntime, of(g.Release), SignalName(m.p.RetireSignal))
	m.do(Effect{Kind: Tell, N: g.N, Signal: m.p.RetireSignal})
}

func stoppingStarted(m *step, g *Gen, ev Event) {
	g.Release = ev.Release
	setProcess(g, ev)
	g.Phase = Candidate
	m.terminate(g, m.stopSignal())
	m.deliver(g)
}

func stoppingNotStarted(m *step, g *Gen, ev Event) {
	m.do(Effect{Kind: Outcome, N: g.N, Text: ev.Reason})
	if !m.s.Served {
		m.s.Status = 128 + m.s.Stop
	}
	m.remove(g.N)
	m.exitIfStopped()
}

func stoppingCandidateExited(m *step, g *Gen, ev Event) {
	m.linger(g, ev.Reason)
	m.do(Effect{Kind: Outcome, N: g.N, Text: ev.Reason})
	if !m.s.Served {
		m.s.Status = ev.Status
	}
	m.exitIfStopped()
}

func stoppingCurrentExited(m *step, g *Gen, ev Event) {
	m.s.Status = ev.Status
	m.linger(g, ev.Reason)
	m.exitIfStopped()
}

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
