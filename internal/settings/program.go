package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kelseyhightower/envconfig"

	"github.com/hotinit/hotinit/internal/schedule"
	"github.com/hotinit/hotinit/internal/words"
)

// setting is one that was given: a row, where it stood, and its value.
type setting struct {
	option *option
	where  string
	value  string
}

// Variable is one of a program's file.
type Variable struct {
	Name, Value string
	Line        int
}

// CommandVariable is the one that only a program's file has.
const CommandVariable = prefix + "COMMAND"

// These say where a program is among the others, and nothing of what runs.
const (
	AfterVariable     = prefix + "AFTER"
	EssentialVariable = prefix + "ESSENTIAL"
	InstancesVariable = prefix + "INSTANCES" // but whether there are any
)

// VariableError is a variable of a program's file that cannot be used.
type VariableError struct {
	Line int
	Text string
}

func (e *VariableError) Error() string { return e.Text }

// ForProgram returns the settings of the program with this name, from the variables
// of its file. A later one of a name wins. What hotinit itself was given is the
// default, except for what belongs to one program alone; an empty variable takes
// that back.
func (c *Config) ForProgram(name string, variables []Variable) (*Config, error) {
	p := defaults()
	// A program of a supervisor is expected to be there: what ends is started again.
	p.OnExit, p.RetryFirst = RestartAlways, true
	p.Program, p.Verbosity = name, c.Verbosity
	last := make(map[string]Variable, len(variables))
	for _, v := range variables {
		last[v.Name] = v
	}
	p.inherit(c, name, last)
	var order []string
	for _, v := range variables {
		if !slices.Contains(order, v.Name) {
			order = append(order, v.Name)
		}
	}
	for _, n := range order {
		v := last[n]
		if !strings.HasPrefix(n, prefix) {
			p.Environment = append(p.Environment, n+"="+v.Value)
			delete(last, n)
		} else if err := allowedInFile(v); err != nil {
			return nil, err
		}
	}
	if err := p.setFromFile(last); err != nil {
		return nil, err
	}
	command, ok := last[CommandVariable]
	if !ok || strings.TrimSpace(command.Value) == "" {
		return nil, &VariableError{command.Line, CommandVariable + " is missing: what is to be run?"}
	}
	argv, err := splitCommand(command.Value)
	if err != nil {
		return nil, &VariableError{command.Line, fmt.Sprintf("%s=%q: %v", CommandVariable, command.Value, err)}
	}
	p.Command = argv
	p.RetryFirst = p.OnExit != Exit
	if err := p.checkOnce(last); err != nil {
		return nil, err
	}
	if err := p.checkInstances(last); err != nil {
		return nil, err
	}
	if p.AutoRestart && !p.killOldDelaySet {
		p.KillOldDelay = autoRestartDelay
	}
	if p.Session {
		stopForTerminal(p)
	}
	if err := p.checkProgram(); err != nil {
		return nil, &VariableError{Text: err.Error()}
	}
	return p, nil
}

// checkOnce looks at the settings of a program that runs once.
func (p *Config) checkOnce(file map[string]Variable) error {
	if p.Schedule != "" {
		if run, ok := file[prefix+"RUN"]; ok && !p.Once && run.Value != "" {
			return &VariableError{run.Line, fmt.Sprintf("%s=%q: what HOTINIT_SCHEDULE starts runs once", run.Name, run.Value)}
		}
		p.Once = true
		line := file[prefix+"SCHEDULE"].Line
		zone, err := zoneOf(p.Environment)
		if err != nil {
			return &VariableError{line, err.Error()}
		}
		if _, err := schedule.Parse(p.Schedule, zone); err != nil {
			return &VariableError{line, fmt.Sprintf("HOTINIT_SCHEDULE=%q: %v", p.Schedule, err)}
		}
		p.Zone = zone
	}
	if !p.Once {
		if retries, ok := file[prefix+"RETRIES"]; ok && p.Retries > 0 {
			return &VariableError{retries.Line, fmt.Sprintf("%s=%q has no meaning without HOTINIT_RUN=once (see HOTINIT_ON_EXIT)", retries.Name, retries.Value)}
		}
		return nil
	}
	if onExit, ok := file[prefix+"ON_EXIT"]; ok && onExit.Value != "" {
		return &VariableError{onExit.Line, fmt.Sprintf("%s=%q has no meaning with HOTINIT_RUN=once (see HOTINIT_RETRIES)", onExit.Name, onExit.Value)}
	}
	p.Watch, p.RetryFirst, p.OnExit = false, false, Exit // each run takes what is there
	if len(p.WatchPaths) > 0 {
		return &VariableError{file[prefix+"WATCH"].Line, "HOTINIT_WATCH has no meaning with HOTINIT_RUN=once: each run takes what is there"}
	}
	return nil
}

// checkInstances looks at what several instances of a program cannot share.
func (p *Config) checkInstances(file map[string]Variable) error {
	if p.Instances == 0 {
		return nil
	}
	given := file[prefix+"INSTANCES"]
	wrong := func(what, why string) error {
		return &VariableError{given.Line, fmt.Sprintf("%s=%q cannot be given with %s: %s", given.Name, given.Value, what, why)}
	}
	switch {
	case p.StatusFile != "":
		return wrong("HOTINIT_STATUS_FILE", "the generations of an instance have numbers of their own (hotinit status shows them)")
	case p.SwapThrough != "":
		return wrong("HOTINIT_SWAP_THROUGH", "the instances are replaced one after the other without it (HOTINIT_SWAP_THROUGH= takes a default back)")
	}
	return nil
}

// zoneOf returns the time zone that an environment says, over hotinit's own.
func zoneOf(environment []string) (*time.Location, error) {
	name, ok := "", false
	for _, v := range environment {
		if value, is := strings.CutPrefix(v, "TZ="); is {
			name, ok = value, true
		}
	}
	if !ok {
		return time.Local, nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("HOTINIT_SCHEDULE needs the time zone TZ=%q: %v (package tzdata has the zones)", name, err)
	}
	return zone, nil
}

// inherit applies what hotinit itself was given and the file does not set.
func (p *Config) inherit(c *Config, name string, file map[string]Variable) {
	for _, s := range c.applied {
		if s.option.of != eachProgram {
			continue
		}
		if _, ok := file[s.option.variable()]; s.option.env != "" && ok {
			continue
		}
		_ = s.option.set(p, s.value) // it was valid before
		if s.option.name == "state-dir" {
			p.StateDir = filepath.Join(p.StateDir, "programs", name)
		}
	}
}

// allowedInFile returns why a HOTINIT_ variable may not be in a program's file.
func allowedInFile(v Variable) error {
	bare := strings.TrimPrefix(v.Name, prefix)
	if v.Name == CommandVariable {
		return nil
	}
	known := []string{"COMMAND"}
	for i := range options {
		o := &options[i]
		switch {
		case o.env == "":
		case o.env == bare && o.of == hotinits:
			return &VariableError{v.Line, fmt.Sprintf("%s=%q: this is hotinit's own, and no program's: give it to hotinit itself (%s)", v.Name, v.Value, o.flag())}
		case o.env == bare:
			return nil
		case o.of != hotinits:
			known = append(known, o.env)
		}
	}
	text := fmt.Sprintf("%s=%q: there is no such setting", v.Name, v.Value)
	if near := nearest(bare, known); near != "" {
		text += " (did you mean " + prefix + near + "?)"
	} else {
		text += " (hotinit --help lists them)"
	}
	return &VariableError{v.Line, text}
}

// processEnvironment guards the process's environment, the only thing that
// envconfig reads. Nobody else reads a HOTINIT_ variable once hotinit runs.
var processEnvironment sync.Mutex

// setFromFile applies the HOTINIT_ variables of a file, by envconfig: in the table's
// order, as those of the environment.
func (p *Config) setFromFile(file map[string]Variable) error {
	all := reflect.TypeFor[environment]()
	var rows []*option
	var fields []reflect.StructField
	for i, field := 0, 0; i < len(options); i++ {
		o := &options[i]
		if o.env == "" {
			continue
		}
		if v, ok := file[o.variable()]; ok && v.Value != "" {
			rows, fields = append(rows, o), append(fields, all.Field(field))
		}
		field++
	}
	if len(rows) == 0 {
		return nil
	}
	values := reflect.New(reflect.StructOf(fields))
	if err := readEnvironment(rows, file, values.Interface()); err != nil {
		return err
	}
	for i, o := range rows {
		value := values.Elem().Field(i).Interface().(*string)
		if err := p.setFromVariable(o, o.variable(), *value); err != nil {
			return &VariableError{file[o.variable()].Line, err.Error()}
		}
	}
	return nil
}

func readEnvironment(rows []*option, file map[string]Variable, into any) error {
	processEnvironment.Lock()
	defer processEnvironment.Unlock()
	for _, o := range rows {
		name := o.variable()
		before, had := os.LookupEnv(name)
		if err := os.Setenv(name, file[name].Value); err != nil {
			return &VariableError{file[name].Line, fmt.Sprintf("%s: %v", name, err)}
		}
		defer func() {
			if had {
				_ = os.Setenv(name, before)
			} else {
				_ = os.Unsetenv(name)
			}
		}()
	}
	return envconfig.Process("", into)
}

// splitCommand takes a command apart: a JSON array of words, or words with spaces
// between and quotes as a shell has them. Nothing is expanded: there may be no shell.
func splitCommand(text string) ([]string, error) {
	if strings.HasPrefix(strings.TrimSpace(text), "[") {
		var argv []string
		if err := json.Unmarshal([]byte(text), &argv); err == nil {
			if len(argv) == 0 || argv[0] == "" {
				return nil, errors.New("must name a command")
			}
			return argv, nil
		}
		return nil, errors.New(`must be a JSON array of strings, as in ["/app/web", "--threads", "4"]`)
	}
	argv, err := words.Split(text)
	if err == nil && argv[0] == "" {
		err = errors.New("must name a command")
	}
	return argv, err
}
