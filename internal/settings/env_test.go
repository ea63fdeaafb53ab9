package settings

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestEachVariableHasItsRow(t *testing.T) {
	fields := reflect.TypeFor[environment]()
	i := 0
	for _, o := range options {
		if o.env == "" {
			continue
		}
		if i == fields.NumField() {
			t.Fatalf("environment has no field for %s", o.variable())
		}
		if tag := fields.Field(i).Tag.Get("envconfig"); tag != o.variable() {
			t.Fatalf("field %s of environment reads %s, the table has %s there", fields.Field(i).Name, tag, o.variable())
		}
		i++
	}
	if i != fields.NumField() {
		t.Errorf("environment has %d fields, the table %d variables", fields.NumField(), i)
	}
}

func TestEachRowIsComplete(t *testing.T) {
	letters := ""
	for _, o := range options {
		if o.name == "" || o.help == "" || o.set == nil {
			t.Errorf("the row of %q is not complete", o.name)
		}
		if o.arg != "" && o.allowed == "" {
			t.Errorf("--%s does not say what is allowed", o.name)
		}
		if strings.ContainsAny(letters, o.short) {
			t.Errorf("a letter of --%s (%s) has another meaning too", o.name, o.short)
		}
		letters += o.short
		for _, other := range options {
			if other.name != o.name && len(other.name) > 1 && other.name == o.short {
				t.Errorf("-%s could be --%s", o.short, other.name)
			}
		}
	}
}

func TestVariablesSetWhatFlagsSet(t *testing.T) {
	for line, change := range map[string]func(*Config){
		"HOTINIT_PORTS=8080,9000":                      func(c *Config) { c.Sockets = specs(t, "8080", "9000") },
		"HOTINIT_PORTS=tcp:80,name=http,reuseport,81":  func(c *Config) { c.Sockets = specs(t, "80,name=http,reuseport", "81") },
		"HOTINIT_PATHS=/a,/b":                          func(c *Config) { c.Sockets = specs(t, "/a", "/b") },
		"HOTINIT_LISTEN=unix:/a,mode=0600;u53":         func(c *Config) { c.Sockets = specs(t, "unix:/a,mode=0600", "u53") },
		"HOTINIT_KEEP_FDS=5,6":                         func(c *Config) { c.KeepFDs = []int{5, 6} },
		"HOTINIT_USER=www":                             func(c *Config) { c.User = "www" },
		"HOTINIT_STOP_TIMEOUT=30":                      func(c *Config) { c.StopTimeout = 30 * time.Second },
		"HOTINIT_GROUP=1":                              func(c *Config) { c.Group = true },
		"HOTINIT_GROUP=0":                              func(c *Config) {},
		"HOTINIT_NO_WATCH=true":                        func(c *Config) { c.Watch = false },
		"HOTINIT_WATCH=/a,/b:HUP":                      func(c *Config) { c.WatchPaths = []WatchPath{{Path: "/a"}, {"/b", unix.SIGHUP}} },
		"HOTINIT_REWRITE=1:2,3:0":                      func(c *Config) { c.Rewrite = map[unix.Signal]unix.Signal{1: 2, 3: 0} },
		"HOTINIT_EXIT_ZERO=1,2":                        func(c *Config) { c.ExitZero = Codes{6} },
		"HOTINIT_VERBOSITY=3":                          func(c *Config) { c.Verbosity = 3 },
		"HOTINIT_INTERVAL=":                            func(c *Config) {},
		"HOTINIT_GENERATION=5":                         func(c *Config) {},
		"HOTINIT_VERBOSITY=3 TINI_VERBOSITY=0":         func(c *Config) { c.Verbosity = 3 },
		"TINI_VERBOSITY=2":                             func(c *Config) { c.Verbosity = 2 },
		"TINI_KILL_PROCESS_GROUP=":                     func(c *Config) { c.Group = true },
		"TINI_KILL_PROCESS_GROUP=1 HOTINIT_GROUP=0":    func(c *Config) {},
		"DUMB_INIT_DEBUG=1":                            func(c *Config) { c.Verbosity = 3 },
		"TINI_KILL_PROCESS_GROUP=1 DUMB_INIT_SETSID=0": func(c *Config) {},
	} {
		want(t, line+" hotinit app", change)
	}
}

func TestAFlagWinsOverItsVariable(t *testing.T) {
	want(t, "HOTINIT_PORTS=80,81 HOTINIT_INTERVAL=5 HOTINIT_GROUP=1 hotinit --port 82 --interval 2 --group=0 app", func(c *Config) {
		c.Sockets, c.Interval = specs(t, "82"), 2*time.Second
	})
}

func TestABareVariableMeansNothing(t *testing.T) {
	want(t, "USER=root DIR=/x PORTS=80 ENVDIR=/e WATCH=/w KILL_OLD_DELAY=9 hotinit app", func(*Config) {})
}

func TestAnUnknownVariableIsAWarning(t *testing.T) {
	c := mustParse(t, "HOTINIT_PORT=80 HOTINIT_GENERATION=1 HOTINIT_WHATEVER=1 HOTINIT_PORTS= HOTINIT_PROGRAM=web HOTINIT_INSTANCE=0 HOTINIT_EVENT=ready HOTINIT_EVENT_TIME=x HOTINIT_EVENT_DROPPED=1 hotinit app")
	want := []string{
		"HOTINIT_PORT is not a variable of hotinit: it is ignored (did you mean HOTINIT_PORTS?)",
		"HOTINIT_WHATEVER is not a variable of hotinit: it is ignored",
	}
	if len(c.Warnings) != 2 || !reflect.DeepEqual(sorted(c.Warnings), want) {
		t.Errorf("the warnings are %q, want %q", c.Warnings, want)
	}
}

func sorted(list []string) []string {
	if len(list) == 2 && list[0] > list[1] {
		list[0], list[1] = list[1], list[0]
	}
	return list
}

func TestParseChangesNoVariable(t *testing.T) {
	clearEnvironment(t)
	t.Setenv("HOTINIT_PORTS", "80")
	before := os.Environ()
	if _, err := Parse([]string{"hotinit", "app"}, os.Environ()); err != nil {
		t.Fatal(err)
	}
	if after := os.Environ(); !reflect.DeepEqual(before, after) {
		t.Error("the environment is another")
	}
}

// FuzzVariables gives one variable any value: an error is one line that names it.
func FuzzVariables(f *testing.F) {
	clearEnvironment(f)
	for _, o := range options {
		if o.env != "" {
			f.Add(o.env, "1")
		}
	}
	f.Add("LISTEN", "80,name=a\nb")
	f.Add("TRUSTED_KEY", "/a,,/b")
	f.Fuzz(func(t *testing.T, name, value string) {
		if strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") {
			return // execve(2) passes no such variable on
		}
		c, err := Parse([]string{"hotinit", "app"}, []string{prefix + name + "=" + value})
		switch {
		case err != nil && strings.Contains(err.Error(), "\n"):
			t.Errorf("%s=%q: the error has several lines: %v", name, value, err)
		case err == nil && c.Action == Run && len(c.Command) != 1:
			t.Errorf("%s=%q: the command is %q", name, value, c.Command)
		}
	})
}
