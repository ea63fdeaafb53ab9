package docker

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/load"
)

// Restart is docker restart: the same container, and another hotinit in it. Its
// port may be published elsewhere afterwards.
func (c *Container) Restart() (address string) {
	c.t.Helper()
	c.do("restart", "-t", "60", c.Name)
	return c.Address()
}

// rolledBack is a container whose release v3 ended in its probation: v2 came back,
// and nothing was lost.
func rolledBack(t *testing.T, args ...string) *Container {
	t.Helper()
	c, path, address := serve(t, append(args, "-e", "HOTINIT_PROBATION=5s"))
	c.proven(t, 1)
	l := load.Start(load.Options{Address: address})
	for n, flags := range [][]string{{}, {"-status", "9"}} {
		version := fmt.Sprintf("v%d generation %[1]d ", n+2)
		answered := l.Answered(version)
		box.Swap(t, path, fmt.Sprintf("v%d", n+2), flags...)
		if !box.Within(answered) {
			t.Fatalf("no answer of %s; %v\noutput:\n%s", version, l.Stop(), c.Output)
		}
		if n == 0 {
			c.proven(t, 2)
		}
	}
	c.until(t, "generation 3 serves alone", func(s *control.Status) bool {
		return len(s.Generations) == 1 && s.Generations[0].N == 3 && s.Generations[0].Phase == "current"
	})
	answered := l.Answered("v2 generation 4 ")
	c.endApp(t)
	c.line(t, `generation 3 exited with status 9 in its probation`)
	if !box.Within(answered) {
		t.Fatalf("v2 does not come back; %v\noutput:\n%s", l.Stop(), c.Output)
	}
	r := l.Stop()
	t.Logf("requests lost: %d; %v", r.Losses(), r)
	if r.Losses() > 0 {
		t.Errorf("%v\noutput:\n%s", r, c.Output)
	}
	return c
}

// endApp makes the only generation end by itself, in order.
func (c *Container) endApp(t *testing.T) {
	t.Helper()
	for line := range strings.Lines(c.do("top", c.Name, "-o", "pid,args")) {
		fields := strings.Fields(line)
		if len(fields) > 1 && fields[1] == "/app/server" {
			pid, err := strconv.Atoi(fields[0])
			if err == nil {
				err = unix.Kill(pid, unix.SIGTERM)
			}
			if err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("the app has no process")
}

// followed waits for a line of the container's whole log: what Output follows ends
// with the first hotinit.
func (c *Container) followed(t *testing.T, pattern string) {
	t.Helper()
	re, log := regexp.MustCompile(pattern), ""
	if !box.Eventually(func() bool {
		out, _ := exec.Command("docker", "logs", c.Name).CombinedOutput()
		log = string(out)
		return re.MatchString(log)
	}) {
		t.Fatalf("no line that matches %q:\n%s", pattern, log)
	}
}

// read returns the content of a file, "" where it cannot be read.
func read(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}

// status asks hotinit in the container.
func (c *Container) status(t *testing.T) *control.Status {
	t.Helper()
	var s control.Status
	if err := json.Unmarshal([]byte(c.do("exec", c.Name, "hotinit", "status", "--json")), &s); err != nil {
		t.Fatal(err)
	}
	return &s
}

func (c *Container) until(t *testing.T, what string, holds func(*control.Status) bool) {
	t.Helper()
	if !box.Eventually(func() bool { return holds(c.status(t)) }) {
		t.Fatalf("it does not happen that %s:\n%s", what, c.Output)
	}
}

// proven waits until a generation has outlived its probation.
func (c *Container) proven(t *testing.T, n int) {
	t.Helper()
	c.until(t, fmt.Sprintf("generation %d is proven", n), func(s *control.Status) bool {
		for _, g := range s.Generations {
			if g.N == n && g.Proven {
				return true
			}
		}
		return false
	})
}

func TestAfterDockerRestartTheFailedReleaseIsNotStarted(t *testing.T) {
	state := t.TempDir()
	c := rolledBack(t, "-v", state+":/state", "-e", "HOTINIT_STATE_DIR=/state")
	if !box.Eventually(func() bool {
		list := read(filepath.Join(state, "releases.json"))
		return strings.Contains(list, "exited with status 9") && strings.Count(list, `"command":`) == 2
	}) {
		t.Fatalf("it is not noted:\n%s", c.Output)
	}
	address := c.Restart()
	c.answers(t, address, "v2 generation 1 ")
	c.followed(t, `release \w+ is not started: it was rejected before: exited with status 9, on .*; the last good release, \w+, is started instead`)

	// What was kept is listed, and can be gone back to.
	out := c.do("exec", c.Name, "hotinit", "releases")
	if strings.Count(out, "good") != 2 || !strings.Contains(out, "kept in --state-dir") || !strings.Contains(out, "rejected: exited with status 9") {
		t.Errorf("releases:\n%s", out)
	}
	l := load.Start(load.Options{Address: address})
	answered := l.Answered("v1 generation 2 ")
	c.do("exec", c.Name, "hotinit", "rollback", "--wait")
	if !box.Within(answered) {
		t.Errorf("no answer of v1")
	}
	r := l.Stop()
	t.Logf("requests lost: %d; %v", r.Losses(), r)
	if r.Losses() > 0 {
		t.Errorf("%v", r)
	}

	// And once more: what was rolled back by hand stays so.
	if !box.Eventually(func() bool { return strings.Contains(read(filepath.Join(state, "releases.json")), `"byHand":true`) }) {
		t.Fatal("it is not noted")
	}
	c.answers(t, c.Restart(), "v1 generation 1 ")
	if status := c.Stop(); status != 0 {
		t.Errorf("docker stop: status %d", status)
	}
}

func TestAfterDockerRestartWithoutAStateDirectoryTheNewestRuns(t *testing.T) {
	c := rolledBack(t)
	c.line(t, `after a restart, hotinit will start /app/server again \(--state-dir remembers what was rejected\)`)
	c.answers(t, c.Restart(), "v3 generation 1 ")
	c.Stop()
}
