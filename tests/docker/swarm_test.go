package docker

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/load"
)

const deployDir = "../../examples/deploy"

// joinSwarm makes the engine a Swarm of one, for this test, unless it is a manager
// already. A test that was killed has left a label by which the next one knows that the
// Swarm is a test's.
func joinSwarm(t *testing.T) {
	t.Helper()
	const label = "hotinit-test"
	state, err := Do("info", "--format", "{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}")
	if err != nil {
		t.Fatal(err)
	}
	switch state {
	case "active true":
		labels, err := Do("node", "inspect", "self", "--format", "{{json .Spec.Labels}}")
		if err != nil || !strings.Contains(labels, label) {
			return // it is somebody's
		}
	case "inactive false":
		_, bridged := Do("network", "inspect", "docker_gwbridge")
		if _, err := Do("swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1"); err != nil {
			box.Need(t, "swarm", err)
		}
		t.Cleanup(func() {
			if bridged != nil {
				Do("network", "rm", "docker_gwbridge")
			}
		})
	default:
		box.Need(t, "swarm", fmt.Errorf("the engine's Swarm is %s", state))
	}
	t.Cleanup(func() {
		if _, err := Do("swarm", "leave", "--force"); err != nil {
			t.Error(err)
		}
	})
	node, err := Do("info", "--format", "{{.Swarm.NodeID}}")
	if err == nil {
		_, err = Do("node", "update", "--label-add", label, node)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// shellImage imports an image of hotinit alone. What else examples/deploy/stack.yaml asks
// of an image (a shell, flock, cmp, cp) is that of this machine, once its /usr is mounted
// at /host.
func shellImage(t *testing.T) string {
	t.Helper()
	for _, tool := range []string{"sh", "flock", "cmp", "cp", "mkdir", "rmdir"} {
		if _, err := os.Stat("/usr/bin/" + tool); err != nil {
			t.Skip(err)
		}
	}
	hotinit, err := os.ReadFile(box.Hotinit)
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "hotinit", Mode: 0o755, Size: int64(len(hotinit))})
	if err == nil {
		_, err = w.Write(hotinit)
	}
	for _, name := range []string{"bin", "lib", "lib64"} {
		err = errors.Join(err, w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: "host/" + name}))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	name := Name()
	c := exec.Command("docker", "import", "--change", "ENV PATH=/:/bin", "-", name)
	c.Stdin = &packed
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("docker import: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if err := Remove(name); err != nil {
			t.Error(err)
		}
	})
	return name
}

// stack is examples/deploy/stack.yaml, deployed.
type stack struct {
	t    *testing.T
	name string
	dir  string // the replicas' /app
}

// deployStack starts it as its comment says, with release v1 of the test application on
// its volume. witness is a script that swap-once runs in the place of {}.
func deployStack(t *testing.T, witness string) *stack {
	t.Helper()
	image, files := shellImage(t), t.TempDir()
	s := &stack{t: t, name: Name(), dir: t.TempDir()}
	box.Install(t, filepath.Join(s.dir, "server"), "v1")
	_, port, _ := net.SplitHostPort(box.Address())
	change := strings.NewReplacer("swap-once {}", "swap-once /app/witness {}", `"8080:8080"`, fmt.Sprintf(`"%s:8080"`, port))
	for name, text := range map[string]string{
		filepath.Join(files, "stack.yaml"): change.Replace(content(t, deployDir+"/stack.yaml")),
		filepath.Join(files, "swap-once"):  content(t, deployDir+"/swap-once"),
		filepath.Join(s.dir, "witness"):    witness,
		filepath.Join(files, "here.yaml"): `version: "3.8"
services:
  web:
    environment: {HOTINIT_PORTS: "8080"}
    volumes: ["/usr:/host:ro"]
    healthcheck: {interval: 500ms}
`,
	} {
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	node, err := Do("info", "--format", "{{.Name}}")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.remove)
	c := exec.Command("docker", "stack", "deploy", "--resolve-image", "never", "-c", "stack.yaml", "-c", "here.yaml", s.name)
	c.Dir, c.Env = files, append(os.Environ(), "NODE="+node, "APP="+s.dir, "IMAGE="+image)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("docker stack deploy: %v\n%s", err, out)
	}
	return s
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// containers are those of the stack, also ended ones.
func (s *stack) containers() []string {
	out, _ := Do("ps", "-aq", "--no-trunc", "--filter", "label=com.docker.stack.namespace="+s.name)
	return strings.Fields(out)
}

// remove removes the stack, and what Swarm leaves of it.
func (s *stack) remove() {
	if _, err := Do("stack", "rm", s.name); err != nil {
		s.t.Error(err)
	}
	if !box.Eventually(func() bool {
		for _, id := range s.containers() {
			Do("rm", "-f", "-v", id)
		}
		left, err := Do("network", "ls", "-q", "--filter", "label=com.docker.stack.namespace="+s.name)
		return err == nil && left == "" && len(s.containers()) == 0
	}) {
		s.t.Errorf("there is something left of the stack %s", s.name)
	}
}

// replicas waits until three serve, and returns where each is reached from here.
// The port that Swarm publishes needs IPVS, which many kernels do not have.
func (s *stack) replicas() (found map[string]string) {
	s.t.Helper()
	if !box.Eventually(func() bool {
		out, err := Do("network", "inspect", "docker_gwbridge", "--format", "{{json .Containers}}")
		var on map[string]struct{ IPv4Address string }
		if err != nil || json.Unmarshal([]byte(out), &on) != nil {
			return false
		}
		found = map[string]string{}
		for _, id := range s.containers() {
			address, _, ok := strings.Cut(on[id].IPv4Address, "/")
			health, err := Do("inspect", "--format", "{{.State.Health.Status}}", id)
			if !ok || err != nil || health != "healthy" {
				return false
			}
			found[id] = net.JoinHostPort(address, "8080")
		}
		return len(found) == 3
	}) {
		tasks, _ := Do("stack", "ps", "--no-trunc", s.name)
		s.t.Fatalf("three replicas do not serve:\n%s\n%s", tasks, s.logs())
	}
	return found
}

func (s *stack) logs() string {
	var all strings.Builder
	for _, id := range s.containers() {
		out, _ := exec.Command("docker", "logs", id).CombinedOutput()
		fmt.Fprintf(&all, "%.12s said:\n%s", id, out)
	}
	return all.String()
}

// Three replicas on one volume swap one after the other, and a release that fails on one
// of them is not tried on the others.
func TestASwarmStackSwapsOneAfterTheOther(t *testing.T) {
	box.Need(t, "docker", Missing())
	joinSwarm(t)
	s := deployStack(t, `#!/bin/sh
# What happens between lock and unlock: one swap, and its outcome.
mkdir /app/busy || echo "$HOSTNAME" >>/app/twice
/proc/1/exe
status=$?
rmdir /app/busy
echo "$HOSTNAME $status" >>/app/outcomes
exit $status
`)
	replicas := s.replicas()
	loads := map[string]*load.Load{}
	for id, address := range replicas {
		loads[id] = load.Start(load.Options{Address: address, Workers: 1})
	}
	outcomes := func() []string {
		b, _ := os.ReadFile(filepath.Join(s.dir, "outcomes"))
		return strings.Fields(string(b))
	}
	// swapped waits until each replica has swapped to a release.
	before := 0
	swapped := func(version string) {
		t.Helper()
		for id, address := range replicas {
			if _, err := box.Answers(address, version+" "); err != nil {
				t.Fatalf("%.12s: %v\n%s", id, err, s.logs())
			}
		}
		if !box.Eventually(func() bool { return len(outcomes()) == before+6 }) {
			t.Fatalf("the outcomes are %q\n%s", outcomes(), s.logs())
		}
		before += 6
	}
	path := filepath.Join(s.dir, "server")
	box.Swap(t, path, "v2")
	swapped("v2")

	box.Swap(t, path, "v3", "-exit", "7")
	const refusal = "this release has failed on another replica"
	if !box.Eventually(func() bool { return len(outcomes()) == before+2 && strings.Count(s.logs(), refusal) >= 2 }) {
		t.Fatalf("two replicas do not refuse what failed on the first: %q\n%s", outcomes(), s.logs())
	}
	before += 2
	for id, address := range replicas {
		if _, err := box.Answers(address, "v2 "); err != nil {
			t.Errorf("%.12s: %v", id, err)
		}
	}
	if logs := s.logs(); strings.Count(logs, "exited with status 7") != 1 {
		t.Errorf("the broken release did not run just once:\n%s", logs)
	}
	box.Swap(t, path, "v4")
	swapped("v4")

	status := strings.Fields(strings.Repeat("x 0 ", 3) + "x 1 " + strings.Repeat("x 0 ", 3))
	for i, word := range outcomes() {
		if i%2 == 1 && word != status[i] {
			t.Errorf("the outcomes are %q", outcomes())
			break
		}
	}
	if who, err := os.ReadFile(filepath.Join(s.dir, "twice")); err == nil {
		t.Errorf("two swapped at a time: %s", who)
	}
	for id, l := range loads {
		if r := l.Stop(); r.Losses() > 0 || r.Done == 0 {
			t.Errorf("%.12s: %v", id, r)
		} else {
			t.Logf("%.12s: %v", id, r)
		}
	}
	if t.Failed() {
		t.Log(s.logs())
	}
}
