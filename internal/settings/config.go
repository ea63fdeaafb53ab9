// Package settings turns a command line and the environment into one Config.
//
// The invariant: each setting is one row of the table in options.go. The flag,
// the variable, the error that names what is allowed, the help text and
// docs/options.md all come from that row, and a flag wins over its variable.
// Nothing is read but argv and the environment, so the same two give the same
// Config in every process of one hotinit.
//
// Read Config first (what the other packages see), then options.go (the table),
// parse.go (the command line), env.go (the variables) and compat.go (the command
// lines of tini, dumb-init, catatonit and start_server, chosen by the name that
// hotinit was started under).
package settings

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/sockets"
)

// Config is what hotinit was asked to do. Durations of 0 mean what their
// comment says.
type Config struct {
	// Action is what to do; all but Run need no Command.
	Action Action
	// Command is the app and its arguments, as execvp(3) takes them.
	Command []string
	// Programs is the directory that has a file for each further program, "" for
	// none.
	Programs string
	// Program is the name of the program that a file made, "" for the one of the
	// command line; Environment is what its file adds to hotinit's environment.
	Program     string
	Environment []string
	// StartSpacing is the time between two programs' starts. MaxStarts is how many may
	// be starting at once: 0 for any number, -1 for twice the processors.
	StartSpacing time.Duration
	MaxStarts    int
	// After are the programs that have to be ready before this one is started.
	After []string
	// Instances is how many of the program run; 0 where its file does not say, so that
	// there is one, which has no number.
	Instances int
	// Once: the program runs to its end, and is tried again Retries times.
	Once    bool
	Retries int
	// Schedule is when it does so; "" for once, at the start.
	Schedule string
	// Zone is the time zone of Schedule.
	Zone *time.Location
	// Essential: everything ends when this program has ended for good.
	Essential bool
	// MaxRuntime ends a generation that has run for so long; 0 for none.
	MaxRuntime time.Duration
	// Compat is the tool whose command line was read: "" (hotinit itself),
	// "tini", "dumb-init", "catatonit" or "start_server".
	Compat string
	// Warnings are things to say once, such as a HOTINIT_ variable that is not
	// known. Each is one line.
	Warnings []string

	// Sockets are those of --port, --path and --listen, in this order.
	Sockets []sockets.Spec
	// Backlog is for listen(2), 0 for the most that the kernel allows.
	Backlog int
	// KeepFDs are numbers of descriptors that hotinit was started with and the
	// app gets under the same numbers, besides 0, 1 and 2, although it gets
	// sockets.
	KeepFDs []int
	// Adopt says when the sockets that the app binds itself are taken over.
	Adopt Adopt

	// User is "name|uid[:group|gid]", "" to stay who hotinit is.
	User string
	// Groups are the supplementary groups by name or number; nil for those that
	// the user has in /etc/group.
	Groups []string
	// Umask is -1 where hotinit's own is kept.
	Umask int
	// Dir is the app's working directory, "" for the one hotinit was started in.
	Dir string
	// EnvDir is a directory with a file for each variable, read anew for each
	// generation; "" for none.
	EnvDir string
	// NoNewPrivs sets PR_SET_NO_NEW_PRIVS for the app.
	NoNewPrivs bool

	// Ready is how a generation shows that it is ready.
	Ready Ready
	// Interval is how long a generation has to live to be ready where that is
	// what counts. 0: at once.
	Interval time.Duration
	// ReadyTimeout is how long a candidate may take. 0: as long as it likes.
	ReadyTimeout time.Duration
	// KillOldDelay is the time between a new generation's readiness and the
	// signal to the old one.
	KillOldDelay time.Duration
	// DrainTimeout is how long a retiring generation may take in a swap before
	// it is killed. 0: as long as it likes.
	DrainTimeout time.Duration
	// StopTimeout is the same when hotinit itself stops. 0: as long as it
	// likes.
	StopTimeout time.Duration
	// Cgroup says when generations get cgroups of their own.
	Cgroup Cgroup
	// Probation is how long a new current generation can be rolled back by its
	// own death. 0: not at all.
	Probation time.Duration
	// MaxOld bounds how many retiring generations drain at once. 0: no bound.
	MaxOld int
	// StallTimeout is how long connections may wait while the current generation
	// accepts none. 0: for ever.
	StallTimeout time.Duration
	// RestartOnStall replaces a generation that stalls after its probation.
	RestartOnStall bool
	// OnExit is what happens when current ends by itself.
	OnExit OnExit
	// RetryFirst starts a failed first generation again each Interval, as
	// start_server does, where hotinit would end with its status.
	RetryFirst bool
	// AutoRestart starts a new generation each AutoRestartInterval.
	AutoRestart         bool
	AutoRestartInterval time.Duration
	// Watchdog is the most time between two WATCHDOG=1 of the app. 0: off.
	Watchdog time.Duration

	// SignalOnHUP goes to the old generation in a swap.
	SignalOnHUP unix.Signal
	// SignalOnTERM goes to every generation when hotinit gets SIGTERM. 0: the
	// signal that came.
	SignalOnTERM unix.Signal
	// ReloadSignal asks for a new generation. 0: none does, and SIGHUP is
	// relayed like any other.
	ReloadSignal unix.Signal

	// Watch watches the command's executable, or an interpreter's script, for a
	// new release.
	Watch bool
	// WatchSelf watches hotinit's own executable, for another one to take over.
	WatchSelf bool
	// WatchPaths are watched besides, whatever Watch says.
	WatchPaths []WatchPath
	// Ignore are patterns as .gitignore has them, for WatchPaths.
	Ignore []string
	// Poll says when to look at the files by time, PollInterval how often.
	Poll         Poll
	PollInterval time.Duration
	// Settle is how long files must be quiet before they count as a release.
	Settle time.Duration
	// Check is a command that says whether a release is complete, {} in it being
	// the release's path; "" for none. CheckTimeout is its time, 0 for no limit.
	Check        string
	CheckTimeout time.Duration
	// SwapThrough is a command that runs where a swap is due; the swap happens when it
	// runs {}. "" for none. SwapThroughTimeout is its time, 0 for no limit.
	SwapThrough        string
	SwapThroughTimeout time.Duration
	// Snapshot runs each generation from a private copy, kept in SnapshotDir, or
	// in memory where that is "".
	Snapshot    bool
	SnapshotDir string
	// StateDir keeps the last good releases and what was rejected, for after a
	// restart; "" for none.
	StateDir string
	// TrustedKeys are files with public keys of minisign: only what one of them
	// has signed runs, from private copies (Snapshot is true). nil: anything runs.
	TrustedKeys []string
	// NoDowngrade refuses what was signed before a release that ran.
	NoDowngrade bool

	// PidFile, StatusFile and LogFile are start_server's; "" for none.
	PidFile    string
	StatusFile string
	// LogFile is a path, or "| command".
	LogFile string
	// LogPrefix puts the program's name before each line that it writes.
	LogPrefix bool
	// LogJSON makes hotinit's own lines JSON objects.
	LogJSON bool
	// OnEvent is a command that runs for each event, "" for none. OnEventTimeout is
	// its time, 0 for no limit.
	OnEvent        string
	OnEventTimeout time.Duration
	Daemonize      bool

	// Group sends relayed signals to the app's whole process group.
	Group bool
	// Session starts each generation in a session of its own (setsid(2)), as
	// dumb-init does, and not just in a process group of its own.
	Session bool
	// WarnOnReap says so for each orphan that is reaped.
	WarnOnReap bool
	// Verbosity is how much hotinit prints: 0 errors only, 1 also what it does and
	// why, 2 also details, 3 and more also each signal.
	Verbosity int
	// ExitZero are the app's exit codes that hotinit turns into 0.
	ExitZero Codes
	// ParentDeath is the signal for hotinit itself when its parent dies. 0: none.
	ParentDeath unix.Signal
	// Rewrite maps a received signal to the one that is relayed for it, 0 to
	// drop it. nil: none.
	Rewrite map[unix.Signal]unix.Signal
	// Pause runs no command and ends with SIGINT or SIGTERM: catatonit's -P.
	Pause bool

	killOldDelaySet bool // else its default depends on AutoRestart

	applied []setting // what was given, in order: the defaults of the programs
}

// Action is what a command line asks for.
type Action uint8

// The actions.
const (
	Run     Action = iota
	Help           // print HelpText
	Version        // print VersionText
	License        // print the licence
	Restart        // HUP to the hotinit of PidFile, wait for its StatusFile
	Stop           // TERM to the hotinit of PidFile, wait for its end
)

// OnExit is what happens when the current generation ends by itself.
type OnExit uint8

// What can happen.
const (
	Exit             OnExit = iota // hotinit ends with its status
	RestartOnFailure               // it is started again unless its status is 0
	RestartAlways                  // it is started again
)

// ReadyMode is how a generation shows that it is ready.
type ReadyMode uint8

// The ways to show it.
const (
	ReadyAuto     ReadyMode = iota // it waits for connections and accepts them, and says READY=1 if it speaks that; without sockets ReadyInterval
	ReadyNotify                    // READY=1 on NOTIFY_SOCKET
	ReadyFD                        // a newline on descriptor FD
	ReadyExec                      // Command exits with 0
	ReadyAccept                    // ReadyAuto without READY=1
	ReadyInterval                  // READY=1, or alive for Interval, whichever is first
)

// Ready is the value of --ready.
type Ready struct {
	Mode    ReadyMode
	FD      int    // of ReadyFD
	Command string // of ReadyExec
}

// Poll is the value of --poll.
type Poll uint8

// When files are looked at by time.
const (
	PollAuto   Poll = iota // where the file system does not report every change
	PollOff                // never
	PollAlways             // everywhere
)

// Adopt is the value of --adopt.
type Adopt uint8

// When the sockets that the app binds itself are taken over.
const (
	AdoptAuto Adopt = iota // where no socket is given, and no program loses privileges by it
	AdoptOn                // always; that it is not possible is an error
	AdoptOff               // never
)

// Cgroup is the value of --cgroup.
type Cgroup uint8

// When generations get cgroups of their own.
const (
	CgroupAuto Cgroup = iota // where they may be made, and hide no limit from the app
	CgroupOn                 // wherever they can be made
	CgroupOff                // never
)

// WatchPath is the value of one --watch.
type WatchPath struct {
	Path   string
	Signal unix.Signal // sent to current upon a change; 0: a new generation starts
}

// Codes is a set of exit codes, 0 to 255.
type Codes [4]uint64

// Has says whether code is in the set.
func (c *Codes) Has(code int) bool {
	return code >= 0 && code < 256 && c[code/64]&(1<<(code%64)) != 0
}

func (c *Codes) add(code int) { c[code/64] |= 1 << (code % 64) }

// Error is a command line or a variable that can't be used. Its text is one
// line that names the flag or variable, the value, and what is allowed.
type Error struct {
	text string
	code int
}

func (e *Error) Error() string { return e.text }

// ExitCode is 125, or what the tool whose command line was read ends with.
func (e *Error) ExitCode() int { return e.code }
