package settings

import (
	"github.com/hotinit/hotinit/internal/schedule"
	"github.com/hotinit/hotinit/internal/sockets"
)

// option is one setting: a row of the table.
type option struct {
	name  string // the long flag, without dashes
	short string // letters that mean the same
	env   string // the variable without HOTINIT_, "" for none
	arg   string // what the value is called in the help; "" for a switch
	def   string // the default, as the help says it; "" for none
	help  string // one sentence without its full stop
	group string // the heading it stands under; "" for the one before

	allowed string                // what a value may be: "must be " goes before it
	split   func(string) []string // for settings given several times: takes the variable apart

	set func(c *Config, value string) error // errMust, or an error that says more
	of  scope
}

// scope says whose a setting is where several programs run (--programs).
type scope uint8

const (
	// eachProgram's: a program's file may set it, and what hotinit itself was given
	// is the default of them all.
	eachProgram scope = iota
	// oneProgram's: it makes no sense for two, so what hotinit itself was given is
	// for the command beside them alone.
	oneProgram
	// hotinits own: no program's file may set it.
	hotinits
	// files': only a program's file may set it.
	files
)

// flag is how the help and errors call o.
func (o *option) flag() string { return "--" + o.name }

// variable is the full name of o's variable.
func (o *option) variable() string { return prefix + o.env }

// Values that several rows allow.
const (
	aTime   = "a time: seconds, or with a unit as in 500ms or 2m"
	aSpan   = "a time above 0: seconds, or with a unit as in 500ms or 2m"
	aCount  = "a number from 0"
	aSignal = "a signal such as TERM, SIGUSR2, 15 or RTMIN+3"
	aSwitch = "true or false"
	aPath   = "a path"
	aWatch  = "a path, and the name of a signal after a colon, or :reload for a swap"
)

// options is the table. The fields of environment stand in the same order.
var options = [...]option{
	{name: "port", env: "PORTS", arg: "SPEC", group: "Sockets (--port, --path and --listen may be repeated)",
		help:    "listen on [host:]port[=fd]; a port alone is for IPv4 and IPv6 (for IPv4 under the name start_server), 0.0.0.0:port for IPv4 only, [::1]:port for an IPv6 address, u8080 for UDP; 0 for any port",
		allowed: sockets.Syntax, split: sockets.SplitList, set: addSocket, of: oneProgram},
	{name: "path", env: "PATHS", arg: "PATH",
		help:    "listen on a unix stream socket",
		allowed: "the path of a unix socket", split: splitCommas, set: addPath, of: oneProgram},
	{name: "listen", env: "LISTEN", arg: "SPEC",
		help:    "listen with options: tcp:[::1]:80,name=http or unix:/run/a.sock,type=dgram,mode=0660,user=www",
		allowed: sockets.Syntax, split: sockets.SplitList, set: addSocket, of: oneProgram},
	{name: "backlog", env: "BACKLOG", arg: "N", def: "what the kernel allows",
		help:    "accept queue: how many connections may wait",
		allowed: "a number from 1", set: func(c *Config, v string) error { return setInt(&c.Backlog, v, 1, 1<<30) }},
	{name: "keep-fds", env: "KEEP_FDS", arg: "N,N",
		help:    "inherited descriptors to pass on to the app besides its sockets",
		allowed: "numbers of descriptors from 3, with commas between", split: splitCommas, set: addKeepFDs, of: oneProgram},
	{name: "adopt", env: "ADOPT", arg: "WHEN", def: "auto",
		help:    "take over the sockets that the app binds itself, so that the next generation gets them: auto (where no socket is given, and no program loses privileges by it), on or off",
		allowed: "auto, on or off", set: setAdopt},

	{name: "user", env: "USER", arg: "NAME[:GROUP]", group: "The app's process",
		help:    "run the app as this user, by name or number",
		allowed: "a user's name or number, and a group's after a colon", set: setUser},
	{name: "groups", env: "GROUPS", arg: "NAME,NAME", def: "the user's own",
		help:    "supplementary groups, by name or number",
		allowed: "names or numbers of groups, with commas between", split: splitCommas, set: addGroups},
	{name: "umask", env: "UMASK", arg: "OCTAL",
		help:    "file mode mask of the app",
		allowed: "an octal number from 0 to 0777", set: setUmask},
	{name: "dir", env: "DIR", arg: "PATH",
		help:    "working directory of the app",
		allowed: aPath, set: func(c *Config, v string) error { return setText(&c.Dir, v) }},
	{name: "envdir", env: "ENVDIR", arg: "PATH",
		help:    "directory with a file for each variable, read for each generation",
		allowed: aPath, set: func(c *Config, v string) error { return setText(&c.EnvDir, v) }},
	{name: "no-new-privs", env: "NO_NEW_PRIVS",
		help: "the app can't gain privileges by set-user-ID files",
		set:  func(c *Config, v string) error { return setBool(&c.NoNewPrivs, v) }},

	{name: "ready", env: "READY", arg: "HOW", def: "auto", group: "Swaps",
		help:    "how a new generation shows that it is ready: auto (it waits for connections on its socket and accepts what comes, and says READY=1 if it ever does; without a socket as interval), accept (auto without READY=1), notify (READY=1 alone), fd:N (a newline on descriptor N), exec:COMMAND (exits with 0; a request to the port may be answered by the old generation, HOTINIT_READY_GENERATION and HOTINIT_READY_PID name the new one), interval (READY=1, or alive for --interval)",
		allowed: "auto, accept, notify, fd:N, exec:COMMAND or interval", set: setReady, of: oneProgram},
	{name: "interval", env: "INTERVAL", arg: "TIME", def: "1s",
		help:    "how long it must live to be ready where time decides; where it must accept what comes, how long nothing must come",
		allowed: aTime, set: func(c *Config, v string) error { return setTime(&c.Interval, v) }},
	{name: "ready-timeout", env: "READY_TIMEOUT", arg: "TIME", def: "60s",
		help:    "reject a generation that is not ready by then; 0: never",
		allowed: aTime, set: func(c *Config, v string) error { return setTime(&c.ReadyTimeout, v) }},
	{name: "kill-old-delay", env: "KILL_OLD_DELAY", arg: "TIME", def: "0, or 5s with --enable-auto-restart",
		help:    "how long the old generation still serves once the new one is ready",
		allowed: aTime, set: setKillOldDelay},
	{name: "drain-timeout", env: "DRAIN_TIMEOUT", arg: "TIME", def: "60s",
		help:    "kill an old generation that has not exited by then; 0: never",
		allowed: aTime, set: func(c *Config, v string) error { return setTime(&c.DrainTimeout, v) }},
	{name: "stop-timeout", env: "STOP_TIMEOUT", arg: "TIME", def: "9s",
		help:    "the same limit when hotinit stops; below the 10 s of docker stop; 0: never",
		allowed: aTime, set: func(c *Config, v string) error { return setTime(&c.StopTimeout, v) }},
	{name: "cgroup", env: "CGROUP", arg: "WHEN", def: "auto",
		help:    "give each generation a cgroup of its own, so that every process it forked is found: auto (where that is allowed and hides no limit), on or off",
		allowed: "auto, on or off", set: setCgroup},
	{name: "probation", env: "PROBATION", arg: "TIME", def: "10s",
		help:    "roll back a new generation that ends within this time; 0: never",
		allowed: aTime, set: func(c *Config, v string) error { return setTime(&c.Probation, v) }},
	{name: "max-old", env: "MAX_OLD", arg: "N", def: "0, no limit",
		help:    "how many old generations may drain at once; beyond it the oldest is killed",
		allowed: aCount, set: func(c *Config, v string) error { return setInt(&c.MaxOld, v, 0, 1<<30) }},
	{name: "on-exit", env: "ON_EXIT", arg: "WHAT", def: "exit",
		help:    "when the app ends by itself: exit, restart-on-failure or restart",
		allowed: "exit, restart-on-failure or restart", set: setOnExit},
	{name: "stall-timeout", env: "STALL_TIMEOUT", arg: "TIME", def: "5s",
		help:    "a generation that leaves connections waiting for so long, and accepts none, has stalled: it is rolled back in its probation; 0: never",
		allowed: aTime, set: func(c *Config, v string) error { return setTime(&c.StallTimeout, v) }},
	{name: "on-stall", env: "ON_STALL", arg: "WHAT", def: "report",
		help:    "when a generation stalls after its probation: report (health and status say so) or restart",
		allowed: "report or restart", set: setOnStall},
	{name: "enable-auto-restart", env: "ENABLE_AUTO_RESTART",
		help: "start a new generation periodically",
		set:  func(c *Config, v string) error { return setBool(&c.AutoRestart, v) }},
	{name: "auto-restart-interval", env: "AUTO_RESTART_INTERVAL", arg: "TIME", def: "360s",
		help:    "how often --enable-auto-restart does so",
		allowed: aSpan, set: setAutoRestartInterval},
	{name: "max-runtime", env: "MAX_RUNTIME", arg: "TIME", def: "0, any",
		help:    "end a generation that has run for this long: TERM, KILL after --drain-timeout; what follows is as after any end",
		allowed: aTime, set: func(c *Config, v string) error { return setTime(&c.MaxRuntime, v) }},
	{name: "watchdog", env: "WATCHDOG", arg: "TIME", def: "0, off",
		help:    "replace a generation that sends no WATCHDOG=1 for this long",
		allowed: aTime, set: func(c *Config, v string) error { return setTime(&c.Watchdog, v) }},

	{name: "signal-on-hup", env: "SIGNAL_ON_HUP", arg: "SIGNAL", def: "TERM", group: "Signals",
		help:    "signal that tells the old generation to exit in a swap",
		allowed: aSignal, set: func(c *Config, v string) error { return setSignal(&c.SignalOnHUP, v) }},
	{name: "signal-on-term", env: "SIGNAL_ON_TERM", arg: "SIGNAL", def: "the one that came",
		help:    "signal that the app gets when hotinit gets TERM",
		allowed: aSignal, set: func(c *Config, v string) error { return setSignal(&c.SignalOnTERM, v) }},
	{name: "reload-signal", env: "RELOAD_SIGNAL", arg: "SIGNAL", def: "HUP",
		help:    "signal to hotinit that starts a swap; none: no signal does",
		allowed: aSignal + ", or none", set: setReloadSignal},
	{name: "group", short: "g", env: "GROUP",
		help: "relay signals to the app's whole process group",
		set:  func(c *Config, v string) error { return setBool(&c.Group, v) }},
	{name: "single-child", short: "c", env: "SINGLE_CHILD", def: "on",
		help: "relay signals to the app's main process only",
		set:  setSingleChild},
	{name: "setsid", env: "SETSID",
		help: "give the app a session of its own; job control signals (TSTP, TTIN, TTOU) stop hotinit with it",
		set:  func(c *Config, v string) error { return setBool(&c.Session, v) }},
	{name: "rewrite", short: "r", env: "REWRITE", arg: "A:B",
		help:    "relay signal A as signal B; A:0 drops A",
		allowed: "two signals with a colon between, as in TERM:QUIT or 15:3; 0 as the second drops the first",
		split:   splitCommas, set: addRewrite},

	{name: "watch", env: "WATCH", arg: "PATH[:SIGNAL]", group: "New releases (the command's executable is watched)",
		help:    "also watch this file, directory or glob; a change starts a swap, or sends the signal to the app",
		allowed: aWatch, split: splitCommas, set: addWatch, of: oneProgram},
	{name: "no-watch", env: "NO_WATCH",
		help: "don't watch the executable",
		set:  setNoWatch},
	{name: "watch-self", env: "WATCH_SELF",
		help: "also watch hotinit's own file, and let what is renamed over it take over from the hotinit that runs (see hotinit upgrade)",
		set:  func(c *Config, v string) error { return setBool(&c.WatchSelf, v) }},
	{name: "ignore", env: "IGNORE", arg: "PATTERN",
		help:    "pattern of files to ignore below --watch, in the syntax of .gitignore",
		allowed: "a pattern", split: splitCommas, set: addIgnore},
	{name: "poll", env: "POLL", arg: "HOW", def: "auto",
		help:    "poll the watched files: auto (where the file system does not report changes), off, or an interval (everywhere)",
		allowed: "auto, off, or " + aSpan, set: setPoll},
	{name: "settle", env: "SETTLE", arg: "TIME", def: "500ms",
		help:    "how long a file that is written in place must stay unchanged before it counts",
		allowed: aTime, set: func(c *Config, v string) error { return setTime(&c.Settle, v) }},
	{name: "check", env: "CHECK", arg: "COMMAND",
		help:    "run before a release is started, which needs exit code 0; {} is the release's path",
		allowed: "a command", set: func(c *Config, v string) error { return setText(&c.Check, v) }, of: oneProgram},
	{name: "check-timeout", env: "CHECK_TIMEOUT", arg: "TIME", def: "30s",
		help:    "time limit of --check; 0: none",
		allowed: aTime, set: func(c *Config, v string) error { return setTime(&c.CheckTimeout, v) }},
	{name: "swap-through", env: "SWAP_THROUGH", arg: "COMMAND",
		help:    "run this where a swap is due; the swap happens when it runs {}, which ends with the outcome, as in flock /app/.swap {}; a rollback, and what follows a failure, does not wait for it",
		allowed: "a command with {} in it", set: setSwapThrough},
	{name: "swap-through-timeout", env: "SWAP_THROUGH_TIMEOUT", arg: "TIME", def: "10m",
		help:    "how long it may take to run {}, and to end after the swap; 0: for ever",
		allowed: aTime, set: func(c *Config, v string) error { return setTime(&c.SwapThroughTimeout, v) }},
	{name: "snapshot", env: "SNAPSHOT",
		help: "run each generation from a private copy of the executable and of the --watch directory, so that they can be overwritten",
		set:  func(c *Config, v string) error { return setBool(&c.Snapshot, v) }},
	{name: "snapshot-dir", env: "SNAPSHOT_DIR", arg: "PATH", def: "in memory; of a directory, below /tmp",
		help:    "directory for these copies",
		allowed: aPath, set: func(c *Config, v string) error { return setText(&c.SnapshotDir, v) }},
	{name: "state-dir", env: "STATE_DIR", arg: "PATH",
		help:    "directory that outlives the container: keeps the last good releases, so that a rejected one is not started after a restart",
		allowed: aPath, set: func(c *Config, v string) error { return setText(&c.StateDir, v) }},
	{name: "trusted-key", env: "TRUSTED_KEY", arg: "FILE",
		help:    "public key of minisign; only a release that it has signed runs: the executable by NAME.minisig beside it, or the --watch directory by SHA256SUMS and SHA256SUMS.minisig in it; runs from private copies; may be repeated",
		allowed: aPath, split: splitCommas, set: addTrustedKey},
	{name: "no-downgrade", env: "NO_DOWNGRADE",
		help: "refuse a release that was signed before one that ran; with --state-dir also after a restart",
		set:  func(c *Config, v string) error { return setBool(&c.NoDowngrade, v) }},

	{name: "programs", env: "PROGRAMS", arg: "DIR", group: "Several programs",
		help:    "run a program for each file NAME.env in this directory: its command (HOTINIT_COMMAND), its settings and its environment; a new file starts one, a changed one swaps it, a removed one stops it",
		allowed: aPath, set: func(c *Config, v string) error { return setText(&c.Programs, v) }, of: hotinits},
	{name: "start-spacing", env: "START_SPACING", arg: "TIME", def: "0",
		help:    "time between the starts of two programs",
		allowed: aTime, set: func(c *Config, v string) error { return setTime(&c.StartSpacing, v) }, of: hotinits},
	{name: "max-starts", env: "MAX_STARTS", arg: "N", def: "twice the processors",
		help:    "how many programs may be starting at once: until they are ready, or where time decides that, until they execute; 0: any number",
		allowed: aCount, set: setMaxStarts, of: hotinits},

	{name: "after", env: "AFTER", arg: "NAMES", group: "One of several programs (in its file, as HOTINIT_AFTER and so on; not as flags)",
		help:    "start once these programs are ready, and end before them; one that runs once is ready once it has ended with 0",
		allowed: "names of programs, with spaces or commas between", set: setAfter, of: files},
	{name: "instances", env: "INSTANCES", arg: "N",
		help:    "run this many of it, which share its sockets and are replaced one after the other; HOTINIT_INSTANCE tells each its number, from 0",
		allowed: "a whole number from 1 to 1000", set: func(c *Config, v string) error { return setInt(&c.Instances, v, 1, 1000) }, of: files},
	{name: "run", env: "RUN", arg: "HOW", def: "always",
		help:    "always, or once: it runs to its end, and is done when it ends with 0; it runs again when its file changes",
		allowed: "always or once", set: setRun, of: files},
	{name: "retries", env: "RETRIES", arg: "N", def: "0",
		help:    "how often a program that runs once is tried again, after 1 s, 2 s, 4 s up to 30 s",
		allowed: aCount, set: func(c *Config, v string) error { return setInt(&c.Retries, v, 0, 1<<30) }, of: files},
	{name: "schedule", env: "SCHEDULE", arg: "WHEN",
		help:    "run once at each of these times, in the time zone of the program's TZ, and never twice at a time: " + schedule.Syntax,
		allowed: schedule.Syntax, set: setSchedule, of: files},
	{name: "essential", env: "ESSENTIAL", def: "no",
		help: "when it ends for good, hotinit ends everything with its status; one that runs once may end with 0",
		set:  func(c *Config, v string) error { return setBool(&c.Essential, v) }, of: files},

	{name: "pid-file", env: "PID_FILE", arg: "PATH", group: "Files and remote control",
		help:    "write hotinit's PID to this file; a second hotinit with the same file is refused",
		allowed: aPath, set: func(c *Config, v string) error { return setText(&c.PidFile, v) }, of: hotinits},
	{name: "status-file", env: "STATUS_FILE", arg: "PATH",
		help:    "write the generations and their PIDs to this file",
		allowed: aPath, set: func(c *Config, v string) error { return setText(&c.StatusFile, v) }, of: oneProgram},
	{name: "log-file", env: "LOG_FILE", arg: "PATH",
		help:    "send stdout and stderr to a file, or to \"| command\"",
		allowed: `a path, or "| command"`, set: func(c *Config, v string) error { return setText(&c.LogFile, v) }, of: oneProgram},
	{name: "log-prefix", env: "LOG_PREFIX",
		help: "put the program's name before each line that it writes; its stdout and stderr are pipes then",
		set:  func(c *Config, v string) error { return setBool(&c.LogPrefix, v) }},
	{name: "log-format", env: "LOG_FORMAT", arg: "FORMAT", def: "text",
		help:    "how hotinit prints its own lines: text, or json (an object a line); the app's output stays as it is",
		allowed: "text or json", set: setLogFormat, of: hotinits},
	{name: "on-event", env: "ON_EVENT", arg: "COMMAND",
		help:    "run this for each event (ready, rejected, rolled-back, ended, stalled and so on), which HOTINIT_EVENT and HOTINIT_EVENT_* tell; its failure changes nothing",
		allowed: "a command", set: func(c *Config, v string) error { return setText(&c.OnEvent, v) }, of: hotinits},
	{name: "on-event-timeout", env: "ON_EVENT_TIMEOUT", arg: "TIME", def: "30s",
		help:    "time limit of --on-event; 0: none",
		allowed: aTime, set: func(c *Config, v string) error { return setTime(&c.OnEventTimeout, v) }, of: hotinits},
	{name: "daemonize", env: "DAEMONIZE",
		help: "run in the background; needs --log-file",
		set:  func(c *Config, v string) error { return setBool(&c.Daemonize, v) }, of: hotinits},
	{name: "restart",
		help: "start a swap in the hotinit of --pid-file and wait for it; needs --status-file",
		set:  func(c *Config, v string) error { return setAction(c, Restart, v) }, of: hotinits},
	{name: "stop",
		help: "stop the hotinit of --pid-file and wait for its end",
		set:  func(c *Config, v string) error { return setAction(c, Stop, v) }, of: hotinits},

	{name: "subreaper", short: "s", env: "SUBREAPER", def: "on", group: "Init",
		help: "adopt orphans even where hotinit is not PID 1 (always on)",
		set:  func(_ *Config, v string) error { return setBool(new(bool), v) }, of: hotinits},
	{name: "parent-death-signal", short: "p", env: "PARENT_DEATH_SIGNAL", arg: "SIGNAL",
		help:    "signal that hotinit gets when its parent exits",
		allowed: aSignal, set: setParentDeath, of: hotinits},
	{name: "exit-zero", short: "e", env: "EXIT_ZERO", arg: "CODE",
		help:    "exit with 0 if the app exits with CODE; may be repeated",
		allowed: "an exit code from 0 to 255", split: splitCommas, set: addExitZero},
	{name: "warn-on-reap", short: "w", env: "WARN_ON_REAP",
		help: "print a line for each orphan reaped",
		set:  func(c *Config, v string) error { return setBool(&c.WarnOnReap, v) }, of: hotinits},
	{name: "verbosity", env: "VERBOSITY", arg: "LEVEL", def: "1",
		help:    "how much to print: 0 (errors only), 1 (each start and end of a generation, and why), 2 (details), 3 (each signal)",
		allowed: aCount, set: func(c *Config, v string) error { return setInt(&c.Verbosity, v, 0, 1<<10) }, of: hotinits},
	{name: "verbose", short: "v",
		help:    "one level more; may be repeated",
		allowed: aCount, set: setVerbosity, of: hotinits},

	{name: "help", short: "h", group: "Other", help: "print this and exit",
		set: func(c *Config, v string) error { return setAction(c, Help, v) }, of: hotinits},
	{name: "version", short: "V", help: "print the version and exit",
		set: func(c *Config, v string) error { return setAction(c, Version, v) }, of: hotinits},
	{name: "license", short: "lL", help: "print the licence and exit",
		set: func(c *Config, v string) error { return setAction(c, License, v) }, of: hotinits},
	{name: "pause", short: "P", help: "run no command: wait for INT or TERM",
		set: func(c *Config, v string) error { return setBool(&c.Pause, v) }, of: hotinits},
}

// findOption finds a row by its long name.
func findOption(name string) *option {
	for i := range options {
		if options[i].name == name {
			return &options[i]
		}
	}
	return nil
}
