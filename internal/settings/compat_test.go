package settings

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/sockets"
)

// as changes a Config into what a plain init's name gives.
func as(compat string, c *Config) {
	c.Compat, c.Watch, c.ReloadSignal, c.StopTimeout = compat, false, 0, 0
}

func TestTiniCommandLine(t *testing.T) {
	for line, change := range map[string]func(*Config){
		"tini app":                                      func(c *Config) {},
		"/sbin/docker-init -- app":                      func(c *Config) {},
		"tini-static-amd64 app":                         func(c *Config) {},
		"tini -s app":                                   func(c *Config) {},
		"tini -vvg -- app":                              func(c *Config) { c.Verbosity, c.Group = 3, true },
		"tini -p SIGKILL -w -e5 app":                    func(c *Config) { c.ParentDeath, c.WarnOnReap, c.ExitZero = unix.SIGKILL, true, Codes{1 << 5} },
		"TINI_SUBREAPER= tini app":                      func(c *Config) {},
		"TINI_VERBOSITY=0 tini -v app":                  func(c *Config) { c.Verbosity = 0 },
		"TINI_VERBOSITY=x tini app":                     func(c *Config) { c.Verbosity = 0 },
		"TINI_VERBOSITY=+3x tini app":                   func(c *Config) { c.Verbosity = 3 },
		"TINI_KILL_PROCESS_GROUP=0 tini app":            func(c *Config) { c.Group = true },
		"DUMB_INIT_SETSID=0 DUMB_INIT_DEBUG=1 tini app": func(c *Config) {},
		"tini -h app":                                   func(c *Config) { c.Action = Help },
		"tini -l app":                                   func(c *Config) { c.Action = License },
		"tini app -g":                                   func(c *Config) { c.Group = true },
		"tini app -g -- -v":                             func(c *Config) { c.Group, c.Command = true, []string{"app", "-v"} },
		"tini app -- -x":                                func(c *Config) { c.Command = []string{"app", "-x"} },
		"tini -g app -x":                                func(c *Config) { c.Group, c.Command = true, []string{"app", "-x"} },
		"tini app -v -x":                                func(c *Config) { c.Command = []string{"app", "-v", "-x"} },
		"tini app --version":                            func(c *Config) { c.Command = []string{"app", "--version"} },
		"tini app -l":                                   func(c *Config) { c.Command = []string{"app", "-l"} },
		"POSIXLY_CORRECT= tini app -- -v":               func(c *Config) { c.Command = []string{"app", "--", "-v"} },
		"tini status":                                   func(c *Config) { c.Command = []string{"status"} },
	} {
		want(t, line, func(c *Config) {
			as("tini", c)
			change(c)
		})
	}
	if c := mustParse(t, "tini --version"); c.Action != Version {
		t.Errorf("tini --version asks for %d", c.Action)
	}
}

func TestDumbInitCommandLine(t *testing.T) {
	stop := map[unix.Signal]unix.Signal{unix.SIGTSTP: unix.SIGSTOP, unix.SIGTTIN: unix.SIGSTOP, unix.SIGTTOU: unix.SIGSTOP}
	single := func(c *Config) { c.Group, c.Session, c.Rewrite = false, false, nil }
	for line, change := range map[string]func(*Config){
		"dumb-init app":                                  func(c *Config) {},
		"/usr/bin/dumb-init_1.2.5_x86_64 -- app":         func(c *Config) {},
		"dumb-init -c app":                               single,
		"dumb-init --single app":                         single,
		"DUMB_INIT_SETSID=0 dumb-init app":               single,
		"DUMB_INIT_SETSID=1 dumb-init app":               func(c *Config) {},
		"DUMB_INIT_DEBUG=1 dumb-init app":                func(c *Config) { c.Verbosity = 3 },
		"dumb-init -v app":                               func(c *Config) { c.Verbosity = 3 },
		"TINI_VERBOSITY=2 TINI_SUBREAPER= dumb-init app": func(c *Config) {},
		"dumb-init -c -r 15:3 --rewrite=1:0 app": func(c *Config) {
			single(c)
			c.Rewrite = map[unix.Signal]unix.Signal{15: 3, 1: 0}
		},
		"dumb-init -r 20:20 app": func(c *Config) {
			c.Rewrite = map[unix.Signal]unix.Signal{20: 20, unix.SIGTTIN: unix.SIGSTOP, unix.SIGTTOU: unix.SIGSTOP}
		},
		"dumb-init app -c -x": func(c *Config) { c.Command = []string{"app", "-c", "-x"} },
		"dumb-init -V":        func(c *Config) { c.Action, c.Command = Version, nil },
		"dumb-init --help":    func(c *Config) { c.Action, c.Command = Help, nil },
	} {
		want(t, line, func(c *Config) {
			as("dumb-init", c)
			c.Group, c.Session, c.Rewrite = true, true, stop
			change(c)
		})
	}
}

func TestCatatonitCommandLine(t *testing.T) {
	for line, change := range map[string]func(*Config){
		"catatonit app":                   func(c *Config) {},
		"catatonit -g -- app":             func(c *Config) { c.Group = true },
		"catatonit -P":                    func(c *Config) { c.Pause, c.Command = true, nil },
		"catatonit -L":                    func(c *Config) { c.Action, c.Command = License, nil },
		"catatonit -h":                    func(c *Config) { c.Action, c.Command = Help, nil },
		"catatonit --vers":                func(c *Config) { c.Action, c.Command = Version, nil },
		"catatonit -V":                    func(c *Config) { c.Action, c.Command = Version, nil },
		"CATATONIT_DEBUG= catatonit app":  func(c *Config) { c.Verbosity = 3 },
		"TINI_VERBOSITY=0 catatonit app":  func(c *Config) {},
		"catatonit app -- -g":             func(c *Config) { c.Command = []string{"app", "-g"} },
		"/usr/libexec/podman/catatonit a": func(c *Config) { c.Command = []string{"a"} },
	} {
		want(t, line, func(c *Config) {
			as("catatonit", c)
			change(c)
		})
	}
}

func TestStartServerCommandLine(t *testing.T) {
	for line, change := range map[string]func(*Config){
		"start_server -- app":                          func(c *Config) {},
		"/usr/local/bin/start_server --port=80 -- app": func(c *Config) { c.Sockets = specs4(t, "80") },
		"start_server --port 80=5 --path /a -- app":    func(c *Config) { c.Sockets = specs4(t, "80=5", "/a") },
		"start_server -port 80 -inter 3 -- app":        func(c *Config) { c.Sockets, c.Interval = specs4(t, "80"), 3*time.Second },
		"start_server --signal-on-hup=QUIT --signal-on-term sigint -- app": func(c *Config) {
			c.SignalOnHUP, c.SignalOnTERM = unix.SIGQUIT, unix.SIGINT
		},
		"start_server --enable-auto-restart -- app": func(c *Config) { c.AutoRestart, c.KillOldDelay = true, 5*time.Second },
		"ENVDIR=/e ENABLE_AUTO_RESTART=1 AUTO_RESTART_INTERVAL=9 KILL_OLD_DELAY=2 start_server -- app": func(c *Config) {
			c.EnvDir, c.AutoRestart, c.AutoRestartInterval, c.KillOldDelay = "/e", true, 9*time.Second, 2*time.Second
		},
		"ENVDIR=/e start_server --envdir=/f -- app":     func(c *Config) { c.EnvDir = "/f" },
		"start_server --daemonize --log-file=/l -- app": func(c *Config) { c.Daemonize, c.LogFile = true, "/l" },
		"start_server --dir=/d --backlog=5 -- app":      func(c *Config) { c.Dir, c.Backlog = "/d", 5 },
		"start_server app --dir /d":                     func(c *Config) { c.Dir = "/d" },
		"start_server app --dir /d -- -x":               func(c *Config) { c.Dir, c.Command = "/d", []string{"app", "-x"} },
		"start_server --dir=/d app --daemon-of-its-own": func(c *Config) { c.Dir, c.Command = "/d", []string{"app", "--daemon-of-its-own"} },
		"start_server --restart --pid-file=p --status-f=s": func(c *Config) {
			c.Action, c.PidFile, c.StatusFile, c.Command = Restart, "p", "s", nil
		},
		"start_server --stop --pid-file=p": func(c *Config) { c.Action, c.PidFile, c.Command = Stop, "p", nil },
		"start_server --help":              func(c *Config) { c.Action, c.Command = Help, nil },
		"start_server --version":           func(c *Config) { c.Action, c.Command = Version, nil },
	} {
		want(t, line, func(c *Config) {
			c.Compat, c.Watch, c.OnExit, c.RetryFirst, c.SignalOnTERM = "start_server", false, RestartAlways, true, unix.SIGTERM
			c.ReadyTimeout, c.DrainTimeout, c.StopTimeout, c.Probation, c.StallTimeout = 0, 0, 0, 0, 0
			change(c)
		})
	}
}

func TestOtherToolsRefuseWhatTheyDoNotKnow(t *testing.T) {
	for line, want := range map[string]struct {
		text string
		code int
	}{
		"tini":                         {"missing command: usage: tini [flags] [--] COMMAND [ARG...] (tini -h lists the flags)", 1},
		"tini -z app":                  {`unknown flag "-z": usage: tini [flags] [--] COMMAND [ARG...] (tini -h lists the flags)`, 1},
		"tini --port 80 app":           {`unknown flag "--port": usage: tini [flags] [--] COMMAND [ARG...] (tini -h lists the flags)`, 1},
		"tini --version app":           {`unknown flag "--version": usage: tini [flags] [--] COMMAND [ARG...] (tini -h lists the flags)`, 1},
		"tini -e 300 app":              {`-e "300": must be an exit code from 0 to 255`, 1},
		"tini -c app":                  {`unknown flag "-c": usage: tini [flags] [--] COMMAND [ARG...] (tini -h lists the flags)`, 1},
		"dumb-init":                    {"missing command: usage: dumb-init [flags] [--] COMMAND [ARG...] (dumb-init --help lists the flags)", 1},
		"dumb-init --singel-child app": {`unknown flag "--singel-child" (did you mean --single-child?)`, 1},
		"dumb-init --ver":              {`flag "--ver" could be --verbose or --version: write more of it`, 1},
		"dumb-init -r foo app":         {`-r "foo": must be two signals with a colon between, as in TERM:QUIT or 15:3; 0 as the second drops the first`, 1},
		"catatonit":                    {"missing command: usage: catatonit [flags] [--] COMMAND [ARG...] (catatonit -h lists the flags)", 1},
		"catatonit --help":             {`unknown flag "--help": usage: catatonit [flags] [--] COMMAND [ARG...] (catatonit -h lists the flags)`, 1},
		"start_server":                 {"missing command: usage: start_server [flags] [--] COMMAND [ARG...] (start_server --help lists the flags)", 255},
		"start_server --prot=80 app":   {`unknown flag "--prot" (did you mean --port?)`, 1},
		"start_server --s=1 app":       {`flag "--s=1" could be --signal-on-hup or --signal-on-term or --status-file or --stop: write more of it`, 1},
		"start_server --stop":          {"--stop needs --pid-file, that of the hotinit that is to stop", 1},
	} {
		_, err := parse(t, line)
		e, ok := err.(*Error)
		if !ok || e.Error() != want.text || e.ExitCode() != want.code {
			t.Errorf("%s:\n got %v\nwant %s", line, err, want.text)
		}
	}
}

func TestHotSwapWakesUnderAnotherName(t *testing.T) {
	for line, change := range map[string]func(*Config){
		"HOTINIT_PORTS=80":       func(c *Config) { c.Sockets, c.Watch, c.ReloadSignal = specs(t, "80"), true, unix.SIGHUP },
		"HOTINIT_WATCH=/a":       func(c *Config) { c.WatchPaths, c.Watch, c.ReloadSignal = []WatchPath{{Path: "/a"}}, true, unix.SIGHUP },
		"HOTINIT_NO_WATCH=0":     func(c *Config) { c.Watch = true },
		"HOTINIT_INTERVAL=2":     func(c *Config) { c.Interval = 2 * time.Second },
		"HOTINIT_STOP_TIMEOUT=9": func(c *Config) { c.StopTimeout = 9 * time.Second },
		"HOTINIT_PORTS=":         func(c *Config) {},
		"HOTINIT_PORTS=80 HOTINIT_NO_WATCH=1 HOTINIT_RELOAD_SIGNAL=USR2": func(c *Config) {
			c.Sockets, c.ReloadSignal = specs(t, "80"), unix.SIGUSR2
		},
		"HOTINIT_RELOAD_SIGNAL=HUP": func(c *Config) { c.ReloadSignal = unix.SIGHUP },
	} {
		want(t, line+" tini app", func(c *Config) {
			as("tini", c)
			change(c)
		})
	}
}

func TestVersionTextIsReadByDocker(t *testing.T) {
	const commit = "0123456789abcdef"
	for name, want := range map[string]string{
		"hotinit":      "hotinit version 1.2.3 - git.0123456",
		"tini":         "tini version 0.19.0 (hotinit 1.2.3) - git.0123456",
		"docker-init":  "tini version 0.19.0 (hotinit 1.2.3) - git.0123456",
		"catatonit":    "tini version 0.1.7_catatonit (hotinit 1.2.3) - git.0123456",
		"dumb-init":    "dumb-init v1.2.5 (hotinit 1.2.3)",
		"start_server": "0.35 (hotinit 1.2.3)",
	} {
		got := VersionText("/sbin/"+name, "1.2.3", commit)
		if got != want {
			t.Errorf("%s --version prints %q, want %q", name, got, want)
		}
		// docker takes the text apart at " - ", and the second part at ".".
		_, after, _ := strings.Cut(got, " - ")
		if parts := strings.Split(after, "."); strings.Contains(want, "git.") && (len(parts) != 2 || parts[0] != "git" || len(parts[1]) != 7) {
			t.Errorf("%s --version prints %q: docker can't read the commit", name, got)
		}
	}
	if got := VersionText("hotinit", "devel", "devel"); got != "hotinit version devel - git.devel" {
		t.Errorf("of a build of loose files it is %q", got)
	}
}

// specs4 are specs as Server::Starter binds them.
func specs4(t *testing.T, texts ...string) []sockets.Spec {
	t.Helper()
	list := specs(t, texts...)
	sockets.KeepIPv4(list)
	return list
}
