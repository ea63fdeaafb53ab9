package machine

import (
	"fmt"
	"slices"
	"time"
)

// Phase is where a generation is in its life.
type Phase int

const (
	// Preparing: its release is being checked and has no process yet. It
	// leaves by Started or NotStarted.
	Preparing Phase = iota
	// Candidate: its process runs and is not ready. It leaves by being ready,
	// by ending, by the ready time-out, or for newer content.
	Candidate
	// Current: it serves. At most one generation is in this phase. It leaves
	// by ending or when a newer one is ready.
	Current
	// Retiring: it is told to go, or will be once --kill-old-delay is over.
	// It leaves by ending.
	Retiring
	// Lingering: its main process has ended, and some that it forked have
	// not. It leaves by Empty.
	Lingering
)

var phaseNames = []string{"preparing", "candidate", "current", "retiring", "lingering"}

func (p Phase) String() string { return phaseNames[p] }

// Source is where a generation's executable comes from.
type Source int

const (
	// Newest is what the command's path leads to when it is started.
	Newest Source = iota
	// Held is a release that hotinit holds open, whatever became of the path.
	Held
)

// Gen is one generation.
type Gen struct {
	N       int
	Phase   Phase
	Source  Source
	Release string // names the release; known once it is started, with Held at once

	Told   bool // to go, by a signal
	Killed bool // SIGKILL was sent
	Proven bool // it outlived its probation
	Hung   bool // its watchdog ran out

	Extended time.Duration // what it asked for by EXTEND_TIMEOUT_USEC
	Beats    int           // how often it asked for more time, or told its watchdog that it lives

	// PID and Start (see proc.Stat) say which process it is. The machine
	// never looks at them.
	PID   int
	Start uint64
}

// State is all that decisions are made from.
type State struct {
	Next int   // the number that the next generation gets
	Gens []Gen // oldest first

	Again  bool   // a further start is asked for, once the one under way is decided
	Back   bool   // that further start is a rollback
	Want   string // that further start is for this content; "" whatever it is
	Stop   int    // the signal that stops everything; 0 while nothing does
	Served bool   // a generation was current at some time
	Due    bool   // a restart waits for its timer
	Fails  int    // restarts in a row, without a generation that lasted
	Status int    // how the last current generation ended
	Held   []int  // signals that came while there was no process to get them
	Over   bool   // the verdict is given
	Good   []Good // the last two releases that outlived their probation, newest last

	Rejected string // a release that failed, "" where none did
	Reason   string // why
}

// Good is a release that outlived its probation, and the generation that did.
type Good struct {
	Release string
	N       int
}

func (s State) Clone() State {
	s.Gens = slices.Clone(s.Gens)
	s.Held = slices.Clone(s.Held)
	s.Good = slices.Clone(s.Good)
	return s
}

// Rename gives a release another name.
func (s *State) Rename(from, to string) {
	for i := range s.Gens {
		if s.Gens[i].Release == from {
			s.Gens[i].Release = to
		}
	}
	for i := range s.Good {
		if s.Good[i].Release == from {
			s.Good[i].Release = to
		}
	}
	if s.Rejected == from {
		s.Rejected = to
	}
	if s.Want == from {
		s.Want = to
	}
}

// Find returns generation n, or nil where it is gone.
func (s *State) Find(n int) *Gen {
	for i := range s.Gens {
		if s.Gens[i].N == n {
			return &s.Gens[i]
		}
	}
	return nil
}

// In returns the newest generation in a phase, or nil.
func (s *State) In(p Phase) *Gen {
	for i := len(s.Gens) - 1; i >= 0; i-- {
		if s.Gens[i].Phase == p {
			return &s.Gens[i]
		}
	}
	return nil
}

// starting returns the generation that is being started, or nil.
func (s *State) starting() *Gen {
	if g := s.In(Candidate); g != nil {
		return g
	}
	return s.In(Preparing)
}

// Situation is what the program as a whole is in. It follows from the state.
type Situation int

const (
	Booting  Situation = iota // one is being started, none serves
	Serving                   // one serves
	Swapping                  // one serves, another is being started
	Down                      // none serves, none is being started
	Stopping                  // all are told to go
)

var situationNames = []string{"booting", "serving", "swapping", "down", "stopping"}

func (s Situation) String() string { return situationNames[s] }

func (s *State) Situation() Situation {
	current, starting := s.In(Current), s.starting()
	switch {
	case s.Stop != 0:
		return Stopping
	case current != nil && starting != nil:
		return Swapping
	case current != nil:
		return Serving
	case starting != nil:
		return Booting
	}
	return Down
}

// good returns the last good release, "" where none is.
func (s *State) good() string {
	if len(s.Good) == 0 {
		return ""
	}
	return s.Good[len(s.Good)-1].Release
}

// Releases returns the names of the releases that may still be started or
// are running: those that the loop has to hold open.
func (s *State) Releases() []string {
	var names []string
	for _, g := range s.Gens {
		names = append(names, g.Release)
	}
	for _, g := range s.Good {
		names = append(names, g.Release)
	}
	return names
}

// OnExit says what happens when the current generation ends by itself.
type OnExit int

const (
	ExitToo          OnExit = iota // hotinit ends with its status
	RestartOnFailure               // another is started if its status is not 0
	Restart                        // another is started
)

// Policy is what the machine was configured with.
type Policy struct {
	ByInterval   bool          // alive for Interval counts as ready
	Interval     time.Duration // start_server's --interval
	ReadyTimeout time.Duration // 0: for ever
	KillOldDelay time.Duration
	DrainTimeout time.Duration // 0: for ever
	StopTimeout  time.Duration // 0: for ever
	Probation    time.Duration
	AutoRestart  time.Duration // 0: never
	Watchdog     time.Duration // 0: none
	MaxOld       int           // 0: any number
	OnExit       OnExit
	RetryFirst   bool // a first generation that fails is tried again

	ReloadSignal int         // 0: none
	StopSignals  map[int]int // which signals stop, and what the app gets then
	RetireSignal int         // what an old generation gets
}

// TimerKind is what a timer is for.
type TimerKind int

const (
	IntervalTimer TimerKind = iota
	ReadyTimer
	KillOldTimer
	DrainTimer
	StopTimer
	ProbationTimer
	RestartTimer
	AutoRestartTimer
	WatchdogTimer
	SteadyTimer
)

var timerNames = []string{"interval", "ready-timeout", "kill-old-delay", "drain-timeout", "stop-timeout", "probation", "restart", "auto-restart", "watchdog", "steady"}

func (k TimerKind) String() string { return timerNames[k] }

// Timer names a timer that runs. Beat tells one that was extended from the one
// before it.
type Timer struct {
	Kind TimerKind
	N    int
	Beat int
}

func (t Timer) String() string { return fmt.Sprintf("%v %d", t.Kind, t.N) }

// Event is what follows when a timer runs out.
func (t Timer) Event() Event {
	switch t.Kind {
	case StopTimer:
		return Event{Kind: StopExpired}
	case RestartTimer:
		return Event{Kind: RestartDue}
	case AutoRestartTimer:
		return Event{Kind: AutoRestartDue}
	}
	return Event{Kind: Expired, N: t.N, Timer: t.Kind}
}

// Timers returns the timers that run in a state, with how long each runs from
// when it first appears. Nobody arms or disarms a timer: the loop compares.
func Timers(s State, p Policy) map[Timer]time.Duration {
	run := make(map[Timer]time.Duration)
	arm := func(kind TimerKind, n, beat int, d time.Duration) { run[Timer{kind, n, beat}] = d }
	if s.Over {
		return run
	}
	for _, g := range s.Gens {
		switch {
		case g.Killed || g.Phase == Preparing:
		case g.Phase == Lingering || g.Hung || g.Phase == Retiring && g.Told:
			if p.DrainTimeout > 0 {
				arm(DrainTimer, g.N, 0, p.DrainTimeout)
			}
		case s.Stop != 0:
		case g.Phase == Candidate:
			if p.ByInterval {
				arm(IntervalTimer, g.N, 0, p.Interval)
			}
			if p.ReadyTimeout > 0 {
				arm(ReadyTimer, g.N, g.Beats, max(p.ReadyTimeout, g.Extended))
			}
		case g.Phase == Retiring:
			arm(KillOldTimer, g.N, 0, p.KillOldDelay)
		case g.Phase == Current:
			if !g.Proven {
				arm(ProbationTimer, g.N, 0, p.Probation)
			}
			if s.Fails > 0 {
				arm(SteadyTimer, g.N, 0, steadyAfter)
			}
			if p.Watchdog > 0 {
				arm(WatchdogTimer, g.N, g.Beats, max(p.Watchdog, g.Extended))
			}
			if p.AutoRestart > 0 && s.Situation() == Serving {
				arm(AutoRestartTimer, g.N, 0, p.AutoRestart)
			}
		}
	}
	if s.Stop != 0 && p.StopTimeout > 0 && slices.ContainsFunc(s.Gens, func(g Gen) bool { return !g.Killed }) {
		arm(StopTimer, 0, 0, p.StopTimeout)
	}
	if s.Due {
		arm(RestartTimer, s.Next, 0, restartDelay(s, p))
	}
	return run
}

// steadyAfter is how long a generation has to serve for the next restart to be
// at once again. It is not the probation: that may be short, or none.
const steadyAfter = 10 * time.Second

// longestDelay bounds the wait between two restarts.
const longestDelay = 30 * time.Second

// restartDelay is how long a restart waits: nothing the first time, then
// twice as long each time, so that an app that dies at once burns no processor.
func restartDelay(s State, p Policy) time.Duration {
	if !s.Served {
		return max(p.Interval, 100*time.Millisecond)
	}
	if s.Fails <= 1 {
		return 0
	}
	return min(100*time.Millisecond<<min(s.Fails-2, 10), longestDelay)
}
