package machine

// With --swap-through a swap needs leave: a command runs, which gives it at the
// time that it finds right, and learns how the swap ended. At most one such command
// runs at a time. What nobody asked for, since an app failed, and every rollback,
// needs no leave: that cannot wait for a lock.
//
// The instances of a program are replaced in turn by the same means: package roll gives
// leave to one at a time, and no command runs. There a rollback waits for its turn, too.

// Leave is how far the command has come.
type Leave int

const (
	// NoLeave: none runs.
	NoLeave Leave = iota
	// LeaveAsked: it runs, and has not given leave.
	LeaveAsked
	// LeaveHere: it gives leave, and another generation is being started still.
	LeaveHere
	// LeaveGiven: the swap is under way.
	LeaveGiven
	// LeaveUsed: the swap is decided, or will not be. The command still runs.
	LeaveUsed
)

// swap starts what is there, or has that wait for leave.
func (m *step) swap(cause Cause) {
	if !m.needsLeave() {
		m.begin(cause, Newest, "")
		return
	}
	m.due(cause, "")
}

func (p *Policy) needsLeave() bool { return p.Through || p.InTurn }

// needsLeave reports whether a swap that begins now has to wait for leave.
func (m *step) needsLeave() bool {
	return m.p.needsLeave() && m.s.In(Current) != nil && m.s.Leave != LeaveGiven
}

// due has a swap wait for leave.
func (m *step) due(cause Cause, to string) {
	m.s.Delayed = false
	m.forget()
	m.s.Due, m.s.DueBy, m.s.DueTo = true, cause, to
	if m.s.Leave == NoLeave {
		m.askLeave()
	}
}

// undue has no swap wait any more.
func (m *step) undue() { m.s.Due, m.s.DueBy, m.s.DueTo = false, 0, "" }

// rollbackDue has a rollback wait for the turn of this instance, where it is one of
// several, and reports whether it waits.
func (m *step) rollbackDue(to string) bool {
	if !m.p.InTurn || !m.needsLeave() {
		return false
	}
	m.due(ByRollback, to)
	return true
}

// swaps reports whether a generation that was started for it was to replace another
// one in its turn.
func (c Cause) swaps() bool {
	switch c {
	case ByChange, ByReload, BySignal, ByDeploy, ByAutoRestart, ByRollback:
		return true
	}
	return false
}

// withdraw has the other instances of the program leave a release that failed here.
func (m *step) withdraw(g *Gen, reason string, swap bool) {
	if m.p.InTurn {
		m.do(Effect{Kind: Withdraw, N: g.N, Release: g.Release, Text: reason, Swap: swap})
	}
}

// withdrawStart is withdraw for a generation that was not ready. Where an old release
// did not start again, that says nothing about the others.
func (m *step) withdrawStart(g *Gen, reason string) {
	if g.Cause.swaps() || g.Source == Newest && g.Release != "" && m.s.goodIndex(g.Release) < 0 {
		m.withdraw(g, reason, g.Cause.swaps())
	}
}

// withdrawn takes in that a release failed in another instance of the program. It is
// not tried here; where it runs already and has not proven itself, what was good
// before it comes back, so that all run the same.
func withdrawn(m *step, ev Event) {
	newer := m.waitsForOther(ev.Release)
	if ev.Release != "" && m.s.goodIndex(ev.Release) < 0 && (ev.Swap && !newer || m.s.goodIndex(m.s.Newest) >= 0) {
		m.s.Newest = ev.Release // the path is the same for all, and nothing newer is known
	}
	if m.s.Due && !newer && m.s.DueBy != ByFailure && (ev.Swap || ev.Release == m.s.Newest) {
		m.off(aDecision, ev.Reason)
	}
	if g := m.s.starting(); g != nil && ev.Release != "" {
		g.Withdrawn = true
	}
	current := m.s.In(Current)
	runs := current != nil && current.Release == ev.Release
	good := m.s.lastGood(ev.Release)
	switch {
	case ev.Release == "" || m.p.Once:
		return
	case runs && (current.Proven || m.s.goodIndex(ev.Release) >= 0 || good == ""):
		return
	case m.s.Rejection(ev.Release) == nil:
		m.s.Rejected = append(m.s.Rejected, Rejection{Release: ev.Release, Reason: ev.Reason})
		if len(m.s.Rejected) > mostRejected {
			m.s.Rejected = m.s.Rejected[1:]
		}
	}
	m.s.Reason = ev.Reason
	if runs && !m.s.Due && m.s.Situation() == Serving {
		m.goBack(current, ev.Reason)
	}
}

// waitsForOther reports whether a swap waits for a release of which nothing is known yet,
// and which is not that one: it came after it.
func (m *step) waitsForOther(release string) bool {
	newest := m.s.Newest
	return m.s.Due && m.s.DueTo == "" && release != "" && newest != "" && newest != release &&
		!IsUnread(newest) && m.s.goodIndex(newest) < 0 && m.s.Rejection(newest) == nil
}

// goBack has the current generation replaced, in its turn, by the last good release.
func (m *step) goBack(g *Gen, reason string) {
	m.say(anError, "generation %d is replaced%s: %s; the last good release, %s, is started again", g.N, of(g.Release), reason, Short(m.s.lastGood(g.Release)))
	m.due(ByFailure, "")
}

func (m *step) askLeave() {
	m.s.LeaveN++
	m.s.LeaveLate = false
	m.s.Leave = LeaveAsked
	if m.p.InTurn {
		m.say(aDetail, "a swap is due (%s); it waits for its turn", m.s.DueBy)
	} else {
		m.say(aDecision, "a swap is due (%s); it waits for leave (--swap-through)", m.s.DueBy)
	}
	m.do(Effect{Kind: AskLeave, N: m.s.LeaveN, Cause: m.s.DueBy})
}

// callOff has no swap wait any more.
func (m *step) callOff() {
	if !m.s.Due {
		return
	}
	m.undue()
	if m.s.Leave == LeaveAsked || m.s.Leave == LeaveHere {
		m.s.Leave = LeaveUsed
		m.do(Effect{Kind: EndLeave, N: m.s.LeaveN})
	}
}

// off calls a swap off, and says why.
func (m *step) off(level int, why string) {
	m.callOff()
	current := m.s.In(Current)
	m.do(Effect{Kind: Outcome, N: m.s.Next, None: true, Text: "the swap is off: " + why})
	if current != nil {
		m.say(level, "the swap is off: %s; generation %d stays%s", why, current.N, of(current.Release))
	}
}

// taken notes that what is there is being started: no swap waits for it any more.
func (m *step) taken() {
	if !m.s.Due || m.s.DueBy == ByRollback || m.s.DueBy == ByFailure {
		return
	}
	if m.s.Leave == LeaveHere {
		m.undue()
		m.s.Leave = LeaveGiven
		return
	}
	m.callOff()
}

// settle does what follows once a step is over: a swap that has leave begins when no
// other start is under way, and leave is used up once its swap is decided.
func (m *step) settle() {
	if m.s.Stop != 0 || m.s.Over {
		return
	}
	if m.s.Leave == LeaveHere && m.s.Situation() == Waiting {
		by, to := m.s.DueBy, m.s.DueTo
		m.undue()
		m.s.Leave = LeaveGiven
		switch by {
		case ByAutoRestart:
			m.beginAnother(by)
		case ByRollback:
			m.beginBack(to)
		case ByFailure:
			runs := m.s.In(Current).Release
			if good := m.s.lastGood(runs); m.s.Rejection(runs) != nil && good != "" {
				m.begin(by, Held, good)
			}
		default:
			m.begin(by, Newest, "")
		}
	}
	if m.s.Leave == LeaveGiven && m.s.starting() == nil {
		m.s.Leave = LeaveUsed
	}
	if m.s.Leave == NoLeave && m.s.Situation() == Waiting {
		m.askLeave()
	}
}

func waitingChanged(m *step, ev Event) {
	byItself := m.s.DueBy == ByChange || m.s.DueBy == ByDeploy
	if ev.Release != "" {
		m.s.Newest = ev.Release
		if r := m.s.Rejection(ev.Release); r != nil {
			m.notStarted(r, "nothing changes")
			if byItself {
				m.off(aDecision, "newer content came, which was rejected before")
			}
			return
		}
		if g := m.s.In(Current); g.Release == ev.Release {
			m.unnote()
			if byItself {
				m.off(aDecision, "its content was taken back")
			}
			return
		}
	}
	if m.noted(ev.Release) {
		return
	}
	switch m.s.DueBy {
	case ByAutoRestart, ByRollback, ByFailure:
		m.s.DueBy, m.s.DueTo = ByChange, ""
	}
}

func waitingReload(m *step, ev Event) {
	if !m.runsOnce() {
		m.s.DueBy, m.s.DueTo = askedBy(ev), ""
	}
}

func waitingRollback(m *step, ev Event) {
	// What waits for the end of a command came after what its swap has led to, which
	// the command itself may roll back.
	if !m.noRollback() && m.beginBack(ev.Release) && m.s.Leave != LeaveUsed && !m.p.InTurn {
		m.callOff()
	}
}

func waitingDeployed(m *step, ev Event) {
	m.s.Newest = ev.Release
	if g := m.s.In(Current); g.Release == ev.Release && !g.Stalled && !g.Hung {
		servingDeployed(m, ev)
		m.callOff()
		return
	}
	m.unreject(ev.Release)
	m.s.DueBy, m.s.DueTo = ByDeploy, ""
}

// leaveGiven notes that the command gives leave. settle begins the swap.
func leaveGiven(m *step, ev Event) {
	if ev.N == m.s.LeaveN && m.s.Leave == LeaveAsked && m.s.Due {
		m.s.Leave = LeaveHere
	}
}

// leaveEnded notes that the command has ended. Without having given leave, that is
// its answer.
func leaveEnded(m *step, ev Event) {
	if ev.N != m.s.LeaveN {
		return
	}
	was := m.s.Leave
	m.s.Leave = NoLeave
	if (was == LeaveAsked || was == LeaveHere) && m.s.Due {
		m.s.Reason = "the swap is off: " + ev.Reason
		m.off(anError, ev.Reason)
	}
}

// leaveLost notes that nothing is known of the command: its handoff was lost. It is
// asked again, unless it has given leave.
func leaveLost(m *step, ev Event) {
	if ev.N == m.s.LeaveN {
		m.s.Leave = NoLeave
	}
}

func leaveTimedOut(m *step, _ Event) {
	why := "no leave was given in time (--swap-through-timeout)"
	if m.s.Leave == LeaveUsed {
		m.say(anError, "the command of --swap-through does not end; it is killed (--swap-through-timeout)")
		m.do(Effect{Kind: EndLeave, N: m.s.LeaveN})
		m.s.LeaveLate = true
		return
	}
	m.s.Reason = "the swap is off: " + why
	m.off(anError, why)
}
