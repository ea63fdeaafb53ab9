package inits

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/proc"
	"github.com/hotinit/hotinit/internal/testkit/box"
)

// named is hotinit under another tool's name, by a link, with its command line.
func named(t *testing.T, name string, env []string, words ...string) *box.Box {
	t.Helper()
	link := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(box.Hotinit, link); err != nil {
		t.Fatal(err)
	}
	return run(t, box.Options{Binary: link, Name: link, Args: words, Env: box.Environment(env...)})
}

// original is the tool itself.
func original(t *testing.T, name string, env []string, words ...string) *box.Box {
	t.Helper()
	path, err := exec.LookPath(name)
	box.Need(t, name, err)
	return run(t, box.Options{Binary: path, Name: name, Args: words, Env: box.Environment(env...)})
}

// alike runs a test with a tool, and with hotinit under its name.
func alike(t *testing.T, name string, test func(t *testing.T, start func(env []string, words ...string) *box.Box)) {
	t.Run(name, func(t *testing.T) {
		test(t, func(env []string, words ...string) *box.Box { return original(t, name, env, words...) })
	})
	t.Run("hotinit as "+name, func(t *testing.T) {
		test(t, func(env []string, words ...string) *box.Box { return named(t, name, env, words...) })
	})
}

func TestExitCodesAreExact(t *testing.T) {
	for status := range 256 {
		b := start(t, "--", box.App, "-exit", strconv.Itoa(status))
		if got := b.Wait(); got != status {
			t.Errorf("status %d, want %d", got, status)
		}
	}
}

func TestStatusOfEachSignalThatEndsTheApp(t *testing.T) {
	sh := command(t, "sh")
	for _, n := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 24, 25, 26, 27, 29, 30, 31, 34, 64} {
		b := start(t, "--", sh, "-c", "ulimit -c 0; kill -"+strconv.Itoa(n)+" $$")
		if got := b.Wait(); got != 128+n {
			t.Errorf("status %d, want %d", got, 128+n)
		}
	}
}

func TestMissingAndUnusableCommands(t *testing.T) {
	for _, test := range []struct {
		command string
		status  int
	}{{"/no/such/command", 127}, {"no-such-command-in-PATH", 127}, {"/etc/passwd", 126}, {"/", 126}} {
		t.Run(test.command, func(t *testing.T) {
			compare(t, "tini", func(t *testing.T, start func(*testing.T, ...string) *box.Box) {
				ended(t, start(t, "--", test.command), test.status)
			})
		})
	}
}

func TestExitZeroMapsACode(t *testing.T) {
	compare(t, "tini", func(t *testing.T, start func(*testing.T, ...string) *box.Box) {
		ended(t, start(t, "-e", "143", "-e", "7", "--", box.App, "-exit", "143"), 0)
		ended(t, start(t, "-e", "143", "-e", "7", "--", box.App, "-exit", "7"), 0)
		ended(t, start(t, "-e", "143", "-e", "7", "--", box.App, "-exit", "8"), 8)
	})
}

func TestSignalsGoToTheMainProcessOrToTheGroup(t *testing.T) {
	for _, test := range []struct {
		name, flags string
		env         []string
		group       bool
	}{
		{"hotinit", "", nil, false},
		{"hotinit", "-g", nil, true},
		{"hotinit", "--group --single-child", nil, false},
		{"hotinit", "", []string{"TINI_KILL_PROCESS_GROUP=1"}, true},
		{"tini", "", nil, false},
		{"tini", "-g", nil, true},
		{"tini", "", []string{"TINI_KILL_PROCESS_GROUP="}, true},
		{"dumb-init", "", nil, true},
		{"dumb-init", "-c", nil, false},
		{"dumb-init", "--single-child", nil, false},
		{"dumb-init", "", []string{"DUMB_INIT_SETSID=0"}, false},
		{"catatonit", "", nil, false},
		{"catatonit", "-g", nil, true},
	} {
		check := func(t *testing.T, b *box.Box) {
			b.Until("both are ready", func() bool { return b.Output.Count(regexp.MustCompile("^(main|child) ready$")) == 2 })
			b.Signal(unix.SIGUSR1)
			b.Signal(unix.SIGUSR2)
			b.Line("^main got 12$")
			if test.group {
				// Else it may be ended before it can say so.
				b.Until("the child got one", func() bool { return b.Output.Count(regexp.MustCompile("^child got 1[02]$")) > 0 })
			}
			b.Signal(unix.SIGTERM)
			b.Wait()
			if count := b.Output.Count(regexp.MustCompile(`^child got 1[02]$`)); (count > 0) != test.group {
				t.Errorf("the child got %d signals:\n%s", count, b.Output)
			}
		}
		words := append(strings.Fields(test.flags), "--", probe(t), "children")
		t.Run(strings.Join(append(test.env, test.name, test.flags), " "), func(t *testing.T) {
			if test.name == "hotinit" {
				check(t, run(t, box.Options{Args: words, Env: box.Environment(test.env...)}))
				return
			}
			alike(t, test.name, func(t *testing.T, start func([]string, ...string) *box.Box) { check(t, start(test.env, words...)) })
		})
	}
}

func TestRewriteReplacesAndDropsSignals(t *testing.T) {
	check := func(t *testing.T, b *box.Box) {
		b.Line("^ready$")
		b.Signal(unix.SIGUSR1) // dropped
		b.Signal(unix.SIGTERM)
		got(b, 3)
		ended(t, b, 0)
		if b.Output.Count(regexp.MustCompile(`^got`)) != 1 {
			t.Errorf("more than one arrived:\n%s", b.Output)
		}
	}
	words := []string{"--rewrite", "15:3", "-r", "10:0", "--", probe(t), "signals", "3"}
	t.Run("flags", func(t *testing.T) { check(t, start(t, words...)) })
	t.Run("names", func(t *testing.T) {
		check(t, start(t, "--rewrite", "TERM:SIGQUIT", "--rewrite", "usr1:0", "--", probe(t), "signals", "3"))
	})
	t.Run("variable", func(t *testing.T) {
		check(t, run(t, box.Options{Args: words[4:], Env: box.Environment("HOTINIT_REWRITE=TERM:QUIT,USR1:0")}))
	})
	alike(t, "dumb-init", func(t *testing.T, start func([]string, ...string) *box.Box) { check(t, start(nil, words...)) })
}

func TestWarnOnReapNamesEachOrphan(t *testing.T) {
	script := "(sleep 0 & echo orphan $!); exec " + probe(t) + " signals 15"
	alike(t, "tini", func(t *testing.T, start func([]string, ...string) *box.Box) {
		b := start(nil, "-w", "--", command(t, "sh"), "-c", script)
		pid := b.Line(`^orphan (\d+)$`)[1]
		b.Line(`(?i)reaped.*(pid|process)[ =]*` + pid + `\b`)
		b.Until("the app runs", func() bool { return b.Output.Count(regexp.MustCompile("^ready$")) == 1 })
		b.Signal(unix.SIGTERM)
		b.Wait()
	})
	t.Run("hotinit without it", func(t *testing.T) {
		b := start(t, "--", command(t, "sh"), "-c", script)
		b.Line("^ready$")
		stop(t, b, 0)
		if strings.Contains(b.Output.Text(), "reaped") {
			t.Error(b.Output)
		}
	})
}

func TestVersion(t *testing.T) {
	for name, pattern := range map[string]string{
		"tini":        `^tini version 0\.19\.0.* - git\.[0-9a-f]+|^tini version 0\.19\.0`,
		"docker-init": `^tini version \S+ .*- git\.\w+$`, // what docker info reads
		"dumb-init":   `^dumb-init v1\.2\.\d`,
		"catatonit":   `^tini version \S+_catatonit`,
		"hotinit":     `^hotinit version \S+ - git\.\w+$`,
	} {
		t.Run(name, func(t *testing.T) {
			b := named(t, name, nil, "--version")
			ended(t, b, 0)
			b.Line(pattern)
		})
	}
}

func TestLicence(t *testing.T) {
	alike(t, "tini", func(t *testing.T, start func([]string, ...string) *box.Box) {
		b := start(nil, "-l")
		ended(t, b, 0)
		b.Line("(?i)licen[cs]e|permission")
	})
}

// Each level says what the one below does, and something more.
func TestVerbosityIsTinis(t *testing.T) {
	script := "(sleep 0 & echo orphan $! begins); exec " + probe(t) + " signals 15"
	says := []struct {
		pattern string
		from    int // the first level that says it
	}{
		{`(?i)reaped .*process`, 1},
		{`(?i)(spawned|is started).* (with )?pid`, 2},
		{`(?i)exited .*status '?0`, 2},
		{`(?i)(passing|gets).*(User defined signal 1|SIGUSR1)`, 3},
	}
	check := func(t *testing.T, level int, b *box.Box) {
		// Not at the beginning of a line: tini writes its own in pieces.
		orphan, _ := strconv.Atoi(b.Line("orphan ([0-9]+) begins")[1])
		b.Line("ready$")
		b.Signal(unix.SIGUSR1)
		b.Line("got 10( |$)")
		b.Until("the orphan is gone", func() bool { _, there := b.Find(orphan); return !there })
		if reaped := says[0]; level >= reaped.from { // who ends first may not come to say it
			b.Until("it says so", func() bool { return b.Output.Count(regexp.MustCompile(reaped.pattern)) > 0 })
		}
		stop(t, b, 0)
		for _, s := range says {
			if said := b.Output.Count(regexp.MustCompile(s.pattern)) > 0; said != (level >= s.from) {
				t.Errorf("level %d: it says %s: %v; output:\n%s", level, s.pattern, said, b.Output)
			}
		}
	}
	for level := range 4 {
		words := []string{"-w", "--", command(t, "sh"), "-c", script}
		t.Run(fmt.Sprint("TINI_VERBOSITY=", level), func(t *testing.T) {
			alike(t, "tini", func(t *testing.T, start func([]string, ...string) *box.Box) {
				check(t, level, start([]string{"TINI_VERBOSITY=" + itoa(level)}, words...))
			})
			t.Run("hotinit", func(t *testing.T) {
				check(t, level, run(t, box.Options{Args: words, Env: box.Environment("TINI_VERBOSITY=" + itoa(level))}))
			})
		})
		if level > 0 { // each -v is one more than the default
			t.Run("-v flags to level "+itoa(level), func(t *testing.T) {
				more := make([]string, level-1)
				for i := range more {
					more[i] = "-v"
				}
				alike(t, "tini", func(t *testing.T, start func([]string, ...string) *box.Box) {
					check(t, level, start(nil, append(more, words...)...))
				})
			})
		}
	}
}

func zombies(b *box.Box) bool { return slices.ContainsFunc(b.Processes(), box.Process.Zombie) }

func TestDumbInitsDebugSaysEachSignal(t *testing.T) {
	for _, how := range []string{"DUMB_INIT_DEBUG=1", "-v", ""} {
		t.Run(how, func(t *testing.T) {
			alike(t, "dumb-init", func(t *testing.T, start func([]string, ...string) *box.Box) {
				var env, flags []string
				if how == "-v" {
					flags = []string{how}
				} else if how != "" {
					env = []string{how}
				}
				b := start(env, append(flags, probe(t), "signals", "15")...)
				b.Line("^ready$")
				b.Signal(unix.SIGUSR1)
				got(b, 10)
				stop(t, b, 0)
				if said := b.Output.Count(regexp.MustCompile(`signal 10|SIGUSR1`)) > 0; said != (how != "") {
					t.Errorf("it says so: %v; output:\n%s", said, b.Output)
				}
			})
		})
	}
}

// Where they are not PID 1, tini adopts orphans with -s alone, and hotinit
// always: it could not tell a handoff that was killed how its app ended.
func TestSubreaperAdoptsOrphans(t *testing.T) {
	for _, test := range []struct {
		flags, env string
		tini       bool
	}{{"-s", "", true}, {"", "TINI_SUBREAPER=", true}, {"", "", false}} {
		for _, init := range []string{"tini", "hotinit as tini", "hotinit"} {
			t.Run(init+" "+test.flags+test.env, func(t *testing.T) {
				o := box.Options{Sub: true, Name: "tini", Env: box.Environment(strings.Fields(test.env)...)}
				switch init {
				case "tini":
					o.Binary = command(t, "tini")
				case "hotinit":
					o.Name = "hotinit"
				}
				o.Args = append(strings.Fields(test.flags), "--", command(t, "sh"), "-c",
					"(sleep 1000 & echo orphan $!); exec "+probe(t)+" signals 15")
				b := run(t, o)
				orphan := atoi(b.Line(`^orphan (\d+)$`)[1])
				b.Line("^ready$")
				st, err := proc.Read(orphan)
				if err != nil {
					t.Fatal(err)
				}
				if adopted, want := st.Parent == b.PID(), test.tini || init != "tini"; adopted != want {
					t.Errorf("the orphan's parent is %d, init %d", st.Parent, b.PID())
				}
				b.SignalTo(orphan, unix.SIGKILL)
				if st.Parent == b.PID() {
					b.Until("the orphan is reaped", func() bool { _, err := proc.Read(orphan); return err != nil })
				}
				stop(t, b, 0)
			})
		}
	}
}

// The command of Alpine's images has its own flags after its name.
func TestFlagsOfTheCommandAreTheCommands(t *testing.T) {
	for _, name := range []string{"tini", "dumb-init"} {
		alike(t, name, func(t *testing.T, start func([]string, ...string) *box.Box) {
			b := start(nil, "--", command(t, "echo"), "-x", "--", "-g")
			ended(t, b, 0)
			b.Line("^-x -- -g$")
		})
	}
}

func TestParentDeathSignal(t *testing.T) {
	for _, init := range []string{"hotinit", "tini"} {
		t.Run(init, func(t *testing.T) {
			path := box.Hotinit
			if init == "tini" {
				path = command(t, "tini")
			}
			// The shell is its parent, and ends once the app runs.
			script := `"$0" -s -p USR1 -- "$1" signals 10 & while ! read -r x; do :; done`
			in, out, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			if init == "tini" {
				script = strings.Replace(script, "USR1", "SIGUSR1", 1)
			}
			b := run(t, box.Options{Binary: command(t, "bash"), Name: "bash", Sub: true, Stdin: in,
				Args: []string{"-c", script, path, probe(t)}})
			b.Line("^ready$")
			out.WriteString("go\n")
			out.Close()
			got(b, 10)
		})
	}
}

func TestAPlainInitsNameSwapsNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app")
	box.Install(t, path, "v1", "-echo")
	b := named(t, "tini", nil, path)
	b.Line("^listening to signals$")
	box.Swap(t, path, "v2", "-echo")
	b.Signal(unix.SIGHUP) // relayed
	b.Line("^got SIGHUP$")
	stop(t, b, 0)
	if b.Output.Count(regexp.MustCompile("listening")) != 1 {
		t.Error(b.Output)
	}
}

func TestTheEnvironmentUnderAPlainInitsNameIsUnchanged(t *testing.T) {
	env := command(t, "env")
	for _, name := range []string{"tini", "dumb-init", "catatonit"} {
		b := named(t, name, []string{"MINE=1", "NOTIFY_SOCKET=/run/x"}, "--", env)
		ended(t, b, 0)
		want := strings.Join(box.Environment("MINE=1", "NOTIFY_SOCKET=/run/x"), "\n")
		if got := b.Output.Text(); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
	}
}

// catatonit -P holds the namespaces of a pod: nothing runs but the init.
func TestPauseRunsNothingAndReapsUntilItIsToldToEnd(t *testing.T) {
	alike(t, "catatonit", func(t *testing.T, start func([]string, ...string) *box.Box) {
		for _, n := range []unix.Signal{unix.SIGTERM, unix.SIGINT} {
			b := start(nil, "-P")
			b.Until("it waits", func() bool {
				p, ok := b.Find(1)
				return ok && p.State == "S" && !strings.Contains(strings.Join(p.Args, " "), "pidone")
			})
			b.Signal(unix.SIGHUP)
			b.Until("it runs on", func() bool { p, ok := b.Find(1); return ok && p.State == "S" })
			b.Signal(n)
			ended(t, b, 0)
		}
	})
}
