package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

//go:embed testdata/helper.c
var helperSource []byte

// tool is one way to run a command as PID 1.
type tool struct {
	name string
	argv []string // what comes before the command
	peer bool     // compared with hotinit: neither hotinit itself nor no init
}

func (t tool) command(argv ...string) []string {
	return append(slices.Clone(t.argv), argv...)
}

// Names that a measurement or a report asks for.
const (
	nameHotinit     = "hotinit"
	nameAsTini      = "hotinit as tini"
	nameDirect      = "no init"
	nameDirectAgain = "no init, again"
)

// setup is what has to be there before anything can be measured.
type setup struct {
	dir     string // scratch, removed at the end
	helper  string
	hotinit string
	deployTools
	plain      []tool // the plain inits, hotinit first
	absent     []string
	cloneflags uintptr
	skipped    []string // what could not be done here, and why
}

// deployTools are the programs that deployments are made with; one that is not
// installed is empty.
type deployTools struct{ startServer, supervisord, supervisorctl, haproxy string }

func (s *setup) remove() { os.RemoveAll(s.dir) }

// direct runs the command with no init; it is the floor of every figure.
func direct() tool { return tool{name: nameDirect} }

// prepare builds what is measured, finds the peers, and learns what the
// kernel lets this user do.
func prepare(ctx context.Context, hotinit string) (*setup, error) {
	// Not in /tmp if possible: hotinit watches the directories on the way to its
	// executable, and in /tmp others come and go.
	parent := "/var/tmp"
	if unix.Access(parent, unix.W_OK) != nil {
		parent = ""
	}
	dir, err := os.MkdirTemp(parent, "hotinit-bench")
	if err != nil {
		return nil, err
	}
	s := &setup{dir: dir, hotinit: hotinit}
	if err := s.fill(ctx); err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

func (s *setup) fill(ctx context.Context) error {
	if err := s.buildHelper(ctx); err != nil {
		return err
	}
	if s.hotinit == "" {
		s.hotinit = filepath.Join(s.dir, "hotinit")
		if err := goBuild(ctx, s.hotinit, "-s -w -E hotinit_entry", "github.com/hotinit/hotinit/cmd/hotinit"); err != nil {
			return err
		}
	}
	path, err := filepath.Abs(s.hotinit)
	if err != nil {
		return err
	}
	s.hotinit = path
	// Pages that are not written to disk yet would count as dirty.
	unix.Sync()
	asTini := filepath.Join(s.dir, "tini")
	if err := os.Symlink(s.hotinit, asTini); err != nil {
		return err
	}

	s.plain = []tool{
		{name: nameHotinit, argv: []string{s.hotinit, "--"}},
		{name: nameAsTini, argv: []string{asTini, "--"}},
	}
	for _, name := range []string{"tini", "dumb-init", "catatonit"} {
		path, err := exec.LookPath(name)
		if err != nil {
			s.absent = append(s.absent, name)
			continue
		}
		s.plain = append(s.plain, tool{name: name, argv: []string{path, "--"}, peer: true})
	}
	for name, to := range map[string]*string{
		"start_server": &s.startServer, "supervisord": &s.supervisord, "supervisorctl": &s.supervisorctl, "haproxy": &s.haproxy,
	} {
		if *to, err = exec.LookPath(name); err != nil {
			s.absent = append(s.absent, name)
		}
	}
	for _, name := range []string{"s6-svscan", "runsvdir"} {
		if _, err := exec.LookPath(name); err != nil {
			s.absent = append(s.absent, name)
		}
	}
	slices.Sort(s.absent)
	return s.tryNamespaces(ctx)
}

func (s *setup) buildHelper(ctx context.Context) error {
	cc, err := exec.LookPath("cc")
	if err != nil {
		return errors.New("cc is not installed: the programs that run beneath an init are in C (apt-get install gcc libc6-dev)")
	}
	source := filepath.Join(s.dir, "helper.c")
	if err := os.WriteFile(source, helperSource, 0o600); err != nil {
		return err
	}
	s.helper = filepath.Join(s.dir, "helper")
	return build(exec.CommandContext(ctx, cc, "-O2", "-static", "-o", s.helper, source))
}

// goBuild builds a package of this module as it is released.
func goBuild(ctx context.Context, to, ldflags, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", ldflags, "-o", to, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return build(cmd)
}

func build(cmd *exec.Cmd) error {
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, said)
	}
	return nil
}

// tryNamespaces finds out how a fresh PID namespace can be had: as root, or
// within a user namespace.
func (s *setup) tryNamespaces(ctx context.Context) error {
	ways := []uintptr{unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		ways = []uintptr{unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUSER}
		s.skipped = append(s.skipped, "not root: each namespace lies within a user namespace, which makes every start a little slower")
	}
	var failed error
	for _, flags := range ways {
		s.cloneflags = flags
		c, err := start(ctx, s, direct(), options{cpu: -1, log: os.Stderr}, s.helper, "stamp")
		if err != nil {
			failed = err
			continue
		}
		_, err = c.stamp()
		c.end()
		if err == nil {
			return nil
		}
		failed = err
	}
	return fmt.Errorf("cannot run PID 1 of a fresh PID namespace (run as root, or allow user namespaces): %w", failed)
}

// machine says where the figures are from, with no name of it.
func machine() string {
	var u unix.Utsname
	release := "unknown"
	if unix.Uname(&u) == nil {
		release = unix.ByteSliceToString(u.Release[:])
	}
	if parts := strings.SplitN(release, ".", 3); len(parts) == 3 {
		release = parts[0] + "." + parts[1]
	}
	return fmt.Sprintf("%d cores, Linux %s, %s, %s", runtime.NumCPU(), release, runtime.GOARCH, runtime.Version())
}
