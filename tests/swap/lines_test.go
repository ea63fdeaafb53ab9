package swap

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
	"github.com/hotinit/hotinit/internal/version"
)

// says are the lines of the output that are hotinit's own.
func says(s *site.Site) (lines []string) {
	for line := range strings.Lines(s.Output.Text()) {
		if strings.HasPrefix(line, "hotinit: ") {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestEachDecisionIsOneLineWithTheReleaseAndTheCause(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--interval", "100ms"}})
	const release = `[0-9a-f]{12}`
	s.Line(`^hotinit: version ` + version.Number + ` runs ` + s.Path + ` \(release ` + release + `\); listens on ` + s.Address + `; watches ` + s.Path + `$`)
	s.Becomes(1, "current")
	first := s.Generation(1).Release[:12]

	s.Signal(unix.SIGHUP)
	s.Line(`^hotinit: generation 2 is started \(SIGHUP\), with PID \d+, release ` + first + `$`)
	s.Line(`^hotinit: generation 2 is ready \(release ` + first + `\); generation 1 is told to go \(SIGTERM\)$`)
	s.Line(`^hotinit: generation 1 ended \(release ` + first + `\): exited with status 0$`)

	bad := func() { s.Swap("bad", "-exit", "3") }
	bad()
	s.Line(`^hotinit: generation 3 is started \(changed\), with PID \d+, release ` + release + `$`)
	s.Line(`^hotinit: generation 3 failed \(release ` + release + `\): exited with status 3; generation 2 stays \(release ` + first + `\)$`)
	bad() // once more, in another file
	s.Line(`^hotinit: release ` + release + ` is not started: it was rejected before: exited with status 3 \(hotinit reload tries it again\); nothing changes$`)

	if _, out := s.Ask("reload", "--wait"); !strings.Contains(out, "was rejected: exited with status 3") {
		t.Errorf("reload of a bad release says %q", out)
	}
	s.Line(`^hotinit: generation 4 is started \(reload\), `)
	s.Line(`^hotinit: generation 4 failed `)
	bad()
	s.Line(`^hotinit: release ` + release + ` is not started: it was rejected before`)
	s.Swap("v2")
	s.Line(`^hotinit: generation 5 is ready`)
	s.Line(`^hotinit: generation 2 ended`)
	if _, out := s.Ask("rollback", "--wait"); !strings.Contains(out, "(release "+first+", before it ") {
		t.Errorf("rollback --wait says %q", out)
	}
	s.Line(`^hotinit: generation 6 is started \(rollback\), with PID \d+, release ` + first + `$`)
	s.Line(`^hotinit: generation 5 ended`)

	s.Signal(unix.SIGTERM)
	s.Line(`^hotinit: stops: SIGTERM; SIGTERM is sent to generation 6 \(release ` + first + `\)$`)
	s.Line(`^hotinit: generation 6 ended \(release ` + first + `\): exited with status 0$`)
	s.Line(`^hotinit: ends with status 0: it was told to stop \(SIGTERM\)$`)
	s.Ends(0)
}

func TestHotinitSaysWhyItEnds(t *testing.T) {
	for name, c := range map[string]struct {
		o    site.Options
		do   func(s *site.Site)
		want string
		ends int
	}{
		"the app ends": {site.Options{}, func(s *site.Site) { s.Die(7) },
			`ends with status 7: generation 1( \(release [0-9a-f]+\))? exited with status 7 \(--on-exit\)$`, 7},
		"the first generation fails": {site.Options{App: []string{"-exit", "7"}}, nil,
			`ends with status 7: generation 1 ended before it was ready( \(release [0-9a-f]+\))?: exited with status 7$`, 7},
		"somebody stops it": {site.Options{}, func(s *site.Site) { s.Ask("stop") },
			`ends with status 0: it was told to stop \(hotinit stop\)$`, 0},
		"errors are all that is said": {site.Options{Env: []string{"HOTINIT_VERBOSITY=0"}}, func(s *site.Site) { s.Die(7) },
			`ends with status 7: generation 1 `, 7},
	} {
		t.Run(name, func(t *testing.T) {
			c.o.Flags = append(c.o.Flags, "--interval", "100ms")
			s := site.Open(t, c.o)
			if c.do != nil {
				s.Becomes(1, "current")
				c.do(s)
			}
			s.Line(`^hotinit: ` + c.want)
			s.Ends(c.ends)
		})
	}
}

func TestAtVerbosity0OnlyErrorsAreSaid(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--verbosity", "0", "--interval", "100ms", "--watch", "conf:USR1"}})
	s.Becomes(1, "current")
	s.Swap("v2")
	s.Answers("v2 generation 2 ")
	s.Becomes(2, "current")
	s.Signal(unix.SIGHUP)
	s.Answers("v2 generation 3 ")
	s.Becomes(3, "current")
	if lines := says(s); len(lines) > 0 {
		t.Errorf("these are no errors:\n%s", strings.Join(lines, ""))
	}
	s.Swap("bad", "-exit", "3")
	s.Line(`^hotinit: generation 4 failed `)
	s.Becomes(3, "current")
	s.Stop(0)
	if lines := says(s); len(lines) != 1 {
		t.Errorf("one of these is an error:\n%s", strings.Join(lines, ""))
	}
}

// Each level prints what the one below does, and more.
func TestTheLevelsDiffer(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"-vv", "--interval", "100ms"}})
	s.Becomes(1, "current")
	s.Line(`^hotinit: version `)
	s.Stop(0)
	s.Line(`^hotinit: generation 1 gets SIGTERM$`)
}

// In the place of tini and its like hotinit is as silent as these, and as an init
// that has nothing to watch as well.
func TestAPlainInitIsSilent(t *testing.T) {
	for _, name := range []string{"tini", "dumb-init", "catatonit", "hotinit"} {
		t.Run(name, func(t *testing.T) {
			o := site.Options{Name: name, NoPort: true, Script: "exit 3"}
			if name == "hotinit" {
				o.Script, o.Command = "", []string{"sh", "-c", "exit 3"}
			}
			s := site.Open(t, o)
			s.Ends(3)
			if got := s.Output.Text(); strings.TrimSpace(got) != "" {
				t.Errorf("%s says\n%s", name, got)
			}
		})
	}
}

func TestArgumentsAreNotPrinted(t *testing.T) {
	s := site.Open(t, site.Options{NoPort: true, Flags: []string{"-v"}, Command: []string{"sh", "-c", "exit 0", "password"}})
	s.Line(`^hotinit: version .* runs sh; listens on nothing( yet)?; watches nothing$`)
	s.Never("password")
}

// What is below a watched directory is known to be rejected only once it was read.
func TestADirectoryThatWasRejectedIsNotStartedOnceMore(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--interval", "100ms", "--watch", "lib"}, Prepare: func(s *site.Site) { s.Write("lib/a", "v1") }})
	s.Becomes(1, "current")
	s.Line(`; watches \S+/server, \S+/lib$`)
	box.Swap(t, s.Path, "v2", "-exit", "3")
	s.Line(`^hotinit: generation 2 failed `)
	s.Write("lib/a", "v2")
	s.Line(`^hotinit: generation 3 failed `)
	s.Write("lib/a", "v1")
	s.Line(`^hotinit: release [0-9a-f]+ is not started: it was rejected before: exited with status 3 .*; nothing changes$`)
	s.Stop(0)
}

// LISTEN_PID is the shell's then, and signals do not reach the server.
func TestAShellWithoutExecIsHintedAt(t *testing.T) {
	script := func(text string, flags ...string) *site.Site {
		return site.Open(t, site.Options{Beside: true, Flags: append(flags, "--interval", "100ms"), Command: []string{"sh", "run.sh"}, Prepare: func(s *site.Site) {
			box.Install(t, s.Path, "v1")
			s.Write("run.sh", text)
		}})
	}
	t.Run("it serves", func(t *testing.T) {
		s := script("unset LISTEN_PID\n./server\necho over\n")
		s.Line(`^hotinit: hint: generation 1 is a shell \((sh|dash|bash), PID \d+\), and the server is a process below it: LISTEN_PID names the shell, .* begin the line that starts the server with exec$`)
		s.Signal(unix.SIGHUP)
		s.Becomes(2, "current")
		if n := strings.Count(s.Output.Text(), "hint:"); n != 1 {
			t.Errorf("the hint is given %d times", n)
		}
		s.Signal(unix.SIGTERM)
	})
	t.Run("a release of it fails", func(t *testing.T) {
		s := script("exec ./server\n")
		s.Becomes(1, "current")
		s.Write("new", "./server -exit 3\nexit 3\n")
		if err := os.Rename(s.File("new"), s.File("run.sh")); err != nil {
			t.Fatal(err)
		}
		s.Line(`^hotinit: hint: run.sh is a shell script without exec: LISTEN_PID names the shell`)
		s.Signal(unix.SIGTERM)
	})
	for name, first := range map[string]string{"it binds its port itself": "", "it binds it once it is ready": "mkfifo gate; echo made; read line <gate\n"} {
		t.Run(name, func(t *testing.T) {
			site.Need(t, "python3")
			host, port, _ := strings.Cut(box.Address(), ":")
			s := site.Open(t, site.Options{Beside: true, NoPort: true, Flags: []string{"--adopt", "on", "--interval", "100ms"},
				Script: first + "python3 -m http.server --bind " + host + " " + port + "\necho over\n"})
			if first != "" {
				s.Line("^made$")
				s.Becomes(1, "current")
				s.Write("gate", "go\n")
			}
			s.Line(`^hotinit: hint: generation 1 is a shell \((sh|dash|bash), PID \d+\), and the server is a process below it: the shell does not pass signals on; begin the line that starts the server with exec$`)
			s.Signal(unix.SIGTERM)
		})
	}
	t.Run("with exec", func(t *testing.T) {
		s := script("exec ./server\n")
		s.Becomes(1, "current")
		s.Stop(0)
		s.Never("hint:")
	})
}
