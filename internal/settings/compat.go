package settings

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/exitcode"
)

// dialect is how one tool's command line is read: which rows of the table it
// has, and how getopt(3) or Getopt::Long treats them.
type dialect struct {
	name   string // of the tool, "" for hotinit itself
	longs  string // the long flags it has, between spaces; "*" for all of the table's
	shorts string // the letters it has; "*" for all

	singleDash bool // -port is the same as --port
	abbreviate bool // --inter is the same as --interval
	permute    bool // flags are read after the first word, too, as glibc has it

	versionAlone bool // --version is read where it is the only argument

	code          int // exit code for a command line that can't be used
	codeNoCommand int // the same where the command is missing
}

var dialects = [...]dialect{
	{name: "", longs: "*", shorts: "*", singleDash: true, code: exitcode.Failure, codeNoCommand: exitcode.Failure},
	{name: "tini", shorts: "hsvwglpe", permute: true, versionAlone: true, code: 1, codeNoCommand: 1},
	{name: "dumb-init", shorts: "crvhV", longs: " single-child rewrite verbose help version ",
		abbreviate: true, code: 1, codeNoCommand: 1},
	{name: "catatonit", shorts: "ghLPV", longs: " version ", abbreviate: true, permute: true, code: 1, codeNoCommand: 1},
	{name: "start_server", longs: " port path interval log-file pid-file dir signal-on-hup signal-on-term" +
		" backlog envdir enable-auto-restart daemonize auto-restart-interval kill-old-delay" +
		" status-file restart stop help version ",
		singleDash: true, abbreviate: true, permute: true, code: 1, codeNoCommand: 255},
}

// dialectOf finds the command line that belongs to the name hotinit was started
// under. Release files of the tools have suffixes: tini-static-amd64.
func dialectOf(argv0 string) *dialect {
	base := filepath.Base(argv0)
	index := 0
	switch {
	case base == "tini", base == "docker-init", strings.HasPrefix(base, "tini-"):
		index = 1
	case base == "dumb-init", strings.HasPrefix(base, "dumb-init_"):
		index = 2
	case base == "catatonit", strings.HasPrefix(base, "catatonit."):
		index = 3
	case base == "start_server":
		index = 4
	}
	return &dialects[index]
}

// command is the tool's name, for texts.
func (d *dialect) command() string {
	if d.name == "" {
		return "hotinit"
	}
	return d.name
}

func (d *dialect) usage() string {
	text := d.command() + " [flags] [--] COMMAND [ARG...]"
	if o, err := d.long("help"); o != nil && err == nil {
		return text + " (" + d.command() + " --help lists the flags)"
	}
	return text + " (" + d.command() + " -h lists the flags)"
}

// has says whether the tool has the long flag of o.
func (d *dialect) has(o *option) bool {
	if d.longs == "*" {
		return o.name != "pause"
	}
	return strings.Contains(d.longs, " "+o.name+" ")
}

// letter is the tool's own letter for o, 0 if it has none.
func (d *dialect) letter(o *option) byte {
	for _, letter := range []byte(o.short) {
		if d.shorts == "*" && o.name != "pause" || strings.IndexByte(d.shorts, letter) >= 0 {
			return letter
		}
	}
	return 0
}

// long finds a flag by its name, or by the start of it where the tool allows
// that. nil without an error: there is none.
func (d *dialect) long(name string) (*option, error) {
	var found *option
	var fit []string
	for i := range options {
		o := &options[i]
		switch {
		case !d.has(o):
		case o.name == name:
			return o, nil
		case d.abbreviate && name != "" && strings.HasPrefix(o.name, name):
			found, fit = o, append(fit, o.flag())
		}
	}
	if len(fit) > 1 {
		return nil, fmt.Errorf("could be %s", strings.Join(fit, " or "))
	}
	return found, nil
}

func (d *dialect) short(letter byte) *option {
	for i := range options {
		o := &options[i]
		if strings.IndexByte(o.short, letter) >= 0 && d.letter(o) != 0 &&
			(d.shorts == "*" || strings.IndexByte(d.shorts, letter) >= 0) {
			return o
		}
	}
	return nil
}

// unknown is the error for an argument that is no flag; why may say more.
func (d *dialect) unknown(arg string, why error) error {
	if why != nil {
		return fmt.Errorf("flag %q %v: write more of it", arg, why)
	}
	name, _, _ := strings.Cut(arg, "=")
	var known []string
	for i := range options {
		o := &options[i]
		if d.has(o) {
			known = append(known, o.flag())
		}
	}
	near := ""
	if bare := strings.TrimLeft(name, "-"); len(bare) > 1 {
		near = nearest("--"+bare, known)
	}
	if near != "" {
		return fmt.Errorf("unknown flag %q (did you mean %s?)", name, near)
	}
	return fmt.Errorf("unknown flag %q: usage: %s", name, d.usage())
}

// prepare sets what the tool does where hotinit, left alone, does otherwise.
func (d *dialect) prepare(c *Config) {
	c.Compat = d.name
	switch d.name {
	case "tini", "dumb-init", "catatonit":
		// Plain inits: nothing is swapped, and the app is given all the time
		// that whoever stops the container gives it.
		c.Watch, c.ReloadSignal, c.StopTimeout = false, 0, 0
	case "start_server":
		c.Watch, c.OnExit, c.RetryFirst = false, RestartAlways, true
		c.SignalOnTERM = unix.SIGTERM
		c.ReadyTimeout, c.DrainTimeout, c.StopTimeout, c.Probation, c.StallTimeout = 0, 0, 0, 0, 0
	}
	switch d.name {
	case "dumb-init":
		c.Group, c.Session = true, true
	}
}

// wake turns hot swap on for a plain init's name where HOTINIT_ variables ask
// for it: sockets or HOTINIT_WATCH for the whole of it, HOTINIT_NO_WATCH=0 and
// HOTINIT_RELOAD_SIGNAL for the part that they name.
func (d *dialect) wake(c *Config, applied []string) {
	if d.name == "" || d.name == "start_server" {
		return
	}
	var asked, watchSet, signalSet bool
	for _, name := range applied {
		switch name {
		case "PORTS", "PATHS", "LISTEN", "WATCH":
			asked = true
		case "NO_WATCH":
			watchSet = true
		case "RELOAD_SIGNAL":
			signalSet = true
		}
	}
	if asked && !watchSet {
		c.Watch = true
	}
	if asked && !signalSet {
		c.ReloadSignal = unix.SIGHUP
	}
}

// readOwnVariables reads the variables that the tools themselves have. hotinit
// under its own name takes those of tini and dumb-init; its own, which are read
// after them, win.
func (d *dialect) readOwnVariables(c *Config, environ []string, given []flagValue) error {
	own := d.name == ""
	if own || d.name == "tini" {
		readTini(c, environ)
	}
	if own || d.name == "dumb-init" {
		readDumbInit(c, environ)
	}
	switch d.name {
	case "catatonit":
		if _, ok := lookup(environ, "CATATONIT_DEBUG"); ok {
			c.Verbosity = 3
		}
	case "start_server":
		for _, name := range [...]string{"envdir", "enable-auto-restart", "auto-restart-interval", "kill-old-delay"} {
			o := findOption(name)
			value, ok := lookup(environ, o.env)
			if !ok || value == "" || isGiven(given, o) {
				continue
			}
			if err := c.setFromVariable(o, o.env, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// readTini has tini's meaning: TINI_KILL_PROCESS_GROUP counts by being set,
// whatever its value, and the level is what atoi(3) makes of TINI_VERBOSITY.
// TINI_SUBREAPER needs no reading: hotinit always adopts orphans.
func readTini(c *Config, environ []string) {
	if _, ok := lookup(environ, "TINI_KILL_PROCESS_GROUP"); ok {
		c.Group = true
	}
	if level, ok := lookup(environ, "TINI_VERBOSITY"); ok {
		c.Verbosity = atoi(level)
	}
}

// readDumbInit has dumb-init's meaning: 1 and 0 are the values that count.
func readDumbInit(c *Config, environ []string) {
	if v, _ := lookup(environ, "DUMB_INIT_DEBUG"); v == "1" {
		c.Verbosity = max(c.Verbosity, 3)
	}
	if v, _ := lookup(environ, "DUMB_INIT_SETSID"); v == "0" {
		c.Group, c.Session = false, false
	}
}

// atoi reads a number at the start of s, like atoi(3); below 0 counts as 0.
func atoi(s string) int {
	s = strings.TrimLeft(s, " \t\n\v\f\r")
	s = strings.TrimPrefix(s, "+")
	end := 0
	for end < len(s) && end < 9 && '0' <= s[end] && s[end] <= '9' {
		end++
	}
	n, _ := strconv.Atoi(s[:end])
	return n
}

// autoRestartDelay is the default of --kill-old-delay with --enable-auto-restart.
const autoRestartDelay = 5 * time.Second

// finish sets what follows from other settings.
func (d *dialect) finish(c *Config, environ []string) {
	if c.AutoRestart && !c.killOldDelaySet {
		c.KillOldDelay = autoRestartDelay
	}
	if c.Session {
		stopForTerminal(c)
	}
	switch level, ok := lookup(environ, "TINI_VERBOSITY"); {
	case d.name == "tini" && ok:
		c.Verbosity = atoi(level) // tini reads it after its flags
	case d.name == "dumb-init" && c.Verbosity > 1:
		c.Verbosity = max(c.Verbosity, 3) // its -v is the same as DUMB_INIT_DEBUG=1
	}
}

// stopForTerminal has SIGSTOP relayed for the three job control signals that a
// process without a terminal ignores (a session of its own has none), unless
// --rewrite says otherwise: dumb-init's way.
func stopForTerminal(c *Config) {
	for _, s := range [...]unix.Signal{unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU} {
		if _, ok := c.Rewrite[s]; ok {
			continue
		}
		if c.Rewrite == nil {
			c.Rewrite = make(map[unix.Signal]unix.Signal, 3)
		}
		c.Rewrite[s] = unix.SIGSTOP
	}
}
