package settings

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/schedule"
	"github.com/hotinit/hotinit/internal/sockets"
)

// errMust stands for an error that the row's allowed says best.
var errMust error = mustError{}

type mustError struct{}

func (mustError) Error() string { return "is not allowed" }

func splitCommas(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
}

func setText(field *string, v string) error {
	if v == "" {
		return errMust
	}
	*field = v
	return nil
}

func setBool(field *bool, v string) error {
	switch strings.ToLower(v) {
	case "1", "true", "yes", "on", switchedOn:
		*field = true
	case "0", "false", "no", "off", "":
		*field = false
	default:
		return errMust
	}
	return nil
}

// setEither sets what one of two words says.
func setEither(field *bool, v, no, yes string) error {
	if v != no && v != yes {
		return errMust
	}
	*field = v == yes
	return nil
}

func setInt(field *int, v string, low, high int) error {
	n, err := strconv.ParseUint(v, 10, 31)
	if err != nil || int(n) < low || int(n) > high {
		return errMust
	}
	*field = int(n)
	return nil
}

// setTime reads seconds as a bare number, as start_server has them, or Go's
// form with units.
func setTime(field *time.Duration, v string) error {
	if v != "" && strings.Trim(v, "0123456789.") == "" {
		s, err := strconv.ParseFloat(v, 64)
		if err != nil || s > math.MaxInt64/1e9/2 {
			return errMust
		}
		*field = time.Duration(math.Round(s * 1e9))
		return nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		return errMust
	}
	*field = d
	return nil
}

// Time reads a time as the flags take it.
func Time(v string) (d time.Duration, err error) {
	if setTime(&d, v) != nil {
		return 0, fmt.Errorf("must be %s", aTime)
	}
	return d, nil
}

func setSignal(field *unix.Signal, v string) error {
	s, ok := ParseSignal(v)
	if !ok {
		return errMust
	}
	*field = s
	return nil
}

// setParentDeath knows that -p is the port elsewhere.
func setParentDeath(c *Config, v string) error {
	err := setSignal(&c.ParentDeath, v)
	if n, wrong := strconv.Atoi(v); err == errMust && wrong == nil && n >= 80 {
		return fmt.Errorf("must be %s (did you mean --port %d?)", aSignal, n)
	}
	return err
}

func addSocket(c *Config, v string) error {
	s, err := sockets.Parse(v)
	if err != nil {
		return err
	}
	c.Sockets = append(c.Sockets, s)
	return nil
}

func addPath(c *Config, v string) error {
	s, err := sockets.ParsePath(v)
	if err != nil {
		return err
	}
	c.Sockets = append(c.Sockets, s)
	return nil
}

func addKeepFDs(c *Config, v string) error {
	for n := range strings.SplitSeq(v, ",") {
		var fd int
		if err := setInt(&fd, n, 3, 1<<20); err != nil {
			return err
		}
		c.KeepFDs = append(c.KeepFDs, fd)
	}
	return nil
}

func setUser(c *Config, v string) error {
	user, group, hasGroup := strings.Cut(v, ":")
	if user == "" || hasGroup && group == "" || strings.Contains(group, ":") {
		return errMust
	}
	c.User = v
	return nil
}

func addGroups(c *Config, v string) error {
	for name := range strings.SplitSeq(v, ",") {
		if name == "" || strings.Contains(name, ":") {
			return errMust
		}
		c.Groups = append(c.Groups, name)
	}
	return nil
}

func setUmask(c *Config, v string) error {
	n, err := strconv.ParseUint(v, 8, 12)
	if err != nil || n > 0o777 {
		return errMust
	}
	c.Umask = int(n)
	return nil
}

func setReady(c *Config, v string) error {
	how, rest, more := strings.Cut(v, ":")
	switch {
	case how == "auto" && !more:
		c.Ready = Ready{Mode: ReadyAuto}
	case how == "notify" && !more:
		c.Ready = Ready{Mode: ReadyNotify}
	case how == "accept" && !more:
		c.Ready = Ready{Mode: ReadyAccept}
	case how == "interval" && !more:
		c.Ready = Ready{Mode: ReadyInterval}
	case how == "fd":
		r := Ready{Mode: ReadyFD}
		if err := setInt(&r.FD, rest, 3, 1023); err != nil {
			return errors.New("the descriptor after fd: must be a number from 3 to 1023")
		}
		c.Ready = r
	case how == "exec" && strings.TrimSpace(rest) != "":
		c.Ready = Ready{Mode: ReadyExec, Command: rest}
	default:
		return errMust
	}
	return nil
}

func setKillOldDelay(c *Config, v string) error {
	c.killOldDelaySet = true
	return setTime(&c.KillOldDelay, v)
}

func setAutoRestartInterval(c *Config, v string) error {
	var d time.Duration
	if err := setTime(&d, v); err != nil || d == 0 {
		return errMust
	}
	c.AutoRestartInterval = d
	return nil
}

func setOnStall(c *Config, v string) error {
	return setEither(&c.RestartOnStall, v, "report", "restart")
}

func setOnExit(c *Config, v string) error {
	switch v {
	case "exit":
		c.OnExit = Exit
	case "restart-on-failure":
		c.OnExit = RestartOnFailure
	case "restart":
		c.OnExit = RestartAlways
	default:
		return errMust
	}
	return nil
}

func setReloadSignal(c *Config, v string) error {
	if v == "none" || v == "0" {
		c.ReloadSignal = 0
		return nil
	}
	var s unix.Signal
	if err := setSignal(&s, v); err != nil {
		return err
	}
	switch s {
	case unix.SIGKILL, unix.SIGSTOP:
		return errors.New("no process can receive this signal: must be " + aSignal + ", or none")
	case unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, unix.SIGCHLD:
		return errors.New("this signal has a meaning of its own for hotinit: HUP, USR1, USR2 or RTMIN+3 are free, or none")
	}
	c.ReloadSignal = s
	return nil
}

func setSingleChild(c *Config, v string) error {
	var single bool
	if err := setBool(&single, v); err != nil {
		return err
	}
	if single {
		c.Group, c.Session = false, false
	}
	return nil
}

func addRewrite(c *Config, v string) error {
	from, to, _ := strings.Cut(v, ":")
	a, ok := ParseSignal(from)
	if !ok {
		return errMust
	}
	b, ok := ParseSignal(to)
	if !ok && to != "0" {
		return errMust
	}
	if c.Rewrite == nil {
		c.Rewrite = make(map[unix.Signal]unix.Signal)
	}
	c.Rewrite[a] = b
	return nil
}

// addWatch takes a signal after the last colon, by name only: a path may well
// end with a colon and a number. What looks like a name and is none is an
// error, so that a misspelt signal is not taken for a part of the path.
func addWatch(c *Config, v string) error {
	w := WatchPath{Path: v}
	if i := strings.LastIndexByte(v, ':'); i >= 0 {
		last := v[i+1:]
		switch s, ok := signalByName(last); {
		case ok:
			w = WatchPath{Path: v[:i], Signal: s}
		case last == "reload":
			w.Path = v[:i]
		case last != "" && strings.Trim(last, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-") == "" && last[0] >= 'A':
			return errors.New(last + " is not a signal: must be " + aWatch)
		}
	}
	if w.Path == "" {
		return errMust
	}
	c.WatchPaths = append(c.WatchPaths, w)
	return nil
}

func setNoWatch(c *Config, v string) error {
	var no bool
	if err := setBool(&no, v); err != nil {
		return err
	}
	c.Watch = !no
	return nil
}

func addTrustedKey(c *Config, v string) error {
	if v == "" {
		return errMust
	}
	c.TrustedKeys = append(c.TrustedKeys, v)
	return nil
}

func addIgnore(c *Config, v string) error {
	if v == "" {
		return errMust
	}
	c.Ignore = append(c.Ignore, v)
	return nil
}

func setPoll(c *Config, v string) error {
	switch v {
	case "auto":
		c.Poll = PollAuto
	case "off":
		c.Poll = PollOff
	default:
		var d time.Duration
		if err := setTime(&d, v); err != nil || d == 0 {
			return errMust
		}
		c.Poll, c.PollInterval = PollAlways, d
	}
	return nil
}

func setAdopt(c *Config, v string) error {
	switch v {
	case "auto":
		c.Adopt = AdoptAuto
	case "on":
		c.Adopt = AdoptOn
	case "off":
		c.Adopt = AdoptOff
	default:
		return errMust
	}
	return nil
}

func setCgroup(c *Config, v string) error {
	switch v {
	case "auto":
		c.Cgroup = CgroupAuto
	case "on":
		c.Cgroup = CgroupOn
	case "off":
		c.Cgroup = CgroupOff
	default:
		return errMust
	}
	return nil
}

// setAction keeps the first of --help, --version and so on.
func setAction(c *Config, a Action, v string) error {
	var on bool
	if err := setBool(&on, v); err != nil {
		return err
	}
	if on && c.Action == Run {
		c.Action = a
	}
	return nil
}

func addExitZero(c *Config, v string) error {
	var code int
	if err := setInt(&code, v, 0, 255); err != nil {
		return err
	}
	c.ExitZero.add(code)
	return nil
}

// setVerbosity adds one for each -v; with a value it sets the level.
func setVerbosity(c *Config, v string) error {
	if v == switchedOn {
		c.Verbosity++
		return nil
	}
	return setInt(&c.Verbosity, v, 0, 1<<10)
}

func setMaxStarts(c *Config, v string) error { return setInt(&c.MaxStarts, v, 0, 1<<20) }

func setAfter(c *Config, v string) error {
	names := strings.FieldsFunc(v, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' })
	if len(names) == 0 {
		return errMust
	}
	c.After = names
	return nil
}

func setRun(c *Config, v string) error {
	switch v {
	case "once":
		c.Once = true
	case "always":
		c.Once = false
	default:
		return errMust
	}
	return nil
}

func setSchedule(c *Config, v string) error {
	if _, err := schedule.Parse(v, time.UTC); err != nil {
		return err
	}
	c.Schedule = v
	return nil
}

func setSwapThrough(c *Config, v string) error {
	if v != "" && !strings.Contains(v, "{}") {
		return errMust
	}
	c.SwapThrough = v
	return nil
}

func setLogFormat(c *Config, v string) error { return setEither(&c.LogJSON, v, "text", "json") }
