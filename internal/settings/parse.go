package settings

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/sockets"
)

// switchedOn is the value of a flag that was given without one: a text that no
// argument and no variable can have.
const switchedOn = "\x00"

// flagValue is a flag as it was given.
type flagValue struct {
	option  *option
	written string // with its dashes, for errors
	value   string
}

func isGiven(given []flagValue, o *option) bool {
	for _, f := range given {
		if f.option == o || o.name == "verbosity" && f.option.name == "verbose" {
			return true
		}
	}
	return false
}

// Parse reads a command line and the environment. argv[0] chooses whose command
// line it is: a name such as tini or start_server has that tool's own. environ
// must be the process's own environment, where envconfig reads the HOTINIT_
// variables. An error is an *Error.
func Parse(argv, environ []string) (*Config, error) {
	name, args := "hotinit", []string(nil)
	if len(argv) > 0 {
		name, args = argv[0], argv[1:]
	}
	d := dialectOf(name)
	c, err := d.parse(args, environ)
	if err != nil {
		code := d.code
		if e, ok := err.(*Error); ok {
			code = e.code
		}
		return nil, &Error{text: strings.ReplaceAll(err.Error(), "\n", `\n`), code: code}
	}
	return c, nil
}

func (d *dialect) parse(args, environ []string) (*Config, error) {
	_, strict := lookup(environ, "POSIXLY_CORRECT") // getopt(3): no flags after the first word
	given, words, err := d.scan(args, d.permute && !strict)
	if err != nil {
		return nil, err
	}
	c := defaults()
	d.prepare(c)
	if err := d.readOwnVariables(c, environ, given); err != nil {
		return nil, err
	}
	if hasVariable(environ) {
		applied, err := c.setFromEnvironment(given)
		if err != nil {
			return nil, err
		}
		d.wake(c, applied)
		c.Warnings = warnUnknown(environ)
	}
	for _, f := range given {
		if err := f.option.apply(c, f.written+" ", f.value); err != nil {
			return nil, err
		}
	}
	c.Command = words
	d.finish(c, environ)
	return c, c.check(d)
}

func defaults() *Config {
	return &Config{
		Umask:               -1,
		Interval:            time.Second,
		ReadyTimeout:        60 * time.Second,
		DrainTimeout:        60 * time.Second,
		StopTimeout:         9 * time.Second,
		Probation:           10 * time.Second,
		StallTimeout:        5 * time.Second,
		AutoRestartInterval: 360 * time.Second,
		SignalOnHUP:         unix.SIGTERM,
		ReloadSignal:        unix.SIGHUP,
		Watch:               true,
		PollInterval:        2 * time.Second,
		Settle:              500 * time.Millisecond,
		CheckTimeout:        30 * time.Second,
		OnEventTimeout:      30 * time.Second,
		SwapThroughTimeout:  10 * time.Minute,
		Verbosity:           1,
		MaxStarts:           -1,
	}
}

// apply sets o; where is the flag or variable as the error names it, with what
// stands between it and its value.
func (o *option) apply(c *Config, where, value string) error {
	err := o.set(c, value)
	switch {
	case err == nil:
		c.applied = append(c.applied, setting{o, where, value})
		return nil
	case err != errMust:
		return fmt.Errorf("%s%q: %v", where, value, err)
	case o.arg == "" && o.allowed == "":
		return fmt.Errorf("%s%q: must be %s", where, value, aSwitch)
	}
	return fmt.Errorf("%s%q: must be %s", where, value, o.allowed)
}

// check looks at settings that must fit each other.
func (c *Config) check(d *dialect) error {
	switch c.Action {
	case Help, Version, License:
		return nil
	case Restart:
		if c.PidFile == "" || c.StatusFile == "" {
			return fmt.Errorf("--restart needs --pid-file and --status-file, those of the hotinit that is to swap")
		}
		return nil
	case Stop:
		if c.PidFile == "" {
			return fmt.Errorf("--stop needs --pid-file, that of the hotinit that is to stop")
		}
		return nil
	}
	if c.Programs != "" && d.name != "" && d.name != "start_server" {
		return fmt.Errorf("%s%q: %s runs one program: start hotinit under its own name", "HOTINIT_PROGRAMS=", c.Programs, d.name)
	}
	if len(c.Command) == 0 && !c.Pause && c.Programs == "" {
		return &Error{text: "missing command: usage: " + d.usage(), code: d.codeNoCommand}
	}
	if len(c.Command) > 0 && !c.Pause && c.Command[0] == "" {
		return fmt.Errorf("the command is empty: usage: %s", d.usage())
	}
	if c.Daemonize && c.LogFile == "" {
		return fmt.Errorf("--daemonize needs --log-file: there is no terminal to write to")
	}
	if c.Programs == "" && (c.StartSpacing > 0 || c.MaxStarts >= 0) {
		return fmt.Errorf("--start-spacing and --max-starts have no meaning without --programs")
	}
	for _, s := range c.applied {
		if s.option.of == files {
			return fmt.Errorf("%s%q: this is for one of several programs: set %s in its file, NAME.env in the directory of --programs", s.where, s.value, s.option.variable())
		}
	}
	return c.checkProgram()
}

// checkProgram looks at settings of one program that must fit each other.
func (c *Config) checkProgram() error {
	if len(c.TrustedKeys) > 0 {
		c.Snapshot = true // what was verified is what runs
	} else if c.NoDowngrade {
		return fmt.Errorf("--no-downgrade has no meaning without --trusted-key")
	}
	if c.SnapshotDir != "" && !c.Snapshot {
		return fmt.Errorf("--snapshot-dir %q has no meaning without --snapshot", c.SnapshotDir)
	}
	return c.checkDescriptors()
}

// checkDescriptors finds numbers that two things want.
func (c *Config) checkDescriptors() error {
	if c.Compat == "start_server" {
		sockets.KeepIPv4(c.Sockets)
	}
	if err := sockets.Distinct(c.Sockets); err != nil {
		return err
	}
	numbers, err := sockets.Assign(c.Sockets)
	if err != nil {
		return err
	}
	for i, n := range numbers {
		for _, kept := range c.KeepFDs {
			if kept == n {
				return fmt.Errorf("--keep-fds \"%d\": descriptor %d is that of socket %s: give the socket another number with fd=",
					kept, n, c.Sockets[i])
			}
		}
		if c.Ready.Mode == ReadyFD && c.Ready.FD == n {
			return fmt.Errorf("--ready \"fd:%d\": descriptor %d is that of socket %s: take another number", n, n, c.Sockets[i])
		}
	}
	for _, kept := range c.KeepFDs {
		if c.Ready.Mode == ReadyFD && c.Ready.FD == kept {
			return fmt.Errorf("--ready \"fd:%d\": descriptor %d is one of --keep-fds: take another number", kept, kept)
		}
	}
	return nil
}

// Asked reports what argv asks for if that is a text alone: Help, Version or
// License. It is false too where the command line or the environment has an
// error, which Parse returns.
func Asked(argv, environ []string) (Action, bool) {
	d := dialectOf(argv[0])
	_, strict := lookup(environ, "POSIXLY_CORRECT")
	given, _, err := d.scan(argv[1:], d.permute && !strict)
	if err != nil || !endsEarly(given) {
		return Run, false
	}
	c, err := Parse(argv, environ)
	if err != nil {
		return Run, false
	}
	switch c.Action {
	case Help, Version, License:
		return c.Action, true
	}
	return Run, false
}

// scan takes a command line apart into flags and words.
//
// tini is a trap here: built with glibc, it takes its flags after the command's
// name, too, and removes "--" from there ("tini PROGRAM -- ARGS" is its usage);
// built with musl, it does not, so that Alpine's images may well say "tini node
// -r x.js". What glibc's can run is run as by it; the rest as by musl's.
func (d *dialect) scan(args []string, permute bool) (given []flagValue, words []string, err error) {
	if d.versionAlone && len(args) == 1 && args[0] == "--version" {
		return []flagValue{{option: findOption("version"), written: args[0], value: switchedOn}}, nil, nil
	}
	given, words, afterWord, err := d.scanOnce(args, permute)
	if permute && afterWord && (err != nil || endsEarly(given)) {
		given, words, _, err = d.scanOnce(args, false)
	}
	return given, words, err
}

func endsEarly(given []flagValue) bool {
	for _, f := range given {
		switch f.option.name {
		case "help", "version", "license":
			return true
		}
	}
	return false
}

// scanOnce reads flags up to "--" or the first word, or with permute flags
// between words too. afterWord says that the last flag stood after a word.
func (d *dialect) scanOnce(args []string, permute bool) (given []flagValue, words []string, afterWord bool, err error) {
	for len(args) > 0 {
		arg := args[0]
		switch {
		case arg == "--":
			return given, append(words, args[1:]...), afterWord, nil
		case len(arg) < 2 || arg[0] != '-':
			if !permute {
				return given, append(words, args...), afterWord, nil
			}
			words, args = append(words, arg), args[1:]
			continue
		}
		afterWord = len(words) > 0
		var more []flagValue
		more, args, err = d.scanFlag(arg, args[1:])
		if err != nil {
			return nil, nil, afterWord, err
		}
		given = append(given, more...)
	}
	return given, words, afterWord, nil
}

// scanFlag reads one argument that starts with a dash, and its value from rest.
func (d *dialect) scanFlag(arg string, rest []string) ([]flagValue, []string, error) {
	dashes, long := "-", strings.HasPrefix(arg, "--")
	if long {
		dashes = "--"
	}
	name, value, hasValue := strings.Cut(arg[len(dashes):], "=")
	if long || d.singleDash && len(name) > 1 {
		o, err := d.long(name)
		if o == nil && !long && err == nil {
			return d.scanShort(arg, rest)
		}
		if err != nil || o == nil {
			return nil, nil, d.unknown(arg, err)
		}
		return takeValue(flagValue{option: o, written: dashes + o.name, value: value}, hasValue, rest)
	}
	return d.scanShort(arg, rest)
}

// scanShort reads -vvg, -e143 and -e 143.
func (d *dialect) scanShort(arg string, rest []string) (given []flagValue, _ []string, err error) {
	for letters := arg[1:]; letters != ""; letters = letters[1:] {
		o := d.short(letters[0])
		if o == nil {
			return nil, nil, d.unknown(arg, nil)
		}
		f := flagValue{option: o, written: "-" + letters[:1]}
		if o.arg != "" {
			f.value = letters[1:]
			more, rest, err := takeValue(f, f.value != "", rest)
			return append(given, more...), rest, err
		}
		f.value = switchedOn
		given = append(given, f)
	}
	return given, rest, nil
}

// takeValue takes the next argument where the flag needs a value and has none.
func takeValue(f flagValue, hasValue bool, rest []string) ([]flagValue, []string, error) {
	switch {
	case hasValue:
	case f.option.arg == "":
		f.value = switchedOn
	case len(rest) == 0:
		return nil, nil, fmt.Errorf("%s needs a value: %s", f.written, f.option.allowed)
	default:
		f.value, rest = rest[0], rest[1:]
	}
	return []flagValue{f}, rest, nil
}
