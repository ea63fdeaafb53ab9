package settings

import (
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/kelseyhightower/envconfig"
)

const prefix = "HOTINIT_"

// environment is what envconfig reads: a field for each row of the table that
// has a variable, in the table's order (a test holds the two together). nil is
// a variable that is not set.
//
// The tags are the full names, and envconfig gets no prefix: with one it would
// also take the bare names, and USER or DIR mean something else to everybody.
// The other two tags say what is so without them, but a third faster: envconfig
// makes an error value for each tag that it does not find.
type environment struct {
	Ports               *string `envconfig:"HOTINIT_PORTS" ignored:"0" split_words:"0"`
	Paths               *string `envconfig:"HOTINIT_PATHS" ignored:"0" split_words:"0"`
	Listen              *string `envconfig:"HOTINIT_LISTEN" ignored:"0" split_words:"0"`
	Backlog             *string `envconfig:"HOTINIT_BACKLOG" ignored:"0" split_words:"0"`
	KeepFDs             *string `envconfig:"HOTINIT_KEEP_FDS" ignored:"0" split_words:"0"`
	Adopt               *string `envconfig:"HOTINIT_ADOPT" ignored:"0" split_words:"0"`
	User                *string `envconfig:"HOTINIT_USER" ignored:"0" split_words:"0"`
	Groups              *string `envconfig:"HOTINIT_GROUPS" ignored:"0" split_words:"0"`
	Umask               *string `envconfig:"HOTINIT_UMASK" ignored:"0" split_words:"0"`
	Dir                 *string `envconfig:"HOTINIT_DIR" ignored:"0" split_words:"0"`
	EnvDir              *string `envconfig:"HOTINIT_ENVDIR" ignored:"0" split_words:"0"`
	NoNewPrivs          *string `envconfig:"HOTINIT_NO_NEW_PRIVS" ignored:"0" split_words:"0"`
	Ready               *string `envconfig:"HOTINIT_READY" ignored:"0" split_words:"0"`
	Interval            *string `envconfig:"HOTINIT_INTERVAL" ignored:"0" split_words:"0"`
	ReadyTimeout        *string `envconfig:"HOTINIT_READY_TIMEOUT" ignored:"0" split_words:"0"`
	KillOldDelay        *string `envconfig:"HOTINIT_KILL_OLD_DELAY" ignored:"0" split_words:"0"`
	DrainTimeout        *string `envconfig:"HOTINIT_DRAIN_TIMEOUT" ignored:"0" split_words:"0"`
	StopTimeout         *string `envconfig:"HOTINIT_STOP_TIMEOUT" ignored:"0" split_words:"0"`
	Cgroup              *string `envconfig:"HOTINIT_CGROUP" ignored:"0" split_words:"0"`
	Probation           *string `envconfig:"HOTINIT_PROBATION" ignored:"0" split_words:"0"`
	MaxOld              *string `envconfig:"HOTINIT_MAX_OLD" ignored:"0" split_words:"0"`
	OnExit              *string `envconfig:"HOTINIT_ON_EXIT" ignored:"0" split_words:"0"`
	StallTimeout        *string `envconfig:"HOTINIT_STALL_TIMEOUT" ignored:"0" split_words:"0"`
	OnStall             *string `envconfig:"HOTINIT_ON_STALL" ignored:"0" split_words:"0"`
	AutoRestart         *string `envconfig:"HOTINIT_ENABLE_AUTO_RESTART" ignored:"0" split_words:"0"`
	AutoRestartInterval *string `envconfig:"HOTINIT_AUTO_RESTART_INTERVAL" ignored:"0" split_words:"0"`
	MaxRuntime          *string `envconfig:"HOTINIT_MAX_RUNTIME" ignored:"0" split_words:"0"`
	Watchdog            *string `envconfig:"HOTINIT_WATCHDOG" ignored:"0" split_words:"0"`
	SignalOnHUP         *string `envconfig:"HOTINIT_SIGNAL_ON_HUP" ignored:"0" split_words:"0"`
	SignalOnTERM        *string `envconfig:"HOTINIT_SIGNAL_ON_TERM" ignored:"0" split_words:"0"`
	ReloadSignal        *string `envconfig:"HOTINIT_RELOAD_SIGNAL" ignored:"0" split_words:"0"`
	Group               *string `envconfig:"HOTINIT_GROUP" ignored:"0" split_words:"0"`
	SingleChild         *string `envconfig:"HOTINIT_SINGLE_CHILD" ignored:"0" split_words:"0"`
	Setsid              *string `envconfig:"HOTINIT_SETSID" ignored:"0" split_words:"0"`
	Rewrite             *string `envconfig:"HOTINIT_REWRITE" ignored:"0" split_words:"0"`
	Watch               *string `envconfig:"HOTINIT_WATCH" ignored:"0" split_words:"0"`
	NoWatch             *string `envconfig:"HOTINIT_NO_WATCH" ignored:"0" split_words:"0"`
	WatchSelf           *string `envconfig:"HOTINIT_WATCH_SELF" ignored:"0" split_words:"0"`
	Ignore              *string `envconfig:"HOTINIT_IGNORE" ignored:"0" split_words:"0"`
	Poll                *string `envconfig:"HOTINIT_POLL" ignored:"0" split_words:"0"`
	Settle              *string `envconfig:"HOTINIT_SETTLE" ignored:"0" split_words:"0"`
	Check               *string `envconfig:"HOTINIT_CHECK" ignored:"0" split_words:"0"`
	CheckTimeout        *string `envconfig:"HOTINIT_CHECK_TIMEOUT" ignored:"0" split_words:"0"`
	SwapThrough         *string `envconfig:"HOTINIT_SWAP_THROUGH" ignored:"0" split_words:"0"`
	SwapThroughTimeout  *string `envconfig:"HOTINIT_SWAP_THROUGH_TIMEOUT" ignored:"0" split_words:"0"`
	Snapshot            *string `envconfig:"HOTINIT_SNAPSHOT" ignored:"0" split_words:"0"`
	SnapshotDir         *string `envconfig:"HOTINIT_SNAPSHOT_DIR" ignored:"0" split_words:"0"`
	StateDir            *string `envconfig:"HOTINIT_STATE_DIR" ignored:"0" split_words:"0"`
	TrustedKey          *string `envconfig:"HOTINIT_TRUSTED_KEY" ignored:"0" split_words:"0"`
	NoDowngrade         *string `envconfig:"HOTINIT_NO_DOWNGRADE" ignored:"0" split_words:"0"`
	Programs            *string `envconfig:"HOTINIT_PROGRAMS" ignored:"0" split_words:"0"`
	StartSpacing        *string `envconfig:"HOTINIT_START_SPACING" ignored:"0" split_words:"0"`
	MaxStarts           *string `envconfig:"HOTINIT_MAX_STARTS" ignored:"0" split_words:"0"`
	After               *string `envconfig:"HOTINIT_AFTER" ignored:"0" split_words:"0"`
	Instances           *string `envconfig:"HOTINIT_INSTANCES" ignored:"0" split_words:"0"`
	Run                 *string `envconfig:"HOTINIT_RUN" ignored:"0" split_words:"0"`
	Retries             *string `envconfig:"HOTINIT_RETRIES" ignored:"0" split_words:"0"`
	Schedule            *string `envconfig:"HOTINIT_SCHEDULE" ignored:"0" split_words:"0"`
	Essential           *string `envconfig:"HOTINIT_ESSENTIAL" ignored:"0" split_words:"0"`
	PidFile             *string `envconfig:"HOTINIT_PID_FILE" ignored:"0" split_words:"0"`
	StatusFile          *string `envconfig:"HOTINIT_STATUS_FILE" ignored:"0" split_words:"0"`
	LogFile             *string `envconfig:"HOTINIT_LOG_FILE" ignored:"0" split_words:"0"`
	LogPrefix           *string `envconfig:"HOTINIT_LOG_PREFIX" ignored:"0" split_words:"0"`
	LogFormat           *string `envconfig:"HOTINIT_LOG_FORMAT" ignored:"0" split_words:"0"`
	OnEvent             *string `envconfig:"HOTINIT_ON_EVENT" ignored:"0" split_words:"0"`
	OnEventTimeout      *string `envconfig:"HOTINIT_ON_EVENT_TIMEOUT" ignored:"0" split_words:"0"`
	Daemonize           *string `envconfig:"HOTINIT_DAEMONIZE" ignored:"0" split_words:"0"`
	Subreaper           *string `envconfig:"HOTINIT_SUBREAPER" ignored:"0" split_words:"0"`
	ParentDeathSignal   *string `envconfig:"HOTINIT_PARENT_DEATH_SIGNAL" ignored:"0" split_words:"0"`
	ExitZero            *string `envconfig:"HOTINIT_EXIT_ZERO" ignored:"0" split_words:"0"`
	WarnOnReap          *string `envconfig:"HOTINIT_WARN_ON_REAP" ignored:"0" split_words:"0"`
	Verbosity           *string `envconfig:"HOTINIT_VERBOSITY" ignored:"0" split_words:"0"`
}

// setFromEnvironment applies each variable whose flag was not given, and
// returns the names of those that it applied. An empty variable counts as none:
// a container's user can take back what the image has set only so.
func (c *Config) setFromEnvironment(given []flagValue) (applied []string, err error) {
	var env environment
	if err := envconfig.Process("", &env); err != nil {
		return nil, err
	}
	fields := reflect.ValueOf(&env).Elem()
	field := 0
	for i := range options {
		o := &options[i]
		if o.env == "" {
			continue
		}
		value := fields.Field(field).Interface().(*string)
		field++
		if value == nil || *value == "" || isGiven(given, o) {
			continue
		}
		if err := c.setFromVariable(o, o.variable(), *value); err != nil {
			return nil, err
		}
		applied = append(applied, o.env)
	}
	return applied, nil
}

// setFromVariable takes the value apart where it is a list.
func (c *Config) setFromVariable(o *option, name, value string) error {
	values := []string{value}
	if o.split != nil {
		values = o.split(value)
	}
	where := name + "="
	if len(values) > 1 {
		where += strconv.Quote(value) + ": "
	}
	for _, v := range values {
		if err := o.apply(c, where, v); err != nil {
			return err
		}
	}
	return nil
}

// warnUnknown finds HOTINIT_ variables that mean nothing. It is no error: a
// newer image's variable must not keep an older hotinit from running its app.
func warnUnknown(environ []string) (warnings []string) {
	// What a hotinit outside of this one sets: for its app, for the command of --on-event,
	// and for the subcommands.
	told := []string{"GENERATION", "PROGRAM", "INSTANCE", "CONTROL", "SWAP", "EVENT", "EVENT_TIME", "EVENT_PROGRAM", "EVENT_GENERATION",
		"EVENT_RELEASE", "EVENT_REASON", "EVENT_STATUS", "EVENT_DROPPED"}
	var known []string
	for i := range options {
		if options[i].env != "" {
			known = append(known, options[i].env)
		}
	}
	for _, v := range environ {
		variable, _, _ := strings.Cut(v, "=")
		name, ours := strings.CutPrefix(variable, prefix)
		if !ours || slices.Contains(known, name) || slices.Contains(told, name) {
			continue
		}
		warning := variable + " is not a variable of hotinit: it is ignored"
		if near := nearest(name, known); near != "" {
			warning += " (did you mean " + prefix + near + "?)"
		}
		warnings = append(warnings, warning)
	}
	return warnings
}

// lookup finds a variable in an environment; the first counts, as in getenv(3).
func lookup(environ []string, name string) (value string, ok bool) {
	for _, v := range environ {
		if n, value, ok := strings.Cut(v, "="); ok && n == name {
			return value, true
		}
	}
	return "", false
}

func hasVariable(environ []string) bool {
	for _, v := range environ {
		if strings.HasPrefix(v, prefix) {
			return true
		}
	}
	return false
}
