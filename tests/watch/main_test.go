// Package watch tests from end to end how hotinit finds a new release and
// what it makes of it: every way of deploying, private copies, checks, more
// paths. What the watcher alone decides is tested in package watch.
//
// A generation's number counts: a deployment that started two, or something
// that should have started none, shows in the number of the next one.
package watch

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

func TestMain(m *testing.M) { box.Main(m) }

// watched is a site that counts its generations.
type watched struct {
	*site.Site
	n int // of the newest generation
}

// launch starts hotinit with these flags on a command line, %s in which is the
// directory. Where hotinit is not PID 1, it can be asked for its status.
func launch(t *testing.T, dir string, sub bool, flags []string, command ...string) *watched {
	t.Helper()
	if !sub {
		box.NeedNamespace(t)
	}
	s := &watched{Site: &site.Site{T: t, Dir: dir, Path: command[0], Address: box.Address()}}
	s.Box = box.Start(t, box.Options{
		Args: append(append(flags, "--"), command...),
		// Many of these apps leave their sockets alone: ready is who says so, or lives.
		Env: box.Environment("HOTINIT_PORTS="+s.Address, "HOTINIT_READY=interval"),
		Dir: dir,
		Sub: sub,
	})
	return s
}

// serve starts hotinit on release v1 in a directory of its own.
func serve(t *testing.T, flags ...string) *watched {
	t.Helper()
	dir := directory(t)
	path := filepath.Join(dir, "server")
	box.Install(t, path, "v1")
	s := launch(t, dir, false, flags, path)
	s.next("v1")
	return s
}

// directory is one that any user may look into.
func directory(t *testing.T) string {
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
func (s *watched) next(version string) {
	s.T.Helper()
	s.n++
	s.Answers(fmt.Sprintf("%s generation %d ", version, s.n))
}

// only makes one more release, and checks that no other generation came
// between.
func (s *watched) only(version string) {
	s.T.Helper()
	box.Swap(s.T, s.Path, version)
	s.next(version)
}

// release writes a release beside the application, for a command to deploy.
func (s *watched) release(name, version string, flags ...string) {
	s.T.Helper()
	box.Install(s.T, filepath.Join(s.Dir, name), version, flags...)
}

// sh runs a command line in the directory.
func (s *watched) sh(line string) {
	s.T.Helper()
	c := exec.Command("/bin/sh", "-ec", line)
	c.Dir = s.Dir
	if out, err := c.CombinedOutput(); err != nil {
		s.T.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// pid returns the process of a generation, outside.
func (s *watched) pid(generation int) int {
	s.T.Helper()
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

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// mount mounts for as long as the test runs. Whoever starts hotinit after it
// has it too.
func mount(t *testing.T, source, target, kind string, flags uintptr, data ...string) {
	t.Helper()
	if err := unix.Mount(source, target, kind, flags, strings.Join(data, ",")); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(target, unix.MNT_DETACH) })
}
