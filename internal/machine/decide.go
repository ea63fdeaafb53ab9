package machine

import (
	"fmt"
	"slices"
	"strings"
)

func (m *step) remove(n int) {
	m.s.Gens = slices.DeleteFunc(m.s.Gens, func(g Gen) bool { return g.N == n })
}

// begin starts another generation.
func (m *step) begin(cause Cause, source Source, release string) {
	n := m.s.Next
	m.s.Next++
	m.s.RestartDue, m.s.Delayed = false, false
	if source == Newest {
		m.unnote() // it is started now
		m.taken()
	}
	m.forget()
	m.s.Gens = append(m.s.Gens, Gen{N: n, Phase: Preparing, Source: source, Cause: cause, Release: release})
	m.prepare(&m.s.Gens[len(m.s.Gens)-1])
}

func (m *step) prepare(g *Gen) {
	m.do(Effect{Kind: Prepare, N: g.N, Source: g.Source, Release: g.Release, Cause: g.Cause,
		Foreground: m.s.In(Current) == nil})
}

// beginAnother starts what should run although nobody named it: the newest
// content, unless that was rejected and something better is held. What was
// rolled back by hand is not started as long as anything else is held.
func (m *step) beginAnother(cause Cause) {
	if good := m.s.lastGood(""); m.s.Noted && good != "" {
		m.begin(cause, Held, good) // what is there waits until it may be started
		return
	}
	if r := m.s.Rejection(m.s.Newest); r != nil {
		if good := m.s.lastGood(""); good != "" {
			m.notStarted(r, "the last good release, "+Short(good)+", is started instead")
			m.begin(cause, Held, good)
			return
		}
		for _, good := range slices.Backward(m.s.GoodReleases) {
			if other := m.s.Rejection(good.Release); other == nil || !other.ByHand {
				m.notStarted(r, "release "+Short(good.Release)+", which has been good, is started instead")
				m.begin(cause, Held, good.Release) // it failed, but it has been good
				return
			}
		}
	}
	m.begin(cause, Newest, "")
}

// beginBack starts the good release before the current one, or the named one, or has
// that wait for its turn. It reports whether there is any.
func (m *step) beginBack(name string) bool {
	current := m.s.In(Current)
	runs := m.s.Newest
	if current != nil {
		runs = current.Release
	}
	at := m.s.goodIndex(runs)
	if at < 0 || runs == "" {
		at = len(m.s.GoodReleases)
	}
	to := -1
	if name != "" {
		to = m.s.goodIndex(name)
	} else {
		for i := at - 1; i >= 0 && to < 0; i-- {
			if release := m.s.GoodReleases[i].Release; release != runs && m.s.Rejection(release) == nil {
				to = i
			}
		}
	}
	why := ""
	switch {
	case to < 0 && name != "":
		// What was rolled back by hand is kept for whoever names it.
		if r := m.s.Rejection(name); r != nil && r.ByHand {
			if m.rollbackDue(name) {
				return true
			}
			m.unreject(name)
			m.begin(ByRollback, Held, name)
			return true
		}
		why = "there is no good release " + Short(name)
	case to < 0:
		why = "there is no other good release"
	case current != nil && m.s.GoodReleases[to].Release == runs:
		why = "release " + Short(runs) + " runs already"
	}
	if why != "" {
		m.do(Effect{Kind: Outcome, N: m.s.Next, None: true, Text: "cannot roll back: " + why})
		m.say(aDecision, "cannot roll back: %s; nothing changes", why)
		return false
	}
	if m.rollbackDue(name) {
		return true
	}
	target := m.s.GoodReleases[to].Release
	m.unreject(target)
	if to < at {
		m.reject(runs, "it was rolled back by hand", true)
	}
	m.begin(ByRollback, Held, target)
	return true
}

// rollBack goes back to the last good release, where a generation failed in its
// probation. It reports whether there is one.
func (m *step) rollBack(g *Gen, reason string) bool {
	good := m.s.lastGood(g.Release)
	if g.Proven || good == "" {
		return false
	}
	m.reject(g.Release, reason, false)
	m.withdraw(g, reason, false)
	m.say(anError, "generation %d %s in its probation%s; the last good release, %s, is started again", g.N, reason, of(g.Release), Short(good))
	m.begin(ByFailure, Held, good)
	return true
}

// beginAgain starts what was asked for in the meantime, if anything was.
func (m *step) beginAgain() bool { return m.beginAgainAfter("") }

// beginAgainAfter is beginAgain after a start of a release that failed just now, which
// was said: the watch and whoever put it there may both have asked for it.
func (m *step) beginAgainAfter(failed string) bool {
	if !m.s.Again || m.s.Stop != 0 {
		return false
	}
	if m.s.Leave == LeaveGiven {
		m.s.Leave = LeaveUsed // for what was decided just now
	}
	back, to, want, asked := m.s.Back, m.s.BackTo, m.s.Want, m.s.Asked
	m.forget()
	if back {
		return m.beginBack(to)
	}
	current := m.s.In(Current)
	if want == "" {
		if asked == ByChange && current != nil && m.noted(want) {
			return false
		}
		m.swap(asked)
		return true
	}
	if current != nil && want == current.Release {
		// What was started in the meantime was this already, or it ran before.
		if asked == ByDeploy {
			m.do(Effect{Kind: Outcome, N: m.s.Next, Release: want, None: true, OK: true, Text: runsAlready(current)})
		}
		return false
	}
	if r := m.s.Rejection(want); r != nil {
		if want != failed {
			m.notStarted(r, "nothing changes")
		}
		return false // so it was, and it failed
	}
	if asked == ByChange && current != nil && m.noted(want) {
		return false
	}
	m.swap(asked)
	return true
}

// runsAlready is why a release is not started.
func runsAlready(g *Gen) string {
	return fmt.Sprintf("release %s is not started again: generation %d runs it", Short(g.Release), g.N)
}

// supersede retires a candidate, for there is newer content.
func (m *step) supersede(g *Gen, newer string, cause Cause) {
	n, release := g.N, g.Release
	g.Phase = Retiring
	m.terminate(g, m.p.RetireSignal)
	if current := m.s.In(Current); current != nil && newer != "" && current.Release == newer {
		m.say(aDecision, "generation %d is told to go%s: its content was taken back; generation %d stays%s", n, of(release), current.N, of(current.Release))
		m.do(Effect{Kind: Outcome, N: n, Release: release, Text: "its content was taken back"})
		if cause == ByDeploy {
			m.do(Effect{Kind: Outcome, N: m.s.Next, Release: newer, None: true, OK: true, Text: runsAlready(current)})
		}
		m.beginAgain()
		return
	}
	m.say(aDecision, "generation %d is told to go%s: there is newer content", n, of(release))
	m.swap(cause)
}

// later notes that another start is to follow the one under way. However
// often it is asked for, one follows. It reports whether that is news.
func (m *step) later(back bool, want string) bool {
	if m.s.Again && !m.s.Back && m.s.Want == "" && !back {
		return false // whatever there is will be started anyway
	}
	m.s.Again, m.s.Back, m.s.Want, m.s.Asked = true, back, want, ByChange
	m.s.BackTo = ""
	return true
}

// forget takes back what later noted.
func (m *step) forget() {
	m.s.Again, m.s.Back, m.s.BackTo, m.s.Want, m.s.Asked = false, false, "", "", 0
}

// tooMany reports whether a change has to wait: it came right after a start, as
// those before it did. An app that writes into its own watched directory would
// be swapped for ever.
func (m *step) tooMany(ev Event) bool {
	if ev.Path == "" {
		return false // nobody replaces its own executable
	}
	if m.s.Swaps < mostSwaps {
		m.s.Swaps++
		return false
	}
	if !m.s.Delayed {
		m.s.Delayed = true
		m.say(aDecision, "%s changed right after each of the last %d starts: the app itself may write it; the next generation is started in %v (exclude the file with --ignore)", ev.Path, m.s.Swaps, swapDelay(m.s))
	}
	return true
}

// notified notes that a generation has said READY=1.
func (m *step) notified(g *Gen) {
	g.Notified, m.s.SpeaksNotify = true, true
	if i := m.s.goodIndex(g.Release); i >= 0 && g.Release != "" {
		m.s.GoodReleases[i].Notified = true
	}
}

// reject notes that a release failed or was sent away.
func (m *step) reject(release, reason string, byHand bool) {
	m.s.Reason = reason
	if release == "" || m.p.Once {
		return // the same may do its work the next time
	}
	if current := m.s.In(Current); !byHand && current != nil && current.Release == release && !current.Stalled && !current.Hung {
		return // it serves: that another start of it failed proves nothing
	}
	if r := m.s.Rejection(release); r != nil && r.ByHand {
		byHand = true
	}
	m.unreject(release)
	m.s.Rejected = append(m.s.Rejected, Rejection{release, reason, byHand})
	if len(m.s.Rejected) > mostRejected {
		m.s.Rejected = m.s.Rejected[1:]
	}
}

func (m *step) unreject(release string) {
	m.s.Rejected = slices.DeleteFunc(m.s.Rejected, func(r Rejection) bool { return r.Release == release })
}

// notStarted says that a release is not started, since it was rejected before.
func (m *step) notStarted(r *Rejection, what string) {
	if r.ByHand {
		m.say(aDecision, "release %s is not started: it was rolled back by hand (hotinit rollback NAME starts it); %s", Short(r.Release), what)
		return
	}
	m.say(aDecision, "release %s is not started: it was rejected before: %s (hotinit reload tries it again); %s", Short(r.Release), r.Reason, what)
}

// Short is how a release is named in a line.
func Short(release string) string {
	if IsUnread(release) {
		return "?"
	}
	if len(release) > 12 {
		return release[:12]
	}
	return release
}

// Unread begins the name of a release whose content was not read yet. It is
// Renamed once it was.
const Unread = "?"

// IsUnread reports whether that is so of a release.
func IsUnread(release string) bool { return strings.HasPrefix(release, Unread) }

// of names the release of a generation at the end of what a line says of it.
func of(release string) string {
	if release == "" || IsUnread(release) {
		return ""
	}
	return " (release " + Short(release) + ")"
}

// cause says why a generation was started.
func (m *step) cause(g *Gen) string {
	if g.Cause == BySignal {
		return SignalName(m.p.ReloadSignal)
	}
	return g.Cause.String()
}

// newest notes what the command's path led to.
func (m *step) newest(g *Gen, release string) {
	if g.Source == Newest && release != "" {
		m.s.Newest = release
	}
}

// candidate notes that a generation runs.
func (m *step) candidate(g *Gen) {
	g.Phase = Candidate
	m.newest(g, g.Release)
	level, process, release := aDecision, "", ""
	if g.Cause == ByBoot {
		level = m.firstLevel()
	}
	if of(g.Release) != "" {
		release = ", release " + Short(g.Release)
	}
	if g.PID != 0 {
		process = fmt.Sprintf(", with PID %d", g.PID)
	}
	m.say(level, "generation %d is started (%s)%s%s", g.N, m.cause(g), process, release)
	if m.p.Once {
		m.runs(g)
	}
	m.deliver(g)
}

// runs makes a generation of a program that runs once current: whether it is of use
// shows when it ends.
func (m *step) runs(g *Gen) {
	g.Phase, g.Proven = Current, true
	m.s.Served = true
	m.do(Effect{Kind: Foreground, N: g.N})
	m.do(Effect{Kind: Outcome, N: g.N, OK: true})
}

// onceEnded decides what follows the end of a run of a program that runs once.
func (m *step) onceEnded(n int, release string, status int, reason string) {
	switch {
	case status == 0:
		m.exit(0, m.firstLevel(), fmt.Sprintf("generation %d%s has done its work", n, of(release)))
	case m.s.Fails < m.p.Retries:
		m.s.Fails++
		m.s.RestartDue = true
		m.s.Reason = reason
		m.say(anError, "generation %d %s%s; it is tried again in %v (HOTINIT_RETRIES, %d of %d)", n, reason, of(release), restartDelay(m.s, *m.p), m.s.Fails, m.p.Retries)
	case m.p.Retries > 0:
		m.exit(status, anError, fmt.Sprintf("generation %d %s%s, after %d retries (HOTINIT_RETRIES)", n, reason, of(release), m.p.Retries))
	default:
		m.exit(status, anError, fmt.Sprintf("generation %d %s%s (HOTINIT_RUN=once)", n, reason, of(release)))
	}
}

// deliver sends a generation the signals that came while there was none.
func (m *step) deliver(g *Gen) {
	for _, sig := range m.s.PendingSignals {
		m.do(Effect{Kind: Tell, N: g.N, Signal: sig})
	}
	m.s.PendingSignals = nil
}

// terminate sends a generation its signal to go.
func (m *step) terminate(g *Gen, sig int) {
	g.Terminated = true
	m.do(Effect{Kind: Tell, N: g.N, Signal: sig})
}

func (m *step) kill(g *Gen) {
	g.Killed = true
	m.do(Effect{Kind: Kill, N: g.N})
}

// retire terminates a generation that a newer one has taken over from.
func (m *step) retire(g *Gen) {
	g.Phase = Retiring
	m.terminate(g, m.p.RetireSignal)
}

// linger notes that a generation's main process has ended.
func (m *step) linger(g *Gen, reason string) {
	retiring := g.Phase == Retiring
	g.Phase = Lingering
	level := aDetail // another line follows, which says it
	switch {
	case retiring:
		level = aDecision
	case m.s.Stop != 0:
		level = m.firstLevel()
	}
	m.say(level, "generation %d ended%s: %s", g.N, of(g.Release), reason)
	g.Killed = false // what it forked just before is killed once more, in time
	m.do(Effect{Kind: Sweep, N: g.N})
}

// boundOld kills the oldest of the generations that drain, where there are
// more than --max-old.
func (m *step) boundOld() {
	if m.p.MaxOld <= 0 {
		return
	}
	draining := 0
	for i := len(m.s.Gens) - 1; i >= 0; i-- {
		g := &m.s.Gens[i]
		if g.Phase != Retiring || g.Killed {
			continue
		}
		if draining++; draining > m.p.MaxOld {
			m.say(anError, "generation %d is killed%s: more than %d old generations drain (--max-old)", g.N, of(g.Release), m.p.MaxOld)
			m.kill(g)
		}
	}
}

// whoGoes says which generations hotinit tells to go when it stops.
func (m *step) whoGoes() string {
	var b strings.Builder
	for _, g := range m.s.Gens {
		if g.Phase == Current || g.Phase == Candidate || g.Phase == Retiring && !g.Terminated {
			fmt.Fprintf(&b, "; %s is sent to generation %d%s", SignalName(m.stopSignal()), g.N, of(g.Release))
		}
	}
	return b.String()
}

// exit gives the verdict. why says what led to it, in a line of that level.
func (m *step) exit(status, level int, why string) {
	if level > m.p.Verbosity {
		why = ""
	}
	m.s.Over = true
	for i := range m.out {
		m.out[i].Last = m.out[i].Kind == Sweep
	}
	m.do(Effect{Kind: Exit, Status: status, Stopped: m.s.Stop != 0, Text: why})
}

// exitIfStopped gives the verdict once all main processes have ended.
func (m *step) exitIfStopped() {
	if m.s.Stop == 0 || slices.ContainsFunc(m.s.Gens, func(g Gen) bool { return g.Phase != Lingering }) {
		return
	}
	m.exit(m.s.Status, m.firstLevel(), "it was told to stop ("+m.s.StopReason+")")
}

// failed decides what follows a generation n, of a release, that never served.
// level is of the line about hotinit's end, where it ends with it.
func (m *step) failed(n int, release string, status int, reason string, level int) {
	m.do(Effect{Kind: Outcome, N: n, Release: release, Text: reason})
	if !m.s.Served {
		m.s.Status = status
	}
	current := m.s.In(Current)
	switch {
	case current != nil:
		m.say(anError, "generation %d failed%s: %s; generation %d stays%s", n, of(release), reason, current.N, of(current.Release))
	case m.s.Again:
		m.say(anError, "generation %d failed%s: %s; the next one is tried", n, of(release), reason)
	}
	if m.beginAgainAfter(release) || current != nil {
		return
	}
	if m.p.Once {
		m.s.Status = status
		m.onceEnded(n, release, status, "failed: "+reason)
		return
	}
	if m.s.Served {
		m.onExit(anError, n, release, "failed: "+reason)
		return
	}
	if m.p.RetryFirst {
		if m.p.RetryLater {
			m.s.Fails++
		}
		m.say(anError, "generation %d failed%s: %s; it is tried again in %v", n, of(release), reason, restartDelay(m.s, *m.p))
		m.s.RestartDue = true
		return
	}
	what := "failed"
	if g := m.s.Find(n); g != nil && g.Phase == Lingering {
		what = "ended before it was ready"
	}
	m.exit(status, level, fmt.Sprintf("generation %d %s%s: %s", n, what, of(release), reason))
}

// ends reports whether hotinit ends once nothing runs (--on-exit).
func (m *step) ends() bool {
	return m.p.OnExit == ExitToo || m.p.OnExit == RestartOnFailure && m.s.Status == 0
}

// onExit does what --on-exit says: no generation serves or is being started.
// The last one was n, and reason says what became of it; level is of the line
// that says so, where hotinit ends.
func (m *step) onExit(level, n int, release, reason string) {
	if m.ends() {
		m.exit(m.s.Status, level, fmt.Sprintf("generation %d%s %s (--on-exit)", n, of(release), reason))
		return
	}
	m.restart(n, release, reason, "--on-exit")
}

// restart starts another generation after a while. option is the option that
// says so.
func (m *step) restart(n int, release, reason, option string) {
	m.s.Fails++
	m.s.RestartDue = true
	after := "at once"
	if d := restartDelay(m.s, *m.p); d > 0 {
		after = "in " + d.String()
	}
	m.say(anError, "generation %d %s%s; another one is started %s (%s)", n, reason, of(release), after, option)
}

// decide makes a candidate current once it has shown what it has to.
func (m *step) decide(g *Gen) {
	if !m.s.ready(m.p, g) {
		return
	}
	// Waiting can be true of an app that hangs. As long as another one serves, it
	// has to accept a connection, or no connection comes: see QuietOver.
	proves := m.p.Ready == ReadyAuto || m.p.Ready == ReadyAccept
	if proves && !g.Accepted && !g.Blind && m.s.In(Current) != nil {
		return
	}
	m.promote(g)
}

// promote makes a candidate the current generation.
func (m *step) promote(g *Gen) {
	old := m.s.In(Current)
	if old != nil && !old.Stalled && !old.Hung && m.s.Rejection(old.Release) == nil {
		m.keepGood(old) // it served until now, without failing
	}
	g.Phase = Current
	m.s.Served = true
	back := g.Withdrawn && m.s.Rejection(g.Release) != nil && m.s.lastGood(g.Release) != ""
	if !back {
		m.unreject(g.Release)
	}
	if g.Source == Newest {
		m.s.Reason = ""
	}
	m.do(Effect{Kind: Foreground, N: g.N})
	m.do(Effect{Kind: Outcome, N: g.N, Release: g.Release, OK: true})
	switch {
	case old == nil:
		level := aDecision
		if g.Cause == ByBoot {
			level = m.firstLevel()
		}
		m.say(level, "generation %d is ready%s", g.N, of(g.Release))
	case m.p.KillOldDelay > 0:
		m.say(aDecision, "generation %d is ready%s; generation %d is told to go in %v (--kill-old-delay)", g.N, of(g.Release), old.N, m.p.KillOldDelay)
		old.Phase = Retiring
	default:
		m.say(aDecision, "generation %d is ready%s; generation %d is told to go (%s)", g.N, of(g.Release), old.N, SignalName(m.p.RetireSignal))
		m.retire(old)
	}
	m.boundOld()
	if m.p.Probation <= 0 && !m.p.InTurn { // of an instance, its timer says so once all are replaced
		m.prove(g)
	}
	if !m.beginAgain() && back {
		m.goBack(g, m.s.Rejection(g.Release).Reason)
	}
}

// prove notes that a generation outlived its probation.
func (m *step) prove(g *Gen) {
	g.Proven = true
	m.keepGood(g)
}

// keepGood puts a release into the list of those to go back to. One that was
// newly deployed becomes the newest of them; one that hotinit went back to
// stays where it is, so that going back again leads to the one before it.
func (m *step) keepGood(g *Gen) {
	if g.Release == "" {
		return
	}
	good := Good{g.Release, g.N, g.Notified}
	if i := m.s.goodIndex(g.Release); i >= 0 {
		good.Notified = good.Notified || m.s.GoodReleases[i].Notified
		if g.Source == Held {
			m.s.GoodReleases[i] = good
			return
		}
		m.s.GoodReleases = slices.Delete(m.s.GoodReleases, i, i+1)
	}
	m.s.GoodReleases = append(m.s.GoodReleases, good)
	m.s.fewGood()
}
