package docker

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/load"
)

// An engine with live-restore is killed, and then stopped, while a container of it serves
// and swaps: hotinit sees nothing of it but a standard output that nobody reads for a
// while. The next engine finds the container that it was.
func TestAnEngineThatIsRestartedLeavesTheContainerAtWork(t *testing.T) {
	e := startSecond(t, "--live-restore")
	image, dir, name := e.image(), t.TempDir(), Name()
	path, socket := filepath.Join(dir, "server"), filepath.Join(dir, "http.sock")
	box.Install(t, path, "v1", "-status", "5")
	e.do("run", "-d", "--name", name, "--network", "none", "-v", dir+":/srv", "-v", box.Hotinit+":/hotinit:ro",
		"-e", "HOTINIT_PATHS=/srv/http.sock", "--entrypoint", "/hotinit", image, "/srv/server")
	// One whose app ends while there is no engine.
	other := Name()
	e.do("run", "-d", "--name", other, "--network", "none", "-v", box.Hotinit+":/hotinit:ro", "--entrypoint", "/hotinit", image, "/app", "-echo", "-status", "7")
	identity := func() string {
		return e.do("inspect", "--format", "started {{.State.StartedAt}}, PID {{.State.Pid}}, running {{.State.Running}}, restarted {{.RestartCount}} times", name)
	}
	before := identity()
	log := func() string { return e.do("logs", name) }
	if !box.Eventually(func() bool {
		return strings.Contains(log(), "generation 1 is ready") && strings.Contains(e.do("logs", other), "listening to signals")
	}) {
		t.Fatalf("the apps do not run:\n%s", log())
	}
	pid, err := strconv.Atoi(e.do("inspect", "--format", "{{.State.Pid}}", other))
	if err != nil {
		t.Fatal(err)
	}

	l := load.Start(load.Options{Address: socket})
	generation, version := 1, 1
	answers := func(what string, do func()) {
		t.Helper()
		generation++
		answered := l.Answered(fmt.Sprintf("v%d generation %d ", version, generation))
		do()
		if !box.Within(answered) {
			t.Fatalf("%s: generation %d does not answer; %v\n%s\nthe engine:\n%s", what, generation, l.Stop(), log(), e.output)
		}
	}
	swap := func() {
		box.Swap(t, path, fmt.Sprintf("v%d", version), "-status", "5")
	}
	for _, ends := range []unix.Signal{unix.SIGKILL, unix.SIGTERM} {
		version++
		answers("an engine that is ended during a swap", func() {
			swap()
			e.end(ends)
		})
		version++
		answers("a swap without an engine", swap)
		if ends == unix.SIGKILL {
			if err := unix.Kill(pid, unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if !box.Eventually(func() bool { return unix.Kill(pid, 0) == unix.ESRCH }) {
				t.Fatal("the other container does not end")
			}
		}
		if err := e.start(); err != nil {
			t.Fatalf("%v\n%s", err, e.output)
		}
		if after := identity(); after != before {
			t.Errorf("the container was %s and is %s", before, after)
		}
		answers("docker kill -s HUP of the next engine", func() { e.do("kill", "-s", "HUP", name) })
		if text := e.do("exec", name, "/hotinit", "status"); !strings.Contains(text, fmt.Sprintf("generation %d", generation)) {
			t.Errorf("docker exec hotinit status says\n%s", text)
		}
		version++
		answers("a swap with the next engine", swap)
	}
	r := l.Stop()
	t.Logf("requests lost: %d; %v", r.Losses(), r)
	if r.Losses() > 0 || r.Done == 0 {
		t.Errorf("%v\n%s", r, log())
	}
	// The engine reads on what hotinit prints.
	if !box.Eventually(func() bool { return strings.Contains(log(), fmt.Sprintf("generation %d is ready", generation)) }) {
		t.Errorf("the engine has lost the log:\n%s", log())
	}
	if status := e.do("wait", other); status != "7" {
		t.Errorf("the container that ended without an engine has status %s, want 7", status)
	}
	e.do("stop", "-t", "60", name)
	if status := e.do("wait", name); status != "5" {
		t.Errorf("docker stop: status %s, want 5\n%s", status, log())
	}
}
