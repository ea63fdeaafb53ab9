package machine

// With --swap-through a swap needs leave: a command runs, which gives it at the
// time that it finds right, and learns how the swap ended. At most one such command
// runs at a time. What nobody asked for, since an app failed, and every rollback,
// needs no leave: that cannot wait for a lock.

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
	if !m.p.Through || m.s.In(Current) == nil || m.s.Leave == LeaveGiven {
		m.begin(cause, Newest, "")
		return
	}
	m.s.Delayed = false
	m.forget()
	m.s.Due, m.s.DueBy = true, cause
	if m.s.Leave == NoLeave {
		m.askLeave()
	}
}

func (m *step) askLeave() {
	m.s.LeaveN++
	m.s.LeaveLate = false
	m.s.Leave = LeaveAsked
	m.say(aDecision, "a swap is due (%s); it waits for leave (--swap-through)", m.s.DueBy)
	m.do(Effect{Kind: AskLeave, N: m.s.LeaveN, Cause: m.s.DueBy})
}

// callOff has no swap wait any more.
func (m *step) callOff() {
	if !m.s.Due {
		return
	}
	m.s.Due, m.s.DueBy = false, 0
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
	if !m.s.Due {
		return
	}
	if m.s.Leave == LeaveHere {
		m.s.Due, m.s.DueBy = false, 0
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
		by := m.s.DueBy
		m.s.Due, m.s.DueBy = false, 0
		m.s.Leave = LeaveGiven
		if by == ByAutoRestart {
			m.beginAnother(by)
		} else {
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
	if m.s.DueBy == ByAutoRestart {
		m.s.DueBy = ByChange
	}
}

func waitingReload(m *step, ev Event) {
	if !m.runsOnce() {
		m.s.DueBy = askedBy(ev)
	}
}

func waitingRollback(m *step, ev Event) {
	// What waits for the end of a command came after what its swap has led to, which
	// the command itself may roll back.
	if !m.noRollback() && m.beginBack(ev.Release) && m.s.Leave != LeaveUsed {
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
	m.s.DueBy = ByDeploy
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
