package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/tests/docker"
)

// named returns the block of the README that has a name.
func named(t *testing.T, name string) string {
	t.Helper()
	page := pages(t)["README.md"]
	m := regexp.MustCompile("<!-- readme: " + name + " -->\n```\\w+\n(?s:(.*?))```\n").FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("README.md has no block %q", name)
	}
	return m[1]
}

// The README is followed word for word, but for names and ports that other tests
// on this machine have: binary, image, container, deployments, and what there is to
// operate it.
func TestTheReadmeWorksAsItStandsThere(t *testing.T) {
	box.Need(t, "docker", docker.Missing())
	dir, port, name := t.TempDir(), freePort(t), docker.Name()
	sh := func(where, block string) string {
		t.Helper()
		block = strings.NewReplacer("-o hotinit", "-o "+filepath.Join(dir, "hotinit"),
			"-p 8080:8080", "-p 127.0.0.1:"+port+":8080", "your-image", name,
			"--name web", "--name "+name, "exec web", "exec "+name, "exec -i web", "exec -i "+name, "HUP web", "HUP "+name).Replace(block)
		c := exec.Command("bash", "-euxo", "pipefail", "-c", block)
		c.Dir, c.Env = where, append(os.Environ(), "DOCKER_BUILDKIT=0")
		out, err := c.CombinedOutput()
		if err != nil {
			logs, _ := docker.Do("logs", name)
			t.Fatalf("%v\n%s\nhotinit and the server said:\n%s", err, out, logs)
		}
		return string(out)
	}
	answers := func(prefix string) {
		t.Helper()
		if _, err := box.Answers("127.0.0.1:"+port, prefix); err != nil {
			logs, _ := docker.Do("logs", name)
			t.Fatalf("%v\nhotinit and the server said:\n%s", err, logs)
		}
	}
	// current waits for a generation: one that answers need not be it yet.
	current := func(n int) {
		t.Helper()
		want := fmt.Sprintf("hotinit: generation %d is ready", n)
		if !box.Eventually(func() bool {
			var logs strings.Builder
			c := exec.Command("docker", "logs", name)
			c.Stdout, c.Stderr = &logs, &logs
			return c.Run() == nil && strings.Contains(logs.String(), want)
		}) {
			t.Fatalf("generation %d is not ready", n)
		}
	}

	sh(top, named(t, "build"))
	for _, id := range []string{"1", "2", "3"} {
		run(t, "", "go", "build", "-ldflags", "-X main.port=8080 -X main.id="+id, "-o", filepath.Join(dir, "server-v"+id), "./testdata/binary")
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\n"+named(t, "dockerfile")), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		docker.Do("rm", "-f", "-v", name)
		docker.Do("rmi", "-f", name)
	})
	sh(dir, "docker build -t your-image .")

	deploy := strings.Split(strings.TrimSpace(named(t, "deploy")), "\n")
	sh(dir, strings.Join(deploy[:2], "\n"))
	current(1)
	answers("release 1")
	sh(dir, strings.Join(deploy[2:], "\n"))
	current(2)
	answers("release 2")

	n := 2
	for line := range strings.Lines(named(t, "operate")) {
		sh(dir, line)
		switch {
		case strings.Contains(line, " deploy "):
			n++
			answers("release 3")
		case strings.Contains(line, " rollback "):
			n++
			answers("release 2")
		case strings.Contains(line, "HUP"), strings.Contains(line, " reload "):
			n++
		}
		current(n)
	}
}
