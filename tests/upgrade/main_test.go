// Package upgrade tests how one hotinit takes over from another one: real ones, of
// different versions, as a real PID 1 and as a subreaper, under load.
//
// The two are built with the tag faults, by which a test has either fail at a
// chosen point. main_test.go makes them, upgrade_test.go is what must not be
// noticed, refused_test.go what must not succeed, and faults_test.go what may go
// wrong in between. rolls_test.go has several instances that are replaced in turn meanwhile,
// and output_test.go programs whose lines and events are followed.
// programs_test.go, terminal_test.go and user_test.go are particular places.
package upgrade

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// The versions that are built.
const (
	older = "1.0.0"
	newer = "2.0.0"
)

var builds = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "hotinit-upgrade")
	if err != nil {
		return "", err
	}
	// Others than the owner execute what is in it.
	return dir, os.Chmod(dir, 0o755)
})

func TestMain(m *testing.M) {
	box.Main(m, func() {
		if dir, err := builds(); err == nil {
			_ = os.RemoveAll(dir)
		}
	})
}

var building sync.Mutex

// build returns the path of a program that is built once.
func build(t *testing.T, name, pkg string, flags ...string) string {
	t.Helper()
	dir, err := builds()
	if err != nil {
		t.Fatal(err)
	}
	building.Lock()
	defer building.Unlock()
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	c := exec.Command("go", append(append([]string{"build", "-trimpath", "-o", path}, flags...), pkg)...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", c, err, out)
	}
	return path
}

// hotinit returns the path of a hotinit of a version.
func hotinit(t *testing.T, version string) string {
	t.Helper()
	return build(t, "hotinit-"+version, "github.com/hotinit/hotinit/cmd/hotinit", "-tags", "faults",
		"-ldflags", "-s -w -E hotinit_entry -X github.com/hotinit/hotinit/internal/version.Number="+version)
}

// stranger returns the path of a program that says it is a hotinit.
func stranger(t *testing.T, kind string) string {
	t.Helper()
	return build(t, "stranger-"+kind, "./testdata/stranger", "-ldflags", "-X main.Kind="+kind)
}

// run starts the older hotinit.
func run(t *testing.T, o site.Options) *site.Site {
	t.Helper()
	o.Binary = hotinit(t, older)
	hotinit(t, newer)
	if o.Script == "" && len(o.Command) == 0 {
		return site.Serving(t, o)
	}
	return site.Open(t, o)
}

// ways are how hotinit is started.
var ways = map[string]site.Options{
	"as PID 1":       {},
	"as a subreaper": {Sub: true},
}

// upgrade has the hotinit of a version take over.
func upgrade(t *testing.T, s *site.Site, version string) {
	t.Helper()
	c := s.Client("upgrade", hotinit(t, version))
	if status, text := site.Finish(t, c); status != 0 || strings.TrimSpace(text) != "hotinit "+version+" runs" {
		what := "it runs"
		select {
		case <-s.Ended():
			what = fmt.Sprintf("it ended with status %d", s.Wait())
		case <-time.After(time.Second):
		}
		t.Fatalf("upgrade: %v, %s; %s\noutput:\n%s", c.ProcessState, text, what, s.Output)
	}
	runs(t, s, version)
}

// runs checks that both processes are of a version.
func runs(t *testing.T, s *site.Site, version string) {
	t.Helper()
	var want unix.Stat_t
	if err := unix.Stat(hotinit(t, version), &want); err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{s.PID(), s.Handoff().PID} {
		var got unix.Stat_t
		if err := unix.Stat(fmt.Sprintf("/proc/%d/exe", pid), &got); err != nil || got.Ino != want.Ino {
			t.Errorf("process %d does not run hotinit %s (%v)\noutput:\n%s", pid, version, err, s.Output)
		}
	}
	if got := s.Status().Version; got != version {
		t.Errorf("the status says version %s, want %s", got, version)
	}
}

// rejected asks for an upgrade that must not succeed, for a reason that has a text
// in it. The hotinit of a version goes on.
func rejected(t *testing.T, s *site.Site, path, why, version string) {
	t.Helper()
	status, text := s.Ask("upgrade", path)
	if status != 1 || !strings.Contains(text, why) {
		t.Errorf("upgrade to %s: status %d, %s; want 1, and %q\noutput:\n%s", path, status, text, why, s.Output)
	}
	if why == "ask again" {
		// The handoff that was asked is gone, and nobody rejected anything.
	} else if _, text := s.Ask("status"); !strings.Contains(text, "was rejected: ") || !strings.Contains(text, why) {
		t.Errorf("upgrade to %s: the status does not say %q:\n%s", path, why, text)
	}
	runs(t, s, version)
}

// same checks that a generation is the process that it was, and serves.
func same(t *testing.T, s *site.Site, n, pid int) {
	t.Helper()
	if g := s.Generation(n); g == nil || g.PID != pid || g.Phase != "current" {
		t.Errorf("generation %d is %+v, want process %d\noutput:\n%s", n, g, pid, s.Output)
	}
}
