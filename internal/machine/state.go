package machine

import (
	"slices"
	"time"
)

// Phase is where a generation is in its life.
type Phase int

const (
	// Preparing: its release is being checked, or its process was forked and
	// has not executed the app. It leaves by Started or NotStarted.
	Preparing Phase = iota
	// Candidate: its process runs and is not ready. It leaves by being ready,
	// by ending, by the ready time-out, or for newer content.
	Candidate
	// Current: it serves. At most one generation is in this phase. It leaves
	// by ending or when a newer one is ready.
	Current
	// Retiring: it was terminated, or will be once --kill-old-delay is over.
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

// Cause is why a generation was started.
type Cause int

const (
	ByBoot        Cause = iota // it is the first one
	ByChange                   // there is new content
	ByReload                   // somebody asked
	ByRollback                 // somebody asked to go back
	ByFailure                  // the release before failed, and hotinit goes back
	ByRestart                  // the one before ended (--on-exit, --watchdog)
	ByAutoRestart              // --enable-auto-restart
	ByStall                    // the current one accepts nothing (--on-stall)
	BySignal                   // the signal that asks for a swap came (--reload-signal)
	ByDeploy                   // somebody put a release there and asked for it (hotinit deploy)
)

var causeNames = []string{"boot", "changed", "reload", "rollback", "rolled back after a failure", "restart", "auto-restart", "stalled", "signal", "deploy"}

func (c Cause) String() string { return causeNames[c] }

// Gen is one generation.
type Gen struct {
	N       int
	Phase   Phase
	Source  Source
	Cause   Cause
	Release string // names the release; known once it is forked, with Held at once

	// What a candidate has shown. Each stays true once it was.
	Waits    bool // a process of it waits for connections on a socket of the program
	Accepted bool // it holds a connection that it accepted
	Notified bool // it said READY=1
	Blind    bool // whether it waits cannot be told: time decides
	Lived    bool // for --interval
	Traffic  int  // how many connections came since it is ready

	Terminated bool // it got its signal to go
	Killed     bool // SIGKILL was sent
	Proven     bool // it outlived its probation
	Hung       bool // its watchdog ran out
	Stalled    bool // it leaves connections waiting
	Withdrawn  bool // what it starts failed in another instance meanwhile, see withdrawn
	Overran    bool // it has run for --max-runtime, and was terminated for it

	Extended time.Duration // what it asked for by EXTEND_TIMEOUT_USEC
	Beats    int           // how often it asked for more time, or sent WATCHDOG=1

	// PID and Start (see proc.Stat) say which process it is, and that there is
	// one: a generation that is preparing and has a PID was forked.
	PID   int
	Start uint64
}

// State is all that decisions are made from.
type State struct {
	Next int   // the number that the next generation gets
	Gens []Gen // oldest first

	Again  bool   // a further start is asked for, once the one under way is decided
	Back   bool   // that further start is a rollback
	BackTo string // to this release; "" to the one before
	Want   string // that further start is for this content; "" whatever it is
	Asked  Cause  // why that further start is asked for, where it is for whatever is there

	Stop           int // the signal that stops everything; 0 while nothing does
	StopReason     string
	Served         bool  // a generation was current at some time
	RestartDue     bool  // a restart waits for its timer
	Fails          int   // restarts in a row, without a generation that lasted
	Status         int   // how the last current generation ended
	PendingSignals []int // they came while there was no process to get them
	Over           bool  // the verdict is given

	Newest       string      // the release that the command's path led to last, "" where it is not known
	GoodReleases []Good      // to go back to, the newest last
	Rejected     []Rejection // not to be started by hotinit itself, the newest last
	Reason       string      // why the last start failed

	SpeaksNotify bool // a generation of this program has said READY=1
	BlindSaid    bool // that waiting cannot be told was said

	Due       bool   // a swap waits for leave
	DueBy     Cause  // why it is due
	DueTo     string // the release that a rollback which is due leads to, "" for the one before
	Leave     Leave  // how far the command has come that gives it
	LeaveN    int    // which run of the command that is
	LeaveLate bool   // it was killed, since it did not end

	OnHold bool   // a change is noted, and not acted on
	Noted  bool   // there was one
	Note   string // its release, "" where that is not known

	Swaps   int  // changes in a row that came right after the start before
	Delayed bool // a change waits for its timer, as there were too many in a row
}

// Good is a release that served without failing, until it was replaced or its
// probation was over.
type Good struct {
	Release  string
	N        int  // the generation that last did
	Notified bool // it says READY=1
}

// Rejection is a release that failed or that was sent away.
type Rejection struct {
	Release string
	Reason  string
	ByHand  bool // somebody rolled it back
}

// reason says why.
func (r *Rejection) reason() string {
	if r.ByHand {
		return "it was rolled back by hand"
	}
	return r.Reason
}

const (
	mostGood     = 3
	mostRejected = 8
)

// Clone returns a copy that shares nothing with s.
func (s State) Clone() State {
	s.Gens = slices.Clone(s.Gens)
	s.PendingSignals = slices.Clone(s.PendingSignals)
	s.GoodReleases = slices.Clone(s.GoodReleases)
	s.Rejected = slices.Clone(s.Rejected)
	return s
}

// fewGood lets go of the oldest releases to go back to, of rejected ones first. One whose
// content is not read yet may be one of the others: no other one goes for it.
func (s *State) fewGood() {
	most := mostGood
	if slices.ContainsFunc(s.GoodReleases, func(g Good) bool { return IsUnread(g.Release) }) {
		most++
	}
	for len(s.GoodReleases) > most {
		drop := max(0, slices.IndexFunc(s.GoodReleases, func(g Good) bool { return s.Rejection(g.Release) != nil }))
		s.GoodReleases = slices.Delete(s.GoodReleases, drop, drop+1)
	}
}

// rename gives a release another name.
func (s *State) rename(from, to string) {
	if from == "" {
		return
	}
	change := func(name *string) {
		if *name == from {
			*name = to
		}
	}
	for i := range s.Gens {
		change(&s.Gens[i].Release)
	}
	for i := range s.GoodReleases {
		change(&s.GoodReleases[i].Release)
	}
	for i := range s.Rejected {
		change(&s.Rejected[i].Release)
	}
	// It may have been listed under its new name already, from before a restart.
	if i := s.goodIndex(to); i >= 0 && slices.ContainsFunc(s.GoodReleases[i+1:], func(g Good) bool { return g.Release == to }) {
		s.GoodReleases = slices.Delete(s.GoodReleases, i, i+1)
	}
	s.fewGood()
	change(&s.Want)
	change(&s.BackTo)
	change(&s.DueTo)
	change(&s.Newest)
	change(&s.Note)
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

// Current returns the generation that serves, or nil.
func (s *State) Current() *Gen { return s.In(Current) }

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
	Waiting                   // one serves, and a swap waits for leave
	Swapping                  // one serves, another is being started
	Down                      // none serves, none is being started
	Stopping                  // all are terminated
)

var situationNames = []string{"booting", "serving", "waiting", "swapping", "down", "stopping"}

func (s Situation) String() string { return situationNames[s] }

// Situation returns the situation that the program is in.
func (s *State) Situation() Situation {
	current, starting := s.In(Current), s.starting()
	switch {
	case s.Stop != 0:
		return Stopping
	case current != nil && starting != nil:
		return Swapping
	case current != nil && s.Due:
		return Waiting
	case current != nil:
		return Serving
	case starting != nil:
		return Booting
	}
	return Down
}

// Rejection returns why a release is not started, or nil where nothing is
// known against it.
func (s *State) Rejection(release string) *Rejection {
	for i := range s.Rejected {
		if release != "" && s.Rejected[i].Release == release {
			return &s.Rejected[i]
		}
	}
	return nil
}

// goodIndex returns where a release is in the list of good ones, or -1.
func (s *State) goodIndex(release string) int {
	return slices.IndexFunc(s.GoodReleases, func(g Good) bool { return g.Release == release })
}

// lastGood returns the newest good release that is neither rejected nor this
// one, "" where there is none.
func (s *State) lastGood(except string) string {
	for _, g := range slices.Backward(s.GoodReleases) {
		if g.Release != except && s.Rejection(g.Release) == nil {
			return g.Release
		}
	}
	return ""
}

// mustNotify reports whether a generation is expected to say READY=1: its
// release did when it was good, or else any generation of the program did.
func (s *State) mustNotify(g *Gen) bool {
	if i := s.goodIndex(g.Release); i >= 0 && g.Release != "" {
		return s.GoodReleases[i].Notified
	}
	return s.SpeaksNotify
}

// ready reports whether a candidate has shown all that --ready asks for.
func (s *State) ready(p *Policy, g *Gen) bool {
	waits := g.Waits || g.Accepted || g.Blind && g.Lived
	switch p.Ready {
	case ReadyAuto:
		return waits && (g.Notified || !s.mustNotify(g))
	case ReadyAccept:
		return waits
	case ReadyNotify:
		return g.Notified
	case ReadyInterval:
		return g.Notified || g.Lived
	}
	return false
}

// Revived returns the state from which a program that is over starts anew. What is
// known of its releases stays known, and its generations are numbered on.
func (s State) Revived() State {
	r := s.Clone()
	r.Over, r.Served, r.Delayed, r.RestartDue = false, false, false, false
	r.Stop, r.StopReason, r.Status = 0, "", 0
	r.Fails, r.Swaps, r.PendingSignals = 0, 0, nil
	r.Again, r.Back, r.BackTo, r.Want, r.Asked = false, false, "", "", 0
	r.Gens = slices.DeleteFunc(r.Gens, func(g Gen) bool { return g.Phase != Lingering })
	return r
}

// Releases returns the names of the releases that may still be started or
// are running: those that the loop has to hold open.
func (s *State) Releases() []string {
	var names []string
	for _, g := range s.Gens {
		names = append(names, g.Release)
	}
	for _, g := range s.GoodReleases {
		names = append(names, g.Release)
	}
	for _, r := range s.Rejected {
		if r.ByHand { // somebody may name it
			names = append(names, r.Release)
		}
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

// ReadyMode says what makes a candidate ready.
type ReadyMode int

const (
	// ReadyInterval is --ready auto for a program without sockets: it has lived
	// for --interval, or said READY=1.
	ReadyInterval ReadyMode = iota
	// ReadyAuto: it waits for connections, has said READY=1 if it speaks
	// sd_notify, and accepts what comes.
	ReadyAuto
	// ReadyAccept is ReadyAuto without READY=1.
	ReadyAccept
	// ReadyNotify: READY=1 alone.
	ReadyNotify
	// ReadyOther: the event Ready alone (--ready fd:, exec:).
	ReadyOther
)

// Policy is what the machine was configured with.
type Policy struct {
	Ready        ReadyMode
	Interval     time.Duration // start_server's --interval
	ReadyTimeout time.Duration // 0: for ever
	KillOldDelay time.Duration
	DrainTimeout time.Duration // 0: for ever
	StopTimeout  time.Duration // 0: for ever
	Probation    time.Duration
	AutoRestart  time.Duration // 0: never
	Watchdog     time.Duration // 0: none
	StallTimeout time.Duration // of the one who observes it, for the lines
	MaxRuntime   time.Duration // 0: for ever
	MaxOld       int           // 0: any number
	OnExit       OnExit
	OnStall      bool // a generation that stalls after its probation is replaced
	RetryFirst   bool // a first generation that fails is tried again
	RetryLater   bool // after growing delays, and not each Interval
	Once         bool // it runs to its end: one that executes is current, and done when it ends with 0
	Retries      int  // of one that runs once: how often it is tried again

	Through      bool          // a swap needs leave (--swap-through)
	LeaveTimeout time.Duration // 0: for ever
	InTurn       bool          // it is one of several instances: a swap and a rollback need leave, which package roll gives
	Rolling      bool          // instances are being replaced: no probation ends before that is over

	ReloadSignal int         // 0: none
	StopSignals  map[int]int // which signals stop, and what the app gets then
	RetireSignal int         // what an old generation gets

	Verbosity int  // 0: errors, 1: and what is decided, 2 and more: all
	Quiet     bool // hotinit is a plain init: how its one generation comes and goes is a detail
}
