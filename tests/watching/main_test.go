// Package watching tests from end to end how hotinit finds a new release and
// what it makes of it: every way of deploying, private copies, checks, more
// paths. What the watcher alone decides is tested in package watch.
//
// A generation's number counts: a deployment that started two, or something
// that should have started none, shows in the number of the next one.
package watching

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/testkit/box"
)

func TestMain(m *testing.M) { box.Main(m) }

// A site is an application that hotinit runs.
type site struct {
	*box.Box
	t       *testing.T
	dir     string
	path    string // what is executed
	address string
	n       int // of the newest generation
}

// launch starts hotinit with these flags on a command line, %s in which is the
// folder. Where hotinit is not PID 1, it can be asked for its status.
func launch(t *testing.T, dir string, sub bool, flags []string, command ...string) *site {
	t.Helper()
	if !sub {
		box.NeedNamespace(t)
	}
	s := &site{t: t, dir: dir, path: command[0], address: box.Address()}
	s.Box = box.Start(t, box.Options{
		Args: append(append(flags, "--"), command...),
		Env:  box.Environment("HOTINIT_PORTS=" + s.address),
		Dir:  dir,
		Sub:  sub,
	})
	return s
}

// serve starts hotinit on release v1 in a folder of its own.
func serve(t *testing.T, flags ...string) *site {
	t.Helper()
	dir := folder(t)
	path := filepath.Join(dir, "server")
	box.Install(t, path, "v1")
	s := launch(t, dir, false, flags, path)
	s.next("v1")
	return s
}

// folder is one that any user may look into.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// next waits until the generation after the last one serves, and it is to be
// of this version.
func (s *site) next(version string) {
	s.t.Helper()
	s.n++
	s.Box.Answers(s.address, fmt.Sprintf("%s generation %d ", version, s.n))
}

// only makes one more release, and checks that no other generation came
// between.
func (s *site) only(version string) {
	s.t.Helper()
	box.Swap(s.t, s.path, version)
	s.next(version)
}

// file writes a release beside the application, for a command to deploy.
func (s *site) file(name, version string, flags ...string) {
	s.t.Helper()
	box.Install(s.t, filepath.Join(s.dir, name), version, flags...)
}

// sh runs a command line in the folder.
func (s *site) sh(line string) {
	s.t.Helper()
	c := exec.Command("/bin/sh", "-ec", line)
	c.Dir = s.dir
	if out, err := c.CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// pid returns the process of a generation, outside.
func (s *site) pid(generation int) int {
	s.t.Helper()
	found := 0
	s.Until(fmt.Sprintf("generation %d has a process", generation), func() bool {
		for _, p := range s.Processes() {
			env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.PID))
			if strings.Contains("\x00"+string(env), fmt.Sprintf("\x00HOTINIT_GENERATION=%d\x00", generation)) {
				found = p.PID
				return true
			}
		}
		return false
	})
	return found
}

// ask asks a hotinit that is not PID 1.
func (s *site) ask(op string) control.Response {
	s.t.Helper()
	var answer control.Response
	err := control.Ask(s.PID(), control.Request{Op: op}, func(r control.Response) bool {
		answer = r
		return false
	})
	if err != nil || !answer.OK {
		s.t.Fatalf("%s: %+v, %v\n%s", op, answer, err, s.Output)
	}
	return answer
}

// status asks it how it is.
func (s *site) status() *control.Status {
	s.t.Helper()
	st := s.ask("status").Status
	if st == nil {
		s.t.Fatalf("no status\n%s", s.Output)
	}
	return st
}

// proven waits until a generation is the last good one.
func (s *site) proven(generation int) {
	s.t.Helper()
	s.Until(fmt.Sprintf("generation %d is proven", generation), func() bool { return s.status().Good == generation })
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func needTool(t *testing.T, name string) {
	t.Helper()
	_, err := exec.LookPath(name)
	box.Need(t, name, err)
}

// mount mounts for as long as the test runs. Whoever starts hotinit after it
// has it too.
func mount(t *testing.T, source, target, kind string, flags uintptr) {
	t.Helper()
	if err := unix.Mount(source, target, kind, flags, ""); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(target, unix.MNT_DETACH) })
}
