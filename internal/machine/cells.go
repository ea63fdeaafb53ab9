package machine

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// The cells of the tables of phases, in the tables' order. A cell is called by its phase or
// situation, and its event; those of situations are in situations.go.

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
		m.say(aDecision, "whether generation %d waits for connections cannot be told (%s); as long as that is so, generations count as ready after %v (--interval)", g.N, ev.Reason, m.p.Interval)
	}
	m.decide(g)
}

// candidateBlindOver forgets how long it has lived, too: that counts only while it
// cannot be told whether it waits.
func candidateBlindOver(m *step, g *Gen, _ Event) {
	if m.p.Ready != ReadyAuto && m.p.Ready != ReadyAccept {
		return
	}
	g.Blind, g.Lived = false, false
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
		m.withdraw(&dead, ev.Reason, false)
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
