package settings

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/sockets"
)

// clearEnvironment removes every variable that Parse looks at, for the length
// of a test.
func clearEnvironment(t testing.TB) {
	t.Helper()
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		for _, start := range []string{"HOTINIT_", "TINI_", "DUMB_INIT_", "CATATONIT_", "POSIXLY_CORRECT",
			"ENVDIR", "ENABLE_AUTO_RESTART", "AUTO_RESTART_INTERVAL", "KILL_OLD_DELAY"} {
			if strings.HasPrefix(name, start) {
				t.Setenv(name, "") // for its return after the test
				os.Unsetenv(name)
			}
		}
	}
}

// parse parses a command line, with variables before it: "HOTINIT_X=1 hotinit -g x".
func parse(t testing.TB, line string) (*Config, error) {
	t.Helper()
	clearEnvironment(t)
	words := strings.Fields(line)
	for len(words) > 0 && strings.Contains(words[0], "=") {
		name, value, _ := strings.Cut(words[0], "=")
		t.Setenv(name, value)
		words = words[1:]
	}
	return Parse(words, os.Environ())
}

func mustParse(t testing.TB, line string) *Config {
	t.Helper()
	c, err := parse(t, line)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return c
}

// want checks that a command line changes the defaults like change.
func want(t *testing.T, line string, change func(*Config)) {
	t.Run(line, func(t *testing.T) { // a test of its own, for its variables
		expected := defaults()
		expected.Command = []string{"app"}
		change(expected)
		got := mustParse(t, line)
		expected.killOldDelaySet, got.applied = got.killOldDelaySet, nil
		if !reflect.DeepEqual(got, expected) {
			t.Errorf("got %+v\nwant %+v", got, expected)
		}
	})
}

func specs(t *testing.T, texts ...string) (list []sockets.Spec) {
	t.Helper()
	for _, text := range texts {
		s, err := sockets.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

func TestEachFlagSetsItsField(t *testing.T) {
	for line, change := range map[string]func(*Config){
		"--port 80 --port=u53": func(c *Config) { c.Sockets = specs(t, "80", "u53") },
		"--path /a,b": func(c *Config) {
			c.Sockets = []sockets.Spec{{Network: sockets.UnixStream, Path: "/a,b", FD: -1, Mode: -1}}
		},
		"--listen unix:/a,mode=0600":               func(c *Config) { c.Sockets = specs(t, "unix:/a,mode=0600") },
		"--backlog 128":                            func(c *Config) { c.Backlog = 128 },
		"--keep-fds 5,6 --keep-fds 9":              func(c *Config) { c.KeepFDs = []int{5, 6, 9} },
		"--user www:33":                            func(c *Config) { c.User = "www:33" },
		"--groups adm,44":                          func(c *Config) { c.Groups = []string{"adm", "44"} },
		"--umask 027":                              func(c *Config) { c.Umask = 0o27 },
		"--dir /srv":                               func(c *Config) { c.Dir = "/srv" },
		"--envdir /env":                            func(c *Config) { c.EnvDir = "/env" },
		"--no-new-privs":                           func(c *Config) { c.NoNewPrivs = true },
		"--ready notify":                           func(c *Config) { c.Ready.Mode = ReadyNotify },
		"--ready accept":                           func(c *Config) { c.Ready.Mode = ReadyAccept },
		"--ready interval":                         func(c *Config) { c.Ready.Mode = ReadyInterval },
		"--ready auto":                             func(c *Config) {},
		"--ready fd:5":                             func(c *Config) { c.Ready = Ready{Mode: ReadyFD, FD: 5} },
		"--ready exec:/bin/probe":                  func(c *Config) { c.Ready = Ready{Mode: ReadyExec, Command: "/bin/probe"} },
		"--interval 1.5":                           func(c *Config) { c.Interval = 1500 * time.Millisecond },
		"--interval 0":                             func(c *Config) { c.Interval = 0 },
		"--ready-timeout 500ms":                    func(c *Config) { c.ReadyTimeout = 500 * time.Millisecond },
		"--kill-old-delay 2":                       func(c *Config) { c.KillOldDelay = 2 * time.Second },
		"--drain-timeout 5m":                       func(c *Config) { c.DrainTimeout = 5 * time.Minute },
		"--stop-timeout 30":                        func(c *Config) { c.StopTimeout = 30 * time.Second },
		"--probation 0":                            func(c *Config) { c.Probation = 0 },
		"--stall-timeout 0 --on-stall restart":     func(c *Config) { c.StallTimeout, c.RestartOnStall = 0, true },
		"--max-old 2":                              func(c *Config) { c.MaxOld = 2 },
		"--on-exit restart":                        func(c *Config) { c.OnExit = RestartAlways },
		"--on-exit restart-on-failure":             func(c *Config) { c.OnExit = RestartOnFailure },
		"--cgroup on":                              func(c *Config) { c.Cgroup = CgroupOn },
		"--cgroup off":                             func(c *Config) { c.Cgroup = CgroupOff },
		"--cgroup auto":                            func(c *Config) {},
		"--on-exit exit":                           func(c *Config) {},
		"--enable-auto-restart":                    func(c *Config) { c.AutoRestart, c.KillOldDelay = true, 5*time.Second },
		"--enable-auto-restart --kill-old-delay 0": func(c *Config) { c.AutoRestart = true },
		"--auto-restart-interval 60":               func(c *Config) { c.AutoRestartInterval = time.Minute },
		"--watchdog 3":                             func(c *Config) { c.Watchdog = 3 * time.Second },
		"--signal-on-hup=sigquit":                  func(c *Config) { c.SignalOnHUP = unix.SIGQUIT },
		"--signal-on-term 2":                       func(c *Config) { c.SignalOnTERM = unix.SIGINT },
		"--reload-signal USR2":                     func(c *Config) { c.ReloadSignal = unix.SIGUSR2 },
		"--reload-signal none":                     func(c *Config) { c.ReloadSignal = 0 },
		"-g":                                       func(c *Config) { c.Group = true },
		"-g -c":                                    func(c *Config) {},
		"--group=false":                            func(c *Config) {},
		"-r TERM:QUIT --rewrite 34:0": func(c *Config) {
			c.Rewrite = map[unix.Signal]unix.Signal{unix.SIGTERM: unix.SIGQUIT, 34: 0}
		},
		"--setsid -r TTIN:0": func(c *Config) {
			c.Session = true
			c.Rewrite = map[unix.Signal]unix.Signal{unix.SIGTSTP: unix.SIGSTOP, unix.SIGTTIN: 0, unix.SIGTTOU: unix.SIGSTOP}
		},
		"--watch /a --watch /b:HUP --watch /c:8": func(c *Config) {
			c.WatchPaths = []WatchPath{{Path: "/a"}, {Path: "/b", Signal: unix.SIGHUP}, {Path: "/c:8"}}
		},
		"--watch /odd:HUP:reload": func(c *Config) { c.WatchPaths = []WatchPath{{Path: "/odd:HUP"}} },
		"--no-watch":              func(c *Config) { c.Watch = false },
		"--ignore *.pyc":          func(c *Config) { c.Ignore = []string{"*.pyc"} },
		"--poll off":              func(c *Config) { c.Poll = PollOff },
		"--poll auto":             func(c *Config) {},
		"--poll 5":                func(c *Config) { c.Poll, c.PollInterval = PollAlways, 5*time.Second },
		"--settle 0":              func(c *Config) { c.Settle = 0 },
		"--check {}":              func(c *Config) { c.Check = "{}" },
		"--check-timeout 5":       func(c *Config) { c.CheckTimeout = 5 * time.Second },
		"--snapshot":              func(c *Config) { c.Snapshot = true },
		"--state-dir=/state":      func(c *Config) { c.StateDir = "/state" },
		"--trusted-key=/a --trusted-key /b --no-downgrade": func(c *Config) {
			c.TrustedKeys, c.NoDowngrade, c.Snapshot = []string{"/a", "/b"}, true, true
		},
		"--snapshot --snapshot-dir=/": func(c *Config) { c.Snapshot, c.SnapshotDir = true, "/" },
		"--pid-file /p":               func(c *Config) { c.PidFile = "/p" },
		"--status-file /s":            func(c *Config) { c.StatusFile = "/s" },
		"--daemonize --log-file=|cat": func(c *Config) { c.LogFile, c.Daemonize = "|cat", true },
		"--restart --pid-file p --status-file s": func(c *Config) {
			c.Action, c.PidFile, c.StatusFile = Restart, "p", "s"
		},
		"--stop --pid-file p": func(c *Config) { c.Action, c.PidFile = Stop, "p" },
		"-s":                  func(c *Config) {},
		"--subreaper=no":      func(c *Config) {},
		"-p SIGKILL":          func(c *Config) { c.ParentDeath = unix.SIGKILL },
		"-pRTMIN+3":           func(c *Config) { c.ParentDeath = 37 },
		"-e 143 -e0":          func(c *Config) { c.ExitZero = Codes{1, 0, 1 << (143 - 128)} },
		"-w":                  func(c *Config) { c.WarnOnReap = true },
		"-vvv":                func(c *Config) { c.Verbosity = 4 },
		"--verbose=0 -v":      func(c *Config) { c.Verbosity = 1 },
		"-sgvw": func(c *Config) {
			c.Group, c.WarnOnReap, c.Verbosity = true, true, 2
		},
		"-h": func(c *Config) { c.Action = Help }, "--help": func(c *Config) { c.Action = Help },
		"-V": func(c *Config) { c.Action = Version }, "--version": func(c *Config) { c.Action = Version },
		"-l": func(c *Config) { c.Action = License }, "-h -V": func(c *Config) { c.Action = Help },
	} {
		want(t, "hotinit "+line+" app", change)
	}
}

func TestOneDashDoesForALongFlag(t *testing.T) {
	want(t, "hotinit -port 80 -interval=2 app", func(c *Config) {
		c.Sockets, c.Interval = specs(t, "80"), 2*time.Second
	})
}

func TestFlagsEndAtTheCommand(t *testing.T) {
	for line, command := range map[string]string{
		"hotinit app -g --port 80":   "app -g --port 80",
		"hotinit -- -g":              "-g",
		"hotinit -w -- app -- -x":    "app -- -x",
		"hotinit app -- x":           "app -- x",
		"hotinit - x":                "- x",
		"hotinit --user app app":     "app",
		"hotinit -- status":          "status",
		"hotinit --no-watch --dir=/": "",
	} {
		c, err := parse(t, line)
		if command == "" {
			if err == nil {
				t.Errorf("%s: got the command %q", line, c.Command)
			}
			continue
		}
		if err != nil || strings.Join(c.Command, " ") != command {
			t.Errorf("%s: got the command %q, %v, want %s", line, c.Command, err, command)
		}
	}
}

func TestDefaults(t *testing.T) {
	want(t, "hotinit app", func(*Config) {})
	c := defaults()
	if c.StopTimeout >= 10*time.Second {
		t.Error("docker stop kills after 10 s: hotinit must be done before")
	}
	if !c.Watch || c.ReloadSignal != unix.SIGHUP || c.OnExit != Exit {
		t.Errorf("hot swap is not on: %+v", c)
	}
}

func TestTheSameInputGivesTheSameConfig(t *testing.T) {
	line := "HOTINIT_PORTS=80,0,0 HOTINIT_REWRITE=1:2,3:4 hotinit -e 3 --watch /a app"
	if a, b := mustParse(t, line), mustParse(t, line); !reflect.DeepEqual(a, b) {
		t.Errorf("got %+v, then %+v", a, b)
	}
}

func TestSubcommandIsOnlyTheFirstWord(t *testing.T) {
	for line, want := range map[string]string{
		"hotinit status --json":        "status --json",
		"/usr/bin/hotinit reload":      "reload",
		"hotinit rollback --wait":      "rollback --wait",
		"hotinit stop":                 "stop",
		"hotinit health":               "health",
		"hotinit version":              "version",
		"hotinit help status":          "help status",
		"hotinit -- status":            "",
		"hotinit --no-watch -- status": "",
		"hotinit -g status":            "",
		"hotinit statuses":             "",
		"hotinit":                      "",
		"tini status":                  "",
		"start_server stop":            "",
	} {
		name, args, ok := Subcommand(strings.Fields(line))
		got := strings.Join(append([]string{name}, args...), " ")
		if got != want || ok != (want != "") {
			t.Errorf("%s: got subcommand %q, %v, want %q", line, got, ok, want)
		}
	}
}

func TestCodesHoldsEachCode(t *testing.T) {
	var c Codes
	for code := range 256 {
		if c.Has(code) {
			t.Errorf("%d is there before it was added", code)
		}
		c.add(code)
		if !c.Has(code) {
			t.Errorf("%d is not there", code)
		}
	}
	if c.Has(-1) || c.Has(256) {
		t.Error("there are codes beyond 0 to 255")
	}
}

func BenchmarkParse(b *testing.B) {
	clearEnvironment(b)
	b.Setenv("HOTINIT_PORTS", "8080,9000")
	b.Setenv("HOTINIT_STOP_TIMEOUT", "30")
	argv, environ := []string{"hotinit", "-g", "--interval=2", "--", "/app/server"}, os.Environ()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(argv, environ); err != nil {
			b.Fatal(err)
		}
	}
}
