// Package machine decides. Next takes a state and an event and returns the next
// state and what has to be done, and nothing else in hotinit changes a state. It
// is pure: no clock, no process and no goroutine is in it, and time comes in as
// an event.
//
// Read state.go first (what there is to know), then table.go (what happens when),
// and then machine.go (how). Each file in testdata/traces is a whole story.
package machine

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// EventKind is what happened.
type EventKind int

const (
	// To one generation, N. One that is gone, or never was, is ignored.
	Started    EventKind = iota // it has a process, of release Release
	NotStarted                  // it has none: Reason, and Status to exit with
	Ready                       // it said so, or proved so
	Exited                      // its main process ended with Status; Reason says how
	Empty                       // none of its processes is left
	Expired                     // its timer Timer ran out
	Beat                        // it asked for Delay more time, or its watchdog was told

	// To the program.
	Boot     // the first event
	Resumed  // the first event of a handoff that takes over
	Changed  // there is new content, Release; "" where it is not the executable
	Reload   // somebody asked
	Rollback // somebody asked
	Halt     // Signal stops everything
	Relay    // Signal is the app's
	RestartDue
	AutoRestartDue
	StopExpired
	Nothing // only acknowledges a signal that is dropped
)

var eventNames = []string{"started", "not started", "ready", "exited", "empty", "expired", "beat",
	"boot", "resumed", "changed", "reload", "rollback", "stop", "signal", "restart due", "auto-restart due", "stop-timeout", "nothing"}

func (k EventKind) String() string { return eventNames[k] }

// Event is what the machine is told. Which fields mean something is up to Kind.
type Event struct {
	Kind    EventKind
	N       int
	Timer   TimerKind
	Release string
	Status  int
	Signal  int
	Delay   time.Duration
	Reason  string

	PID   int // of Started
	Start uint64
}

// EffectKind is what the loop has to do.
type EffectKind int

const (
	Prepare    EffectKind = iota // check release Source (Release if Held), and start it as generation N
	Cancel                       // stop preparing N; Started or NotStarted still follows
	Tell                         // send Signal to N
	Kill                         // SIGKILL to all of N's processes
	Sweep                        // N's main process ended: SIGTERM to the rest of it, then Empty
	Foreground                   // N's process group is the terminal's from now on
	Say                          // print Text
	Outcome                      // the start of N is decided: OK, or else Text says why not
	Exit                         // the verdict: Status
)

var effectNames = []string{"prepare", "cancel", "tell", "kill", "sweep", "foreground", "say", "outcome", "exit"}

func (k EffectKind) String() string { return effectNames[k] }

// Effect is one thing that the loop has to do, in order.
type Effect struct {
	Kind    EffectKind
	N       int
	Source  Source
	Release string
	Signal  int
	Status  int
	OK      bool
	Text    string
}

// step is one call of Next at work.
type step struct {
	s   State
	p   *Policy
	out []Effect
}

// Next says what a state becomes by an event, and what is to be done. It is
// pure: no clock, no process, no goroutine is in it.
func Next(s State, p *Policy, ev Event) (State, []Effect) {
	m := step{s: s.Clone(), p: p}
	if m.s.Over {
		return m.s, nil
	}
	if ev.Kind < Boot {
		if g := m.s.Find(ev.N); g != nil {
			generationTable[g.Phase][ev.Kind].do(&m, g, ev)
		}
	} else {
		programTable[ev.Kind-Boot][m.s.Situation()].do(&m, ev)
	}
	return m.s, m.out
}

func (m *step) do(e Effect) { m.out = append(m.out, e) }

func (m *step) say(format string, args ...any) {
	m.do(Effect{Kind: Say, Text: fmt.Sprintf(format, args...)})
}

func (m *step) remove(n int) {
	m.s.Gens = slices.DeleteFunc(m.s.Gens, func(g Gen) bool { return g.N == n })
}

// begin starts another generation.
func (m *step) begin(source Source, release string) {
	n := m.s.Next
	m.s.Next++
	m.s.Due = false
	m.forget()
	m.s.Gens = append(m.s.Gens, Gen{N: n, Phase: Preparing, Source: source, Release: release})
	m.do(Effect{Kind: Prepare, N: n, Source: source, Release: release})
}

// beginRestart starts what should run when nothing does: the newest content,
// unless that was rejected and something better is known.
func (m *step) beginRestart() {
	if good := m.s.good(); m.s.Rejected != "" && good != "" {
		m.begin(Held, good)
		return
	}
	m.begin(Newest, "")
}

// beginBack starts the newest good release that is not the current one. It
// tells whether there is any.
func (m *step) beginBack() bool {
	current := m.s.In(Current)
	for i := len(m.s.Good) - 1; i >= 0; i-- {
		good := m.s.Good[i].Release
		if current != nil && current.Release == good {
			continue
		}
		if current != nil {
			m.reject(current.Release, "it was rolled back by hand")
		}
		m.begin(Held, good)
		return true
	}
	m.do(Effect{Kind: Outcome, N: m.s.Next, Text: "there is no other good release to roll back to"})
	m.say("cannot roll back: there is no other good release; nothing changes")
	return false
}

// beginAgain starts what was asked for in the meantime, if anything was.
func (m *step) beginAgain() bool {
	if !m.s.Again || m.s.Stop != 0 {
		return false
	}
	back, want := m.s.Back, m.s.Want
	m.forget()
	if back {
		return m.beginBack()
	}
	if current := m.s.In(Current); want != "" && (want == m.s.Rejected || current != nil && want == current.Release) {
		return false // what was started in the meantime was this already
	}
	m.begin(Newest, "")
	return true
}

// later notes that another start is to follow the one under way. However
// often it is asked for, one follows.
func (m *step) later(back bool, want string) {
	if m.s.Again && !m.s.Back && m.s.Want == "" && !back {
		return // whatever there is will be started anyway
	}
	m.s.Again, m.s.Back, m.s.Want = true, back, want
}

// forget takes back what later noted.
func (m *step) forget() { m.s.Again, m.s.Back, m.s.Want = false, false, "" }

func (m *step) reject(release, reason string) {
	if release != "" {
		m.s.Rejected = release
	}
	m.s.Reason = reason
}

// tell has a generation go by a signal.
func (m *step) tell(g *Gen, sig int) {
	g.Told = true
	m.do(Effect{Kind: Tell, N: g.N, Signal: sig})
}

func (m *step) kill(g *Gen) {
	g.Killed = true
	m.do(Effect{Kind: Kill, N: g.N})
}

// retire has a generation go that a newer one has taken over from.
func (m *step) retire(g *Gen) {
	g.Phase = Retiring
	m.tell(g, m.p.RetireSignal)
}

// linger notes that a generation's main process has ended.
func (m *step) linger(g *Gen) {
	g.Phase = Lingering
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
			m.say("generation %d is killed: more than %d old generations drain (--max-old)", g.N, m.p.MaxOld)
			m.kill(g)
		}
	}
}

// exit gives the verdict.
func (m *step) exit(status int) {
	m.s.Over = true
	m.do(Effect{Kind: Exit, Status: status})
}

// exitIfStopped gives the verdict once all main processes have ended.
func (m *step) exitIfStopped() bool {
	if m.s.Stop == 0 || slices.ContainsFunc(m.s.Gens, func(g Gen) bool { return g.Phase != Lingering }) {
		return false
	}
	m.exit(m.s.Status)
	return true
}

// failed decides what follows a generation n that never served.
func (m *step) failed(n, status int, reason string) {
	m.do(Effect{Kind: Outcome, N: n, Text: reason})
	if !m.s.Served {
		m.s.Status = status
	}
	if m.exitIfStopped() || m.s.Stop != 0 {
		return
	}
	current := m.s.In(Current)
	again := m.s.Again
	switch {
	case current != nil:
		m.say("generation %d failed: %s; generation %d stays", n, reason, current.N)
	case again:
		m.say("generation %d failed: %s; the next one is tried", n, reason)
	}
	if m.beginAgain() || current != nil {
		return
	}
	if m.s.Served {
		if m.ends() {
			m.say("generation %d failed: %s", n, reason)
		}
		m.onExit(n, "failed: "+reason)
		return
	}
	if m.p.RetryFirst {
		m.say("generation %d failed: %s; it is tried again in %v", n, reason, restartDelay(m.s, *m.p))
		m.s.Due = true
		return
	}
	m.exit(status)
}

// ends tells whether hotinit is to end once nothing runs (--on-exit).
func (m *step) ends() bool {
	return m.p.OnExit == ExitToo || m.p.OnExit == RestartOnFailure && m.s.Status == 0
}

// onExit does what --on-exit says: no generation serves or is being started.
// The last one was n, and reason says what became of it.
func (m *step) onExit(n int, reason string) {
	if m.ends() {
		m.exit(m.s.Status)
		return
	}
	m.s.Fails++
	m.s.Due = true
	after := "at once"
	if d := restartDelay(m.s, *m.p); d > 0 {
		after = "in " + d.String()
	}
	m.say("generation %d %s; another one is started %s (--on-exit)", n, reason, after)
}

// promote makes a candidate the current generation.
func (m *step) promote(g *Gen) {
	old := m.s.In(Current)
	if old != nil && len(m.s.Good) == 0 && old.Release != "" {
		// It has not outlived its probation, but it served until now, and
		// nothing better is known.
		m.s.Good = append(m.s.Good, Good{old.Release, old.N})
	}
	g.Phase = Current
	m.s.Served = true
	if g.Source == Newest {
		m.s.Rejected, m.s.Reason = "", ""
	}
	m.do(Effect{Kind: Foreground, N: g.N})
	m.do(Effect{Kind: Outcome, N: g.N, OK: true})
	switch {
	case old == nil:
		if g.N > 1 {
			m.say("generation %d is ready", g.N)
		}
	case m.p.KillOldDelay > 0:
		m.say("generation %d is ready; generation %d is told to go in %v (--kill-old-delay)", g.N, old.N, m.p.KillOldDelay)
		old.Phase = Retiring
	default:
		m.say("generation %d is ready; generation %d is told to go (%s)", g.N, old.N, SignalName(m.p.RetireSignal))
		m.retire(old)
	}
	m.boundOld()
	if m.p.Probation <= 0 {
		m.prove(g)
	}
	m.beginAgain()
}

// prove notes that a generation outlived its probation.
func (m *step) prove(g *Gen) {
	g.Proven = true
	m.s.Good = slices.DeleteFunc(m.s.Good, func(o Good) bool { return o.Release == g.Release })
	m.s.Good = append(m.s.Good, Good{g.Release, g.N})
	if len(m.s.Good) > 2 {
		m.s.Good = m.s.Good[len(m.s.Good)-2:]
	}
}

// SignalName returns a signal's name, also for a real-time signal.
func SignalName(sig int) string {
	if name := unix.SignalName(unix.Signal(sig)); name != "" {
		return name
	}
	if sig >= 34 {
		return fmt.Sprintf("SIGRTMIN+%d", sig-34)
	}
	return fmt.Sprintf("signal %d", sig)
}

// cell is one entry of a table: what is done, under a name that the
// documentation shows.
type cell[F any] struct {
	name string
	do   F
}

func (c cell[F]) String() string { return strings.ReplaceAll(c.name, "_", " ") }
