package config

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
type environment struct {
	Ports               *string `envconfig:"HOTINIT_PORTS"`
	Paths               *string `envconfig:"HOTINIT_PATHS"`
	Listen              *string `envconfig:"HOTINIT_LISTEN"`
	Backlog             *string `envconfig:"HOTINIT_BACKLOG"`
	KeepFDs             *string `envconfig:"HOTINIT_KEEP_FDS"`
	User                *string `envconfig:"HOTINIT_USER"`
	Groups              *string `envconfig:"HOTINIT_GROUPS"`
	Umask               *string `envconfig:"HOTINIT_UMASK"`
	Dir                 *string `envconfig:"HOTINIT_DIR"`
	EnvDir              *string `envconfig:"HOTINIT_ENVDIR"`
	NoNewPrivs          *string `envconfig:"HOTINIT_NO_NEW_PRIVS"`
	Ready               *string `envconfig:"HOTINIT_READY"`
	Interval            *string `envconfig:"HOTINIT_INTERVAL"`
	ReadyTimeout        *string `envconfig:"HOTINIT_READY_TIMEOUT"`
	KillOldDelay        *string `envconfig:"HOTINIT_KILL_OLD_DELAY"`
	DrainTimeout        *string `envconfig:"HOTINIT_DRAIN_TIMEOUT"`
	StopTimeout         *string `envconfig:"HOTINIT_STOP_TIMEOUT"`
	Probation           *string `envconfig:"HOTINIT_PROBATION"`
	MaxOld              *string `envconfig:"HOTINIT_MAX_OLD"`
	OnExit              *string `envconfig:"HOTINIT_ON_EXIT"`
	AutoRestart         *string `envconfig:"HOTINIT_ENABLE_AUTO_RESTART"`
	AutoRestartInterval *string `envconfig:"HOTINIT_AUTO_RESTART_INTERVAL"`
	Watchdog            *string `envconfig:"HOTINIT_WATCHDOG"`
	SignalOnHUP         *string `envconfig:"HOTINIT_SIGNAL_ON_HUP"`
	SignalOnTERM        *string `envconfig:"HOTINIT_SIGNAL_ON_TERM"`
	ReloadSignal        *string `envconfig:"HOTINIT_RELOAD_SIGNAL"`
	Group               *string `envconfig:"HOTINIT_GROUP"`
	SingleChild         *string `envconfig:"HOTINIT_SINGLE_CHILD"`
	Setsid              *string `envconfig:"HOTINIT_SETSID"`
	Rewrite             *string `envconfig:"HOTINIT_REWRITE"`
	Watch               *string `envconfig:"HOTINIT_WATCH"`
	NoWatch             *string `envconfig:"HOTINIT_NO_WATCH"`
	Ignore              *string `envconfig:"HOTINIT_IGNORE"`
	Poll                *string `envconfig:"HOTINIT_POLL"`
	Settle              *string `envconfig:"HOTINIT_SETTLE"`
	Check               *string `envconfig:"HOTINIT_CHECK"`
	CheckTimeout        *string `envconfig:"HOTINIT_CHECK_TIMEOUT"`
	Snapshot            *string `envconfig:"HOTINIT_SNAPSHOT"`
	SnapshotDir         *string `envconfig:"HOTINIT_SNAPSHOT_DIR"`
	PidFile             *string `envconfig:"HOTINIT_PID_FILE"`
	StatusFile          *string `envconfig:"HOTINIT_STATUS_FILE"`
	LogFile             *string `envconfig:"HOTINIT_LOG_FILE"`
	Daemonize           *string `envconfig:"HOTINIT_DAEMONIZE"`
	Subreaper           *string `envconfig:"HOTINIT_SUBREAPER"`
	ParentDeathSignal   *string `envconfig:"HOTINIT_PARENT_DEATH_SIGNAL"`
	ExitZero            *string `envconfig:"HOTINIT_EXIT_ZERO"`
	WarnOnReap          *string `envconfig:"HOTINIT_WARN_ON_REAP"`
	Verbosity           *string `envconfig:"HOTINIT_VERBOSITY"`
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
	known := []string{"GENERATION"} // what a hotinit outside of this one tells its app
	for i := range options {
		if options[i].env != "" {
			known = append(known, options[i].env)
		}
	}
	for _, v := range environ {
		variable, _, _ := strings.Cut(v, "=")
		name, ours := strings.CutPrefix(variable, prefix)
		if !ours || slices.Contains(known, name) {
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
