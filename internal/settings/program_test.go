package settings

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func program(t *testing.T, line string, file ...string) *Config {
	t.Helper()
	p, err := mustParse(t, line).ForProgram("web", variables(file))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func variables(lines []string) (list []Variable) {
	for i, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		list = append(list, Variable{name, value, i + 1})
	}
	return list
}

func TestAProgramHasItsOwnSettingsOverHotinits(t *testing.T) {
	p := program(t, "HOTINIT_GROUPS=a,b HOTINIT_DIR=/srv hotinit --port 80 --watch /w --user www --stop-timeout 30 --ignore x --state-dir /s --programs d -- main",
		"HOTINIT_COMMAND=/app/web -t 4", "HOTINIT_STOP_TIMEOUT=5", "HOTINIT_IGNORE=y,z", "HOTINIT_DIR=", "A=1")
	switch {
	case !slices.Equal(p.Command, []string{"/app/web", "-t", "4"}), p.Program != "web", !slices.Equal(p.Environment, []string{"A=1"}):
		t.Errorf("it runs %q as %s, with %q", p.Command, p.Program, p.Environment)
	case len(p.Sockets) != 0, len(p.WatchPaths) != 0, p.Programs != "":
		t.Errorf("it has what belongs to another: %+v", p)
	case p.User != "www", p.StopTimeout != 5*time.Second, !slices.Equal(p.Groups, []string{"a", "b"}):
		t.Errorf("it has not hotinit's defaults: %+v", p)
	case !slices.Equal(p.Ignore, []string{"y", "z"}):
		t.Errorf("a list is added to, and not replaced: %q", p.Ignore)
	case p.Dir != "":
		t.Errorf("an empty variable does not take back hotinit's: %s", p.Dir)
	case p.StateDir != "/s/programs/web":
		t.Errorf("it shares its state directory: %s", p.StateDir)
	}
}

func TestAProgramThatEndsIsStartedAgainUnlessToldOtherwise(t *testing.T) {
	for file, want := range map[string]OnExit{"": RestartAlways, "HOTINIT_ON_EXIT=exit": Exit, "HOTINIT_ON_EXIT=restart-on-failure": RestartOnFailure} {
		p := program(t, "hotinit --programs d", "HOTINIT_COMMAND=x", file)
		if p.OnExit != want || p.RetryFirst != (want != Exit) {
			t.Errorf("%s: %v, %v", file, p.OnExit, p.RetryFirst)
		}
	}
	if p := program(t, "hotinit --on-exit exit --programs d", "HOTINIT_COMMAND=x"); p.OnExit != Exit {
		t.Error("what hotinit was given is no default")
	}
}

func TestAProgramSetsByItsFileWhatAVariableSets(t *testing.T) {
	c := mustParse(t, "HOTINIT_UMASK=077 hotinit --programs d")
	before := os.Environ()
	p, err := c.ForProgram("web", variables([]string{"HOTINIT_COMMAND=x", "HOTINIT_PORTS=80,81", "HOTINIT_REWRITE=1:2", "HOTINIT_SETSID=1", "HOTINIT_ENABLE_AUTO_RESTART=1", "HOTINIT_SETTLE=1"}))
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Sockets) != 2 || p.Rewrite[1] != 2 || p.Rewrite[unix.SIGTSTP] != unix.SIGSTOP || p.KillOldDelay != 5*time.Second || p.Umask != 0o077 {
		t.Errorf("%+v", p)
	}
	if !slices.Equal(before, os.Environ()) {
		t.Error("the environment of the process was changed")
	}
}

func TestEachRowThatAFileMayNotSetIsRefused(t *testing.T) {
	c := mustParse(t, "hotinit --programs d")
	for i := range options {
		o := &options[i]
		if o.env == "" {
			continue
		}
		_, err := c.ForProgram("web", []Variable{{CommandVariable, "x", 1}, {o.variable(), "?", 2}})
		own := err != nil && strings.Contains(err.Error(), "hotinit's own")
		if own != (o.of == hotinits) {
			t.Errorf("%s: %v", o.variable(), err)
		}
	}
}

func TestProgramsNeedNoCommand(t *testing.T) {
	if c := mustParse(t, "hotinit --programs /d"); c.Programs != "/d" || len(c.Command) != 0 {
		t.Errorf("%+v", c)
	}
	if _, err := parse(t, "HOTINIT_PROGRAMS=/d tini app"); err == nil || !strings.Contains(err.Error(), "tini runs one program") {
		t.Errorf("tini runs several programs: %v", err)
	}
}
