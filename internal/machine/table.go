package machine

import "slices"

// The tables say for each phase of a generation, and for each situation of the
// program, what each event does. docs/design.md has them as a test prints them.

type (
	genFunc     = func(*step, *Gen, Event)
	programFunc = func(*step, Event)
)

var (
	ignore   = cell[genFunc]{"–", func(*step, *Gen, Event) {}}
	started  = cell[genFunc]{"becomes candidate", becomesCandidate}
	refused  = cell[genFunc]{"rejected", refuse}
	ready    = cell[genFunc]{"becomes current; the one before retires", becomesCurrent}
	gaveUp   = cell[genFunc]{"rejected", candidateEnded}
	ended    = cell[genFunc]{"rollback, or --on-exit", currentEnded}
	gone     = cell[genFunc]{"lingers", retiringEnded}
	empty    = cell[genFunc]{"forgotten", func(m *step, g *Gen, _ Event) { m.remove(g.N) }}
	expired  = cell[genFunc]{"ready by interval, or rejected by time-out", candidateExpired}
	proven   = cell[genFunc]{"proven, or killed by the watchdog", currentExpired}
	drained  = cell[genFunc]{"told to go, or killed", retiringExpired}
	killed   = cell[genFunc]{"killed", lingeringExpired}
	extended = cell[genFunc]{"its time starts anew", extend}
)

// generationTable is what happens to one generation. The event that ends each
// phase is there in each row, though some cannot come; see ignore.
var generationTable = [...][Beat + 1]cell[genFunc]{
	Preparing: {Started: started, NotStarted: refused, Ready: ignore, Exited: ignore, Empty: ignore, Expired: ignore, Beat: ignore},
	Candidate: {Started: ignore, NotStarted: ignore, Ready: ready, Exited: gaveUp, Empty: ignore, Expired: expired, Beat: extended},
	Current:   {Started: ignore, NotStarted: ignore, Ready: ignore, Exited: ended, Empty: ignore, Expired: proven, Beat: extended},
	Retiring:  {Started: ignore, NotStarted: ignore, Ready: ignore, Exited: gone, Empty: ignore, Expired: drained, Beat: ignore},
	Lingering: {Started: ignore, NotStarted: ignore, Ready: ignore, Exited: ignore, Empty: empty, Expired: killed, Beat: ignore},
}

func becomesCandidate(m *step, g *Gen, ev Event) {
	g.Phase, g.Release, g.PID, g.Start = Candidate, ev.Release, ev.PID, ev.Start
	if m.s.Stop != 0 {
		m.tell(g, m.stopSignal())
	}
	for _, sig := range m.s.Held {
		m.do(Effect{Kind: Tell, N: g.N, Signal: sig})
	}
	m.s.Held = nil
}

func refuse(m *step, g *Gen, ev Event) {
	n := g.N
	if !m.s.Served && m.s.Stop == 0 && !m.p.RetryFirst {
		// There is no app to say what is wrong.
		m.say("cannot start the app: %s", ev.Reason)
	}
	m.reject(ev.Release, ev.Reason)
	m.remove(n)
	m.failed(n, ev.Status, ev.Reason)
}

func becomesCurrent(m *step, g *Gen, _ Event) {
	if m.s.Stop == 0 {
		m.promote(g)
	}
}

func candidateEnded(m *step, g *Gen, ev Event) {
	n, release := g.N, g.Release
	m.linger(g)
	if m.s.Stop == 0 {
		m.reject(release, ev.Reason)
	}
	m.failed(n, ev.Status, ev.Reason)
}

func candidateExpired(m *step, g *Gen, ev Event) {
	switch {
	case m.s.Stop != 0:
	case ev.Timer == IntervalTimer:
		m.promote(g)
	case ev.Timer == ReadyTimer:
		// It may have accepted connections, so it is told before it is killed.
		reason := "it was not ready in time (--ready-timeout)"
		n := g.N
		if !m.s.Served && !m.p.RetryFirst {
			m.say("generation %d failed: %s", n, reason)
		}
		m.reject(g.Release, reason)
		g.Phase = Retiring
		m.tell(g, m.p.RetireSignal)
		m.failed(n, 128+9, reason)
	}
}

func currentEnded(m *step, g *Gen, ev Event) {
	dead := *g
	m.s.Status = ev.Status
	m.linger(g)
	if m.exitIfStopped() || m.s.Stop != 0 {
		return
	}
	if spared := m.spared(); spared != nil {
		m.reject(dead.Release, ev.Reason)
		m.say("generation %d %s; generation %d, which was not told to go yet, serves again", dead.N, ev.Reason, spared.N)
		spared.Phase = Current
		m.do(Effect{Kind: Foreground, N: spared.N})
		return
	}
	if next := m.s.starting(); next != nil {
		m.say("generation %d %s; generation %d, which is starting, takes over once it is ready", dead.N, ev.Reason, next.N)
		return
	}
	if good := m.s.good(); !dead.Proven && good != "" && good != dead.Release {
		m.reject(dead.Release, ev.Reason)
		m.say("generation %d %s in its probation; the last good release is started again", dead.N, ev.Reason)
		m.begin(Held, good)
		return
	}
	m.onExit(dead.N, ev.Reason)
}

// spared returns the generation that still serves since --kill-old-delay is
// not over, or nil.
func (m *step) spared() *Gen {
	g := m.s.In(Retiring)
	if g == nil || g.Told || g.Killed {
		return nil
	}
	return g
}

func currentExpired(m *step, g *Gen, ev Event) {
	switch ev.Timer {
	case ProbationTimer:
		m.prove(g)
	case SteadyTimer:
		m.s.Fails = 0
	case WatchdogTimer:
		m.say("generation %d did not tell its watchdog that it lives; it is ended with SIGABRT", g.N)
		g.Hung = true
		m.do(Effect{Kind: Tell, N: g.N, Signal: 6})
	case DrainTimer:
		m.kill(g)
	}
}

func retiringEnded(m *step, g *Gen, ev Event) {
	m.linger(g)
	m.exitIfStopped()
}

func retiringExpired(m *step, g *Gen, ev Event) {
	switch ev.Timer {
	case KillOldTimer:
		m.retire(g)
		m.boundOld()
	case DrainTimer:
		m.say("generation %d did not go in %v (--drain-timeout); it is killed", g.N, m.p.DrainTimeout)
		m.kill(g)
	}
}

// lingeringExpired kills what its main process left behind. A watchdog that is
// triggered by hand (WATCHDOG=trigger) is no reason to.
func lingeringExpired(m *step, g *Gen, ev Event) {
	if ev.Timer == DrainTimer {
		m.kill(g)
	}
}

func extend(m *step, g *Gen, ev Event) {
	if g.Phase == Candidate && ev.Delay == 0 {
		return // a watchdog's beat is no sign of readiness, nor a claim to time
	}
	g.Beats++
	g.Extended = ev.Delay
}

var (
	nothing   = cell[programFunc]{"–", func(*step, Event) {}}
	boot      = cell[programFunc]{"start generation 1", func(m *step, _ Event) { m.begin(Newest, "") }}
	resume    = cell[programFunc]{"prepare anew what was being prepared", resumePreparing}
	swap      = cell[programFunc]{"start the new content", swapTo}
	supersede = cell[programFunc]{"retire the one that starts, start the newer content", supersedeBy}
	begin     = cell[programFunc]{"start another", func(m *step, _ Event) { m.begin(Newest, "") }}
	again     = cell[programFunc]{"one more start follows", func(m *step, _ Event) { m.later(false, "") }}
	back      = cell[programFunc]{"start the last good release", func(m *step, _ Event) { m.beginBack() }}
	backAfter = cell[programFunc]{"a rollback follows", func(m *step, _ Event) { m.later(true, "") }}
	denied    = cell[programFunc]{"refused", func(m *step, _ Event) {
		m.do(Effect{Kind: Outcome, N: m.s.Next, Text: "hotinit is stopping"})
	}}
	halt      = cell[programFunc]{"tell all to go", haltAll}
	haltAgain = cell[programFunc]{"pass it on to all", passOn}
	relay     = cell[programFunc]{"to current and candidate", relayOn}
	keep      = cell[programFunc]{"kept for the next", func(m *step, ev Event) { m.hold(ev.Signal) }}
	restarted = cell[programFunc]{"start what should run", func(m *step, _ Event) { m.beginRestart() }}
	killAll   = cell[programFunc]{"kill all", killEverything}
)

// programTable is what happens to the program as a whole.
var programTable = [...][Stopping + 1]cell[programFunc]{
	0:                     {Booting: nothing, Serving: nothing, Swapping: nothing, Down: boot, Stopping: nothing},
	Resumed - Boot:        {Booting: resume, Serving: nothing, Swapping: resume, Down: nothing, Stopping: resume},
	Changed - Boot:        {Booting: supersede, Serving: swap, Swapping: supersede, Down: swap, Stopping: nothing},
	Reload - Boot:         {Booting: again, Serving: begin, Swapping: again, Down: begin, Stopping: denied},
	Rollback - Boot:       {Booting: backAfter, Serving: back, Swapping: backAfter, Down: back, Stopping: denied},
	Halt - Boot:           {Booting: halt, Serving: halt, Swapping: halt, Down: halt, Stopping: haltAgain},
	Relay - Boot:          {Booting: relay, Serving: relay, Swapping: relay, Down: keep, Stopping: haltAgain},
	RestartDue - Boot:     {Booting: nothing, Serving: nothing, Swapping: nothing, Down: restarted, Stopping: nothing},
	AutoRestartDue - Boot: {Booting: nothing, Serving: begin, Swapping: nothing, Down: nothing, Stopping: nothing},
	Nothing - Boot:        {Booting: nothing, Serving: nothing, Swapping: nothing, Down: nothing, Stopping: nothing},
	StopExpired - Boot:    {Booting: nothing, Serving: nothing, Swapping: nothing, Down: nothing, Stopping: killAll},
}

// resumePreparing replaces what the handoff before was preparing: its work
// is lost with it. A process that it had forked already is a candidate by
// now, for the record is written before the process may go on.
func resumePreparing(m *step, _ Event) {
	for _, g := range slices.Clone(m.s.Gens) {
		if g.Phase != Preparing {
			continue
		}
		if m.s.Stop != 0 {
			m.remove(g.N)
			m.exitIfStopped()
			return
		}
		m.do(Effect{Kind: Prepare, N: g.N, Source: g.Source, Release: g.Release})
	}
}

func swapTo(m *step, ev Event) {
	if ev.Release != "" {
		if ev.Release == m.s.Rejected {
			return
		}
		if g := m.s.In(Current); g != nil && g.Release == ev.Release {
			return
		}
	}
	m.begin(Newest, "")
}

func supersedeBy(m *step, ev Event) {
	g := m.s.starting()
	current := m.s.In(Current)
	if g.Phase == Preparing {
		// It is not known yet which content it took. One more look at what
		// is there then costs nothing if it is the same.
		m.later(false, ev.Release)
		return
	}
	if ev.Release != "" && ev.Release == g.Release {
		return
	}
	n := g.N
	g.Phase = Retiring
	m.tell(g, m.p.RetireSignal)
	if current != nil && ev.Release != "" && current.Release == ev.Release {
		m.say("generation %d is told to go: its content was taken back; generation %d stays", n, current.N)
		m.do(Effect{Kind: Outcome, N: n, Text: "its content was taken back"})
		m.beginAgain()
		return
	}
	m.say("generation %d is told to go: there is newer content", n)
	m.begin(Newest, "")
}

// stopSignal is what the app gets where hotinit was told to stop.
func (m *step) stopSignal() int {
	if sig, ok := m.p.StopSignals[m.s.Stop]; ok {
		return sig
	}
	return m.s.Stop
}

func haltAll(m *step, ev Event) {
	m.s.Stop = ev.Signal
	m.s.Due = false
	m.forget()
	for i := range m.s.Gens {
		g := &m.s.Gens[i]
		switch {
		case g.Phase == Preparing:
			m.do(Effect{Kind: Cancel, N: g.N})
		case g.Phase != Lingering && !g.Told:
			m.tell(g, m.stopSignal())
		}
	}
	m.exitIfStopped()
}

func passOn(m *step, ev Event) {
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

func relayOn(m *step, ev Event) {
	sent := false
	for _, g := range m.s.Gens {
		if g.Phase == Current || g.Phase == Candidate {
			m.do(Effect{Kind: Tell, N: g.N, Signal: ev.Signal})
			sent = true
		}
	}
	if !sent {
		m.hold(ev.Signal)
	}
}

// hold keeps a signal for the next process. Like the kernel it keeps each
// number once, so this cannot grow.
func (m *step) hold(sig int) {
	if !slices.Contains(m.s.Held, sig) {
		m.s.Held = append(m.s.Held, sig)
	}
}

func killEverything(m *step, _ Event) {
	m.say("not all has ended in %v (--stop-timeout); it is killed", m.p.StopTimeout)
	for i := range m.s.Gens {
		if g := &m.s.Gens[i]; !g.Killed && g.Phase != Preparing {
			m.kill(g)
		}
	}
}
