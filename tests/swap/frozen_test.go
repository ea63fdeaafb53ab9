package swap

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// The file system of a path stops to answer while hotinit runs: swaps, status and
// the end go on without.
func TestAFileSystemThatDoesNotAnswerKeepsNothingUp(t *testing.T) {
	for flag, why := range map[string]string{
		"--status-file": "cannot write --status-file .*: the file system does not answer; hotinit goes on without",
		"--log-file":    "generation 2 is started",
		"--pid-file":    "generation 2 is started",
	} {
		t.Run(flag, func(t *testing.T) {
			s := site.Serving(t, site.Options{
				Flags:   []string{flag, "frozen/file"},
				Prepare: func(s *site.Site) { s.Write("frozen/other", "") },
			})
			s.Freeze(t, s.File("frozen"))
			handoff := s.Handoff().PID
			s.Signal(unix.SIGHUP)
			s.Answers("v1 generation 2 ")
			if flag != "--log-file" {
				s.Line(why)
			}
			s.Becomes(2, "current")
			if now := s.Handoff().PID; now != handoff {
				t.Errorf("the handoff was killed:\n%s", s.Output)
			}
			began := time.Now()
			s.Stop(0)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("the end took %v", took)
			}
		})
	}
}

// A file system stops to answer from which a start reads: the start is rejected, the
// generation that serves stays, and stopping is as always.
func TestAStartFromAFileSystemThatDoesNotAnswerIsRejected(t *testing.T) {
	for name, o := range map[string]site.Options{
		"the environment":           {Flags: []string{"--envdir", "frozen"}},
		"the command":               {Command: []string{"frozen/server"}},
		"the command, by no watch":  {Command: []string{"frozen/server"}, Flags: []string{"--no-watch"}},
		"the directory of the app":  {Flags: []string{"--dir", "frozen"}},
		"the directory of releases": {Command: []string{"frozen/server"}, Flags: []string{"--snapshot", "--watch", "frozen"}},
	} {
		t.Run(name, func(t *testing.T) {
			o.Prepare = func(s *site.Site) {
				s.Write("frozen/NAME", "value")
				if o.Command != nil {
					box.Install(t, s.File("frozen/server"), "v1")
				}
			}
			s := site.Serving(t, o)
			s.Becomes(1, "current")
			s.Freeze(t, s.File("frozen"))
			handoff := s.Handoff().PID
			if status, text := s.Ask("reload", "--wait"); status == 0 || !strings.Contains(text, "does not answer") {
				t.Errorf("reload: status %d, %s", status, text)
			}
			s.Answers("v1 generation 1 ")
			if g := s.Generation(1); g == nil || g.Phase != "current" {
				t.Errorf("generation 1 is %+v", g)
			}
			// It is stopped in the middle of another one.
			s.Signal(unix.SIGHUP)
			if now := s.Handoff().PID; now != handoff {
				t.Errorf("the handoff was killed:\n%s", s.Output)
			}
			stopsInTime(t, s)
		})
	}
}

// The command of --log-file has ended, and the file system that it is started from does
// not answer: it is tried again beside all else.
func TestALogCommandOnAFileSystemThatDoesNotAnswerKeepsNothingUp(t *testing.T) {
	const script = "#!/bin/sh\nexec cat >>\"$1\"\n"
	for name, lose := range map[string]func(s *site.Site){
		"logger":        func(*site.Site) {}, // it is looked for in PATH
		"frozen/logger": func(*site.Site) {},
		// The next handoff cannot find it, either.
		"./frozen/logger": func(s *site.Site) { s.KillHandoff() },
	} {
		t.Run(name, func(t *testing.T) {
			s := site.Serving(t, site.Options{Flags: []string{"--log-file", "|" + name + " log"},
				Before: `export PATH="$PWD/frozen:$PATH"`,
				Prepare: func(s *site.Site) {
					s.Write("frozen/logger", script)
					os.Chmod(s.File("frozen/logger"), 0o755)
				}})
			s.Becomes(1, "current")
			s.Freeze(t, s.File("frozen"))
			handoff := s.Handoff().PID
			lose(s)
			for _, p := range s.Processes() {
				if len(p.Args) == 1 && p.Args[0] == "cat" {
					s.SignalTo(p.PID, unix.SIGKILL)
				}
			}
			s.Signal(unix.SIGHUP)
			s.Answers("v1 generation 2 ")
			s.Line("the command of --log-file cannot be started: .*does not answer.*; it is tried again")
			s.Becomes(2, "current")
			if now := s.Handoff().PID; now != handoff && name != "./frozen/logger" {
				t.Errorf("the handoff was killed:\n%s", s.Output)
			}
			began := time.Now()
			s.Stop(0)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("the end took %v:\n%s", took, s.Output)
			}
		})
	}
}

func stopsInTime(t *testing.T, s *site.Site) {
	t.Helper()
	began := time.Now()
	s.Stop(0)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the end took %v:\n%s", took, s.Output)
	}
}

// What is watched does not answer when hotinit starts, or when a handoff takes over.
func TestAWatchOfAFileSystemThatDoesNotAnswerKeepsNothingUp(t *testing.T) {
	t.Run("at the start", func(t *testing.T) {
		s := site.Open(t, site.Options{Flags: []string{"--watch", "frozen"}, Before: "read go <go", Prepare: func(s *site.Site) {
			s.Write("frozen/other", "")
			if err := unix.Mkfifo(s.File("go"), 0o600); err != nil {
				t.Fatal(err)
			}
		}})
		s.Freeze(t, s.File("frozen"))
		s.Write("go", "\n")
		s.Answers("v1 generation 1 ")
		s.Line("does not answer under what is watched: the release is the command's file alone$")
		s.Becomes(1, "current")
		stopsInTime(t, s)
	})
	t.Run("when a handoff takes over", func(t *testing.T) {
		s := site.Serving(t, site.Options{
			Flags:   []string{"--watch", "frozen", "--envdir", "frozen"},
			Prepare: func(s *site.Site) { s.Write("frozen/OTHER", "") },
		})
		s.Becomes(1, "current")
		s.Freeze(t, s.File("frozen"))
		s.KillHandoff()
		s.Line("init starts another one$")
		s.Answers("v1 generation 1 ")
		stopsInTime(t, s)
	})
}

// Before there is an app, hotinit waits for the files that it cannot do without. TERM
// ends it all the same.
func TestTERMEndsAStartFromAFileSystemThatDoesNotAnswer(t *testing.T) {
	for _, flags := range [][]string{
		{"--pid-file", "frozen/file"}, {"--log-file", "frozen/file"}, {"--path", "frozen/socket"},
		{"--envdir", "frozen"}, {"--state-dir", "frozen/state"}, {"--trusted-key", "frozen/key"}, {"--programs", "frozen"},
	} {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			s := starting(t, flags, site.Options{}, (*box.Box).Freeze)
			stops(t, s, 128+15)
		})
	}
}

// A process that waits for a request that the file system's server has taken cannot
// be killed: init then ends without its handoff. (In a PID namespace of its own, the
// kernel keeps PID 1 until the handoff has ended.)
func TestTERMEndsAStartThoughTheHandoffCannotBeKilled(t *testing.T) {
	var taken <-chan struct{}
	var release func()
	s := starting(t, []string{"--pid-file", "frozen/file"}, site.Options{
		Sub: true, Attr: func(a *syscall.SysProcAttr) { a.Cloneflags |= unix.CLONE_NEWNS },
		Before: "mount --make-rprivate /",
	}, func(b *box.Box, t *testing.T, dir string) { taken, release = b.FreezeHard(t, dir) })
	<-taken
	s.Signal(unix.SIGTERM)
	s.Line("hotinit exits without them$")
	release() // the handoff has hotinit's output open
	s.Ends(128 + 15)
}

// starting is a site that is started once a file system is in the place of the
// directory "frozen".
func starting(t *testing.T, flags []string, o site.Options, freeze func(b *box.Box, t *testing.T, dir string)) *site.Site {
	t.Helper()
	o.Flags = flags
	o.Before = strings.TrimPrefix(o.Before+" && touch begun && read go <go", " && ")
	o.Prepare = func(s *site.Site) {
		s.Write("frozen/other", "")
		if err := unix.Mkfifo(s.File("go"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := site.Open(t, o)
	s.Until("it can be frozen", func() bool { _, err := os.Lstat(s.File("begun")); return err == nil })
	freeze(s.Box, t, s.File("frozen"))
	s.Write("go", "\n")
	s.Handoff()
	return s
}

// stops checks that TERM ends hotinit while docker stop would still wait.
func stops(t *testing.T, s *site.Site, status int) {
	t.Helper()
	began := time.Now()
	s.Stop(status)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the end took %v:\n%s", took, s.Output)
	}
}
