// Package machine decides. Next takes a state and an event and returns the next
// state and what has to be done, and nothing else in hotinit changes a state. It
// is pure: no clock, no process and no goroutine is in it, and time comes in as
// an event.
//
// Read state.go first (what there is to know), then table.go (what happens when),
// cells.go and situations.go (how), timers.go and decide.go. Each file in
// testdata/traces is a whole story.
package machine

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// EventKind is what happened.
type EventKind int

const (
	// To one generation, N. An event of one that is gone, or never was, is
	// ignored.

	Forked       EventKind = iota // it has a process, PID, that waits to execute release Release
	Retried                       // that process was killed: the file was replaced meanwhile
	Started                       // it runs release Release
	NotStarted                    // it has no process: Reason, and Status to exit with; no Reason where Release was rejected before
	MainReplaced                  // its main process is PID from now on
	Waits                         // a process of it waits for connections on a socket of the program
	Accepted                      // it holds a connection that it has accepted
	Notified                      // it said READY=1
	Blind                         // whether it waits cannot be told: Reason
	BlindOver                     // it can be told again
	Ready                         // it has shown it otherwise (--ready fd:, exec:)
	Stalled                       // it leaves connections waiting: Reason
	StallOver                     // it accepts again
	Beat                          // it asked for Delay more time, or sent WATCHDOG=1
	Triggered                     // it sent WATCHDOG=trigger: it hangs
	Exited                        // its main process ended with Status; Reason says how
	Empty                         // none of its processes is left

	// The timers of one generation ran out.

	IntervalOver     // a candidate has lived for --interval
	QuietOver        // no connection came for --interval since a candidate is ready
	ReadyTimedOut    // a candidate is not ready in time
	KillOldDelayOver // an old generation was kept for --kill-old-delay
	DrainTimedOut    // it has not ended in time
	ProbationOver    // it has served for --probation
	SteadyOver       // it has served for long enough that a restart is at once again
	WatchdogTimedOut // it sent no WATCHDOG=1 for --watchdog
	RunTimedOut      // it has run for --max-runtime

	// To the program.

	Boot       // the first start; Release is what the path leads to, where it is known
	Recalled   // the state directory knows Release from before hotinit was started: it is good, or with a Reason rejected. The newest comes first
	Resumed    // the first event of a handoff that takes over; N was forked and has executed the app, 0: none
	Changed    // there is new content, Release; "" where it has no name. Path is what changed in a watched directory
	Reload     // somebody asked, by Signal where that is not 0
	Rollback   // somebody asked, to Release; "" to the one before
	Deployed   // somebody has put Release there, and wants it to run
	Hold       // changes are only noted from now on
	Unhold     // they are acted upon again
	LeaveCome  // run N of the command of --swap-through gives leave to swap
	LeaveEnded // it has ended; Reason says how
	LeaveLost  // nothing is known of it
	Withdrawn  // Release failed in another instance of the program: Reason; Swap where it was being started there
	Traffic    // a connection came to a socket of the program during a swap
	Renamed    // the content of Release was read: its name is Name from now on
	Halt       // Signal stops everything; Reason says who asked, where it did not come as a signal
	Relay      // Signal is the app's
	Dropped    // a signal that nobody gets; it only has to be acknowledged
	Noted      // something was noted that nothing is decided by; it has to be recorded and shown

	// The timers of the program ran out.

	RestartDelayOver
	AutoRestartOver
	SwapDelayOver // a change has waited for long enough
	CalmOver      // no change came right after a start
	LeaveTimedOut // no leave was given in time, or its command does not end
	StopTimedOut

	eventKinds
)

var eventNames = [eventKinds]string{
	Forked: "forked", Retried: "retried", Started: "started", NotStarted: "not started", MainReplaced: "main replaced",
	Waits: "waits", Accepted: "accepted", Notified: "notified", Blind: "blind", BlindOver: "blind over", Ready: "ready",
	Stalled: "stalled", StallOver: "stall over", Beat: "beat", Triggered: "triggered", Exited: "exited", Empty: "empty",
	IntervalOver: "interval", QuietOver: "quiet", ReadyTimedOut: "ready-timeout", KillOldDelayOver: "kill-old-delay",
	DrainTimedOut: "drain-timeout", ProbationOver: "probation", SteadyOver: "steady", WatchdogTimedOut: "watchdog", RunTimedOut: "max-runtime",
	Boot: "boot", Recalled: "recalled", Resumed: "resumed", Changed: "changed", Reload: "reload", Rollback: "rollback", Deployed: "deploy", Hold: "hold", Unhold: "unhold", LeaveCome: "leave", LeaveEnded: "leave ended", LeaveLost: "leave lost", Withdrawn: "withdrawn", LeaveTimedOut: "leave-timeout", Traffic: "traffic",
	Renamed: "renamed", Halt: "stop", Relay: "signal", Dropped: "dropped", Noted: "noted",
	RestartDelayOver: "restart", AutoRestartOver: "auto-restart", SwapDelayOver: "swap-delay", CalmOver: "calm",
	StopTimedOut: "stop-timeout",
}

func (k EventKind) String() string { return eventNames[k] }

// Event is something that happened. Which fields mean something is up to Kind.
type Event struct {
	Kind    EventKind
	N       int
	Release string
	Name    string
	Path    string
	Status  int
	Signal  int
	Delay   time.Duration
	Reason  string
	ByHand  bool // somebody rolled Release back
	Swap    bool

	PID   int
	Start uint64
}

// EffectKind is what the loop has to do.
type EffectKind int

const (
	Prepare    EffectKind = iota // check release Source (Release if Held), and start it as generation N; Cause says why, Foreground whether it gets the terminal
	Cancel                       // stop preparing N; Started or NotStarted still follows
	Tell                         // send Signal to N
	Kill                         // SIGKILL to all of N's processes
	Sweep                        // N's main process ended: SIGTERM to the rest of it, then Empty; Last where the verdict comes next, and init does that
	Foreground                   // N's process group is the terminal's from now on
	Say                          // print Text
	Outcome                      // the start of N, of Release, is decided: OK, or else Text says why not; None where no generation was started at all
	AskLeave                     // run the command of --swap-through, for the Nth time; Cause says why
	EndLeave                     // kill that run of it
	Withdraw                     // tell the other instances of the program that Release failed here, in generation N: Text; Swap where it was being started
	Exit                         // the verdict: Status; Stopped where a signal asked for it; Text says why, "" where it is not said
)

var effectNames = []string{"prepare", "cancel", "tell", "kill", "sweep", "foreground", "say", "outcome", "ask leave", "end leave", "withdraw", "exit"}

func (k EffectKind) String() string { return effectNames[k] }

// Effect is one thing that the loop has to do, in order.
type Effect struct {
	Kind       EffectKind
	N          int
	Source     Source
	Cause      Cause
	Release    string
	Signal     int
	Status     int
	OK         bool
	None       bool
	Last       bool
	Stopped    bool
	Foreground bool
	Swap       bool
	Text       string
	Level      int // of Say
}

// step is one call of Next at work.
type step struct {
	s   State
	p   *Policy
	out []Effect
}

// Next returns the state that an event leads to, and what has to be done.
func Next(s State, p *Policy, ev Event) (State, []Effect) {
	m := step{s: s.Clone(), p: p}
	if m.s.Over {
		return m.s, nil
	}
	if ev.Kind >= Boot {
		if do := programTable[ev.Kind][m.s.Situation()].do; do != nil {
			do(&m, ev)
		}
		m.settle()
		return m.s, m.out
	}
	table := &generationTable
	if m.s.Stop != 0 {
		table = &stoppingTable
	}
	if g := m.s.Find(ev.N); g != nil {
		if do := table[ev.Kind][g.Phase].do; do != nil {
			do(&m, g, ev)
		}
	}
	m.settle()
	return m.s, m.out
}

func (m *step) do(e Effect) { m.out = append(m.out, e) }

// Levels of what is said.
const (
	anError   = iota // something failed
	aDecision        // what hotinit does, and why
	aDetail          // the rest
)

func (m *step) say(level int, format string, args ...any) {
	if level <= m.p.Verbosity {
		m.do(Effect{Kind: Say, Text: fmt.Sprintf(format, args...), Level: level})
	}
}

// firstLevel is the level of how the first generation comes and goes, and of
// hotinit's end: a plain init does not speak of these.
func (m *step) firstLevel() int {
	if m.p.Quiet {
		return aDetail
	}
	return aDecision
}

// endLevel is the level of hotinit's end with a status that is the app's own.
func (m *step) endLevel(status int) int {
	if !m.p.Quiet && status != 0 {
		return anError
	}
	return m.firstLevel()
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
