package deploy

import (
	"bytes"
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

// site is a running hotinit with what is deployed to it.
type site struct {
	*box.Box
	t       *testing.T
	dir     string // the folder that hotinit was started in
	path    string // of the application
	address string
	user    []string // nsenter's flags for another user
}

// options say how a site is made.
type options struct {
	name  string   // argv[0]
	flags []string // hotinit's
	app   []string // the flags of release v1, of the test application
	// script is a shell script that runs in its stead. It is not watched.
	script string
	sub    bool // not as PID 1
	env    []string
	// command runs in its stead, once prepare has put it into the folder.
	command []string
	prepare func(s *site)
	noPort  bool
	uid     uint32 // who hotinit runs as, 0 for the test's own user
	// before is a shell command that runs as what then becomes hotinit. In it
	// with can be set to a command that executes hotinit.
	before string
	attr   func(*syscall.SysProcAttr) // changes it
	beside bool                       // the test has another one
}

func open(t *testing.T, o options) *site {
	t.Helper()
	if !o.beside {
		t.Parallel()
	}
	if !o.sub {
		box.NeedNamespace(t)
	}
	dir := t.TempDir()
	s := &site{t: t, dir: dir, path: filepath.Join(dir, "server"), address: box.Address()}
	command := []string{s.path}
	switch {
	case o.command != nil:
		command = o.command
	case o.script != "":
		s.write("script", o.script)
		command = []string{"sh", filepath.Join(dir, "script")}
		if o.name == "" {
			o.flags = append(o.flags, "--no-watch")
		}
	default:
		box.Install(t, s.path, "v1", o.app...)
	}
	if o.prepare != nil {
		o.prepare(s)
	}
	if !o.noPort {
		o.flags = append([]string{"--port", s.address}, o.flags...)
	}
	args, binary := append(append(o.flags, "--"), command...), ""
	if o.before != "" {
		args = append([]string{"-c", o.before + ` && exec $with "$0" "$@"`, box.Hotinit}, args...)
		binary = "/bin/sh"
	}
	s.Box = box.Start(t, box.Options{
		Name: o.name, Binary: binary, Args: args,
		Env: box.Environment(o.env...), Dir: dir, Sub: o.sub,
		Attr: func(a *syscall.SysProcAttr) {
			if o.uid != 0 {
				a.Credential = &syscall.Credential{Uid: o.uid, Gid: o.uid}
			}
			if o.attr != nil {
				o.attr(a)
			}
		},
	})
	return s
}

// serving opens a site and waits until release v1 answers.
func serving(t *testing.T, o options) *site {
	t.Helper()
	s := open(t, o)
	s.Answers("v1 generation 1 ")
	return s
}

func (s *site) Answers(prefix string) string {
	s.t.Helper()
	return s.Box.Answers(s.address, prefix)
}

// swap puts a release in the place of the application.
func (s *site) swap(version string, flags ...string) {
	s.t.Helper()
	box.Swap(s.t, s.path, version, flags...)
}

// die has the generation that serves end itself.
func (s *site) die(status int) {
	s.Until("no old generation accepts beside it", func() bool {
		return !slices.ContainsFunc(s.status().Generations, func(g control.Generation) bool { return g.Phase == "retiring" })
	})
	_, _ = box.Get(s.address, "/exit?status="+strconv.Itoa(status))
}

// stop stops hotinit by TERM.
func (s *site) stop(status int) {
	s.t.Helper()
	s.Signal(unix.SIGTERM)
	s.ends(status)
}

func (s *site) ends(status int) {
	s.t.Helper()
	if got := s.Wait(); got != status {
		s.t.Fatalf("hotinit ended with status %d, want %d:\n%s", got, status, s.Output)
	}
}

func (s *site) file(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(name, text string) {
	s.t.Helper()
	_ = os.MkdirAll(filepath.Dir(s.file(name)), 0o755)
	if err := os.WriteFile(s.file(name), []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// link makes a symbolic link, in the place of another.
func (s *site) link(to, name string) {
	s.t.Helper()
	err := os.Symlink(to, s.file(name+".new"))
	if err == nil {
		err = os.Rename(s.file(name+".new"), s.file(name))
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) read(name string) string {
	b, _ := os.ReadFile(s.file(name))
	return string(b)
}

// contains waits until a file has a text in it.
func (s *site) contains(name, text string) {
	s.t.Helper()
	s.Until(fmt.Sprintf("%s has %q in it", name, text), func() bool { return strings.Contains(s.read(name), text) })
}

// ask runs a hotinit subcommand beside hotinit, in its namespaces where it is
// PID 1, as `docker exec` does.
func (s *site) ask(args ...string) (status int, output string) {
	s.t.Helper()
	return finish(s.t, s.client(args...))
}

func (s *site) client(args ...string) *exec.Cmd {
	words := append([]string{box.Hotinit}, args...)
	if p, ok := s.Find(1); ok && p.PID == s.PID() {
		words = append(append([]string{"nsenter", "-t", strconv.Itoa(s.PID()), "-p", "-m"}, s.user...), words...)
	} else {
		words = append(words, "--pid", strconv.Itoa(s.PID()))
	}
	c := exec.Command(words[0], words[1:]...)
	c.Env = box.Environment()
	return c
}

// enter lets every user into the site's folder.
func (s *site) enter() {
	s.t.Helper()
	for dir := s.dir; strings.Contains(dir, "/Test"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			s.t.Fatal(err)
		}
	}
}

// finish runs a command to its end.
func finish(t *testing.T, c *exec.Cmd) (status int, output string) {
	t.Helper()
	var b bytes.Buffer
	c.Stdout, c.Stderr = &b, &b
	err := c.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("cannot run %v: %v", c, err)
	}
	return c.ProcessState.ExitCode(), b.String()
}

// hotinit runs hotinit in the site's folder under a name to its end.
func (s *site) hotinit(name string, args ...string) (status int, output string) {
	s.t.Helper()
	return finish(s.t, &exec.Cmd{Path: box.Hotinit, Args: append([]string{name}, args...), Dir: s.dir, Env: box.Environment()})
}

// status asks until there is an answer: there may be no handoff just now.
func (s *site) status() control.Status {
	s.t.Helper()
	var st control.Status
	s.Until("hotinit tells its status", func() bool {
		code, text := s.ask("status", "--json")
		st = control.Status{}
		return code == 0 && json.Unmarshal([]byte(text), &st) == nil
	})
	return st
}

// generation returns what the status says of one, or nil.
func (s *site) generation(n int) *control.Generation {
	s.t.Helper()
	for _, g := range s.status().Generations {
		if g.N == n {
			return &g
		}
	}
	return nil
}

// becomes waits until a generation is in a phase.
func (s *site) becomes(n int, phase string) {
	s.t.Helper()
	s.Until(fmt.Sprintf("generation %d is %s", n, phase), func() bool {
		g := s.generation(n)
		return g != nil && g.Phase == phase
	})
}

// kill ends a generation's main process by SIGKILL.
func (s *site) kill(n int) {
	s.t.Helper()
	g := s.generation(n)
	if g == nil {
		s.t.Fatalf("generation %d is gone:\n%s", n, s.Output)
	}
	p, ok := s.Find(g.PID)
	if !ok {
		s.t.Fatalf("process %d of generation %d is gone:\n%s", g.PID, n, s.Output)
	}
	s.SignalTo(p.PID, unix.SIGKILL)
}

// proven waits until a generation has outlived its probation.
func (s *site) proven(n int) {
	s.t.Helper()
	s.Until(fmt.Sprintf("generation %d is proven", n), func() bool {
		g := s.generation(n)
		return g != nil && g.Proven
	})
}

// running waits until so many processes run the application.
func (s *site) running(n int) {
	s.t.Helper()
	s.Until(fmt.Sprintf("%d processes run the application", n), func() bool {
		count := 0
		for _, p := range s.Processes() {
			if len(p.Args) > 0 && p.Args[0] == s.path && !p.Zombie() {
				count++
			}
		}
		return count == n
	})
}

// never fails the test if a line of the output so far has the text in it.
func (s *site) never(text string) {
	s.t.Helper()
	if strings.Contains(s.Output.String(), text) {
		s.t.Errorf("%q was said:\n%s", text, s.Output)
	}
}

// need skips a test where a program is missing.
func need(t *testing.T, program string) {
	t.Helper()
	_, err := exec.LookPath(program)
	box.Need(t, program, err)
}
