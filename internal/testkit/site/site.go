// Package site runs hotinit with a release of the test application deployed to
// it, as its users do, and waits for what becomes of the generations. Each wait
// is for an event, never for a time.
package site

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/testkit/box"
)

// Site is a running hotinit with what is deployed to it.
type Site struct {
	*box.Box
	T       *testing.T
	Dir     string // the directory that hotinit was started in
	Path    string // of the application
	Address string
	User    []string // nsenter's flags for another user
}

// Options say how a site is made.
type Options struct {
	Name   string   // argv[0]
	Binary string   // another hotinit than the one that the tests share
	Flags  []string // hotinit's
	App    []string // the flags of release v1, of the test application
	// Script is a shell script that runs in its stead. It is not watched.
	Script string
	Sub    bool // not as PID 1
	Env    []string
	// Command runs in its stead, once Prepare has put it into the directory.
	Command []string
	Prepare func(s *Site)
	NoPort  bool
	UID     uint32 // who hotinit runs as, 0 for the test's own user
	// Before is a shell command that runs as what then becomes hotinit. In it
	// with can be set to a command that executes hotinit.
	Before string
	Attr   func(*syscall.SysProcAttr) // changes it
	Beside bool                       // the test has another one
}

// Open starts hotinit with release v1 of the test application, or with what o
// names instead.
func Open(t *testing.T, o Options) *Site {
	t.Helper()
	if !o.Beside {
		t.Parallel()
	}
	if !o.Sub {
		box.NeedNamespace(t)
	}
	dir := t.TempDir()
	s := &Site{T: t, Dir: dir, Path: filepath.Join(dir, "server"), Address: box.Address()}
	command := []string{s.Path}
	switch {
	case o.Command != nil:
		command = o.Command
	case o.Script != "":
		s.Write("script", o.Script)
		command = []string{"sh", filepath.Join(dir, "script")}
		if o.Name == "" {
			o.Flags = append(o.Flags, "--no-watch")
			if !slices.Contains(o.Flags, "--ready") {
				// Most scripts leave the sockets alone.
				o.Flags = append(o.Flags, "--ready", "interval")
			}
		}
	default:
		box.Install(t, s.Path, "v1", o.App...)
	}
	if o.Prepare != nil {
		o.Prepare(s)
	}
	if !o.NoPort {
		o.Flags = append([]string{"--port", s.Address}, o.Flags...)
	}
	args, binary := append(append(o.Flags, "--"), command...), o.Binary
	if o.Before != "" {
		args = append([]string{"-c", o.Before + ` && exec $with "$0" "$@"`, cmp.Or(o.Binary, box.Hotinit)}, args...)
		binary = "/bin/sh"
	}
	s.Box = box.Start(t, box.Options{
		Name: o.Name, Binary: binary, Args: args,
		Env: box.Environment(o.Env...), Dir: dir, Sub: o.Sub,
		Attr: func(a *syscall.SysProcAttr) {
			if o.UID != 0 {
				a.Credential = &syscall.Credential{Uid: o.UID, Gid: o.UID}
			}
			if o.Attr != nil {
				o.Attr(a)
			}
		},
	})
	return s
}

// Serving opens a site and waits until release v1 answers.
func Serving(t *testing.T, o Options) *Site {
	t.Helper()
	s := Open(t, o)
	s.Answers("v1 generation 1 ")
	return s
}

// Answers waits for an answer that begins with prefix.
func (s *Site) Answers(prefix string) string {
	s.T.Helper()
	return s.Box.Answers(s.Address, prefix)
}

// Swap puts a release in the place of the application.
func (s *Site) Swap(version string, flags ...string) {
	s.T.Helper()
	box.Swap(s.T, s.Path, version, flags...)
}

// Die has the generation that serves end itself, once no other accepts beside it: a
// candidate answers before it is current.
func (s *Site) Die(status int) {
	s.Until("no other generation accepts beside the current one", func() bool {
		return !slices.ContainsFunc(s.Status().Generations, func(g control.Generation) bool {
			return g.Phase == "retiring" || g.Phase == "candidate" || g.Phase == "preparing"
		})
	})
	_, _ = box.Get(s.Address, "/exit?status="+strconv.Itoa(status))
}

// Stop stops hotinit by TERM.
func (s *Site) Stop(status int) {
	s.T.Helper()
	s.Signal(unix.SIGTERM)
	s.Ends(status)
}

// Ends waits for hotinit's end, and checks its status.
func (s *Site) Ends(status int) {
	s.T.Helper()
	if got := s.Wait(); got != status {
		s.T.Fatalf("hotinit ended with status %d, want %d:\n%s", got, status, s.Output)
	}
}

// File returns the path of a file in the site's directory.
func (s *Site) File(name string) string { return filepath.Join(s.Dir, name) }

// Write writes a file below the site's directory.
func (s *Site) Write(name, text string) {
	s.T.Helper()
	if st, err := os.Stat(s.File(name)); err == nil && st.Mode()&os.ModeNamedPipe != 0 {
		box.Feed(s.T, s.File(name), strings.TrimSuffix(text, "\n"))
		return
	}
	_ = os.MkdirAll(filepath.Dir(s.File(name)), 0o755)
	if err := os.WriteFile(s.File(name), []byte(text), 0o644); err != nil {
		s.T.Fatal(err)
	}
}

// Link makes a symbolic link, in the place of another.
func (s *Site) Link(to, name string) {
	s.T.Helper()
	err := os.Symlink(to, s.File(name+".new"))
	if err == nil {
		err = os.Rename(s.File(name+".new"), s.File(name))
	}
	if err != nil {
		s.T.Fatal(err)
	}
}

// Read returns the content of a file, or "" where it cannot be read.
func (s *Site) Read(name string) string {
	b, _ := os.ReadFile(s.File(name))
	return string(b)
}

// Contains waits until a file has a text in it.
func (s *Site) Contains(name, text string) {
	s.T.Helper()
	s.Until(fmt.Sprintf("%s has %q in it", name, text), func() bool { return strings.Contains(s.Read(name), text) })
}

// Ask runs a hotinit subcommand beside hotinit, in its namespaces where it is
// PID 1, as `docker exec` does.
func (s *Site) Ask(args ...string) (status int, output string) {
	s.T.Helper()
	return Finish(s.T, s.Client(args...))
}

// Client returns the command that Ask runs.
func (s *Site) Client(args ...string) *exec.Cmd {
	words := append([]string{box.Hotinit}, args...)
	if p, ok := s.Find(1); ok && p.PID == s.PID() {
		words = append(append([]string{"nsenter", "-t", strconv.Itoa(s.PID()), "-p", "-m"}, s.User...), words...)
	} else {
		words = append(words, "--pid", strconv.Itoa(s.PID()))
	}
	c := exec.Command(words[0], words[1:]...)
	c.Env = box.Environment()
	return c
}

// Enter lets every user into the site's directory.
func (s *Site) Enter() {
	s.T.Helper()
	for dir := s.Dir; strings.Contains(dir, "/Test"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			s.T.Fatal(err)
		}
	}
}

// Finish runs a command to its end.
func Finish(t *testing.T, c *exec.Cmd) (status int, output string) {
	t.Helper()
	var b bytes.Buffer
	c.Stdout, c.Stderr = &b, &b
	err := c.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("cannot run %v: %v", c, err)
	}
	return c.ProcessState.ExitCode(), b.String()
}

// Hotinit runs hotinit in the site's directory under a name to its end.
func (s *Site) Hotinit(name string, args ...string) (status int, output string) {
	s.T.Helper()
	return Finish(s.T, &exec.Cmd{Path: box.Hotinit, Args: append([]string{name}, args...), Dir: s.Dir, Env: box.Environment()})
}

// Status asks until there is an answer: there may be no handoff just now.
func (s *Site) Status() control.Status {
	s.T.Helper()
	var st control.Status
	s.Until("hotinit tells its status", func() bool {
		code, text := s.Ask("status", "--json")
		st = control.Status{}
		return code == 0 && json.Unmarshal([]byte(text), &st) == nil
	})
	return st
}

// Generation returns what the status says of one, or nil.
func (s *Site) Generation(n int) *control.Generation {
	s.T.Helper()
	for _, g := range s.Status().Generations {
		if g.N == n {
			return &g
		}
	}
	return nil
}

// Becomes waits until a generation is in a phase.
func (s *Site) Becomes(n int, phase string) {
	s.T.Helper()
	s.Until(fmt.Sprintf("generation %d is %s", n, phase), func() bool {
		g := s.Generation(n)
		return g != nil && g.Phase == phase
	})
}

// Kill ends a generation's main process by SIGKILL.
func (s *Site) Kill(n int) {
	s.T.Helper()
	g := s.Generation(n)
	if g == nil {
		s.T.Fatalf("generation %d is gone:\n%s", n, s.Output)
	}
	p, ok := s.Find(g.PID)
	if !ok {
		s.T.Fatalf("process %d of generation %d is gone:\n%s", g.PID, n, s.Output)
	}
	s.SignalTo(p.PID, unix.SIGKILL)
}

// Proven waits until a generation has outlived its probation.
func (s *Site) Proven(n int) {
	s.T.Helper()
	s.Until(fmt.Sprintf("generation %d is proven", n), func() bool {
		g := s.Generation(n)
		return g != nil && g.Proven
	})
}

// Running waits until so many processes run the application.
func (s *Site) Running(n int) {
	s.T.Helper()
	s.Until(fmt.Sprintf("%d processes run the application", n), func() bool {
		count := 0
		for _, p := range s.Processes() {
			if len(p.Args) > 0 && p.Args[0] == s.Path && !p.Zombie() {
				count++
			}
		}
		return count == n
	})
}

// Never fails the test if a line of the output so far has the text in it.
func (s *Site) Never(text string) {
	s.T.Helper()
	if strings.Contains(s.Output.Text(), text) {
		s.T.Errorf("%q was said:\n%s", text, s.Output)
	}
}

// Need skips a test where a program is missing.
func Need(t *testing.T, program string) {
	t.Helper()
	_, err := exec.LookPath(program)
	box.Need(t, program, err)
}
