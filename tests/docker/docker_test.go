package docker

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/load"
)

// swaps is how many of each kind the test under load does.
const swaps = 20

var made []string // images

func TestMain(m *testing.M) {
	box.Main(m, func() {
		if err := Remove(made...); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	})
}

// image builds Dockerfile.example once, for all tests, out of the checkout.
var image = sync.OnceValues(func() (string, error) {
	builder := Name()
	if err := ImportBuilder(builder); err != nil {
		return "", err
	}
	made = append(made, builder)
	images, err := Images("../..", "../../Dockerfile.example", builder, "scratch")
	made = append(images, made...)
	if err != nil {
		return "", err
	}
	return images[0], nil
})

// ways to run a container, from an ordinary one to one that may do nothing.
var ways = []struct {
	name string
	args []string
}{
	{"plain", nil},
	{"read-only", []string{"--read-only"}},
	{"user", []string{"--user", "65534"}},
	{"no capabilities", []string{"--cap-drop", "ALL"}},
	{"hardened", []string{"--read-only", "--user", "65534:65534", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"}},
}

// serve starts a container with version v1 of the application on its volume.
func serve(t *testing.T, args []string, appFlags ...string) (c *Container, path, address string) {
	t.Helper()
	box.Need(t, "docker", Missing())
	img, err := image()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path = filepath.Join(dir, "server")
	box.Install(t, path, "v1", appFlags...)
	c = Run(t, img, dir, append([]string{"-e", "HOTINIT_PORTS=8080"}, args...))
	address = c.Address()
	c.answers(t, address, "v1 generation 1 ")
	return c, path, address
}

func (c *Container) answers(t *testing.T, address, prefix string) {
	t.Helper()
	if _, err := box.Answers(address, prefix); err != nil {
		t.Fatalf("%v\noutput:\n%s", err, c.Output)
	}
}

// The whole job in each way: contract, swaps, a bad release, the end.
func TestTheJob(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			c, path, address := serve(t, way.args, "-status", "3")
			before := c.Identity()

			g := c.given(t, address)
			for name, want := range map[string]string{
				"SERVER_STARTER_PORT":       "8080=3",
				"SERVER_STARTER_GENERATION": "1",
				"HOTINIT_GENERATION":        "1",
				"LISTEN_FDS":                "1",
				"LISTEN_PID":                strconv.Itoa(g.PID),
			} {
				if g.Env[name] != want {
					t.Errorf("%s is %q, want %q", name, g.Env[name], want)
				}
			}
			if g.Env["LISTEN_FDNAMES"] == "" || g.Env["NOTIFY_SOCKET"] == "" {
				t.Errorf("LISTEN_FDNAMES is %q, NOTIFY_SOCKET %q", g.Env["LISTEN_FDNAMES"], g.Env["NOTIFY_SOCKET"])
			}
			if len(g.Descriptors) != 4 {
				t.Errorf("its descriptors are %v, want 0 to 3", g.Descriptors)
			}

			first, rest, err := box.Hold(address)
			if err != nil {
				t.Fatal(err)
			}
			box.Swap(t, path, "v2", "-status", "4")
			c.answers(t, address, "v2 generation 2 ")
			if text, err := rest(); err != nil || !strings.HasSuffix(text, "held until told to go\n") {
				t.Errorf("the request in flight of %q ended with %q, %v", first, text, err)
			}
			c.Signal("HUP")
			c.answers(t, address, "v2 generation 3 ")
			c.line(t, `app v2 generation 2 .* gone`)

			box.Swap(t, path, "v3", "-exit", "1")
			c.line(t, `^hotinit: generation 4 .*exited with status 1.*; generation 3 stays`)
			box.Swap(t, path, "v4", "-status", "5")
			c.answers(t, address, "v4 generation 5 ")
			c.line(t, `^hotinit: generation 5 is ready`) // a candidate answers before it is current

			if after := c.Identity(); after != before {
				t.Errorf("the container was %s and is %s", before, after)
			}
			if status := c.Stop(); status != 5 {
				t.Errorf("docker stop: status %d, want 5\n%s", status, c.Output)
			}
		})
	}
}

// given is what the app that serves was given.
func (c *Container) given(t *testing.T, address string) (g box.Given) {
	t.Helper()
	text, err := box.Get(address, "/given")
	if err == nil {
		err = json.Unmarshal([]byte(text), &g)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (c *Container) line(t *testing.T, pattern string) {
	t.Helper()
	if _, err := c.Output.Find(pattern); err != nil {
		t.Fatalf("%v\noutput:\n%s", err, c.Output)
	}
}

func TestSwapsUnderLoadLoseNothing(t *testing.T) {
	c, path, address := serve(t, ways[len(ways)-1].args)
	before := c.Identity()
	l := load.Start(load.Options{Address: address})
	generation := 1
	await := func(answered <-chan struct{}, what string) {
		t.Helper()
		if !box.Within(answered) {
			t.Fatalf("no answer of %s; %v\noutput:\n%s", what, l.Stop(), c.Output)
		}
	}
	for n := 2; n <= swaps+1; n++ {
		version := fmt.Sprintf("v%d ", n)
		answered := l.Answered(version)
		box.Swap(t, path, fmt.Sprintf("v%d", n))
		await(answered, version)
		generation++

		generation++
		version = fmt.Sprintf("v%d generation %d ", n, generation)
		answered = l.Answered(version)
		c.Signal("HUP")
		await(answered, version)
	}
	r := l.Stop()
	t.Log(r)
	if r.Losses() > 0 {
		t.Errorf("%v\noutput:\n%s", r, c.Output)
	}
	if after := c.Identity(); after != before {
		t.Errorf("the container was %s and is %s", before, after)
	}
	if status := c.Stop(); status != 0 {
		t.Errorf("docker stop: status %d, want 0\n%s", status, c.Output)
	}
}

// Each of these files in the place of the server leaves the old one serving.
func TestBadReleases(t *testing.T) {
	c, path, address := serve(t, nil)
	for n, bad := range []struct {
		name    string
		spoil   func(content []byte) ([]byte, os.FileMode)
		pattern string
	}{
		{"not executable", func(b []byte) ([]byte, os.FileMode) { return b, 0o644 }, `^hotinit: /app/server: not executable .mode 0644.; the running generation stays$`},
		{"truncated", func(b []byte) ([]byte, os.FileMode) { return b[:500_000], 0o755 }, `^hotinit: /app/server: truncated ELF file: .*; the running generation stays$`},
		{"of another machine", func(b []byte) ([]byte, os.FileMode) { b[18] = 243; return b, 0o755 }, `^hotinit: /app/server: ELF file for riscv64, .*; the running generation stays$`},
	} {
		content, err := box.Release("bad")
		if err != nil {
			t.Fatal(err)
		}
		content, mode := bad.spoil(content)
		if err := os.WriteFile(path+".new", content, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		c.line(t, bad.pattern)
		good := fmt.Sprintf("v%d", n+2)
		box.Swap(t, path, good)
		c.answers(t, address, good+" ")
	}
	c.Stop()
}

func TestAnAppThatIgnoresTERMIsKilled(t *testing.T) {
	c, _, _ := serve(t, []string{"-e", "HOTINIT_STOP_TIMEOUT=300ms"}, "-term", "ignore")
	if status := c.Stop(); status != 137 {
		t.Errorf("docker stop: status %d, want 137\n%s", status, c.Output)
	}
}

func TestTheHandoffIsKilledInAContainer(t *testing.T) {
	c, path, address := serve(t, ways[len(ways)-1].args)
	before := c.Identity()
	killHandoff(t, c)
	box.Swap(t, path, "v2")
	c.answers(t, address, "v2 generation 2 ")
	if after := c.Identity(); after != before {
		t.Errorf("the container was %s and is %s", before, after)
	}
	if status := c.Stop(); status != 0 {
		t.Errorf("docker stop: status %d, want 0\n%s", status, c.Output)
	}
}

// killHandoff finds the handoff from outside the container.
func killHandoff(t *testing.T, c *Container) {
	t.Helper()
	out := c.do("top", c.Name, "-o", "pid,args")
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) > 1 && fields[1] == "hotinit-handoff" {
			pid, err := strconv.Atoi(fields[0])
			if err != nil {
				t.Fatal(err)
			}
			p, err := os.FindProcess(pid)
			if err == nil {
				err = p.Kill()
			}
			if err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("there is no handoff:\n%s", out)
}

func TestOrphansInAContainer(t *testing.T) {
	c, _, address := serve(t, nil)
	const orphans = 5000
	if got, err := box.Get(address, fmt.Sprintf("/orphans?n=%d", orphans)); err != nil {
		t.Fatal(got, err)
	}
	if !box.Eventually(func() bool { return c.Processes() == 3 }) {
		t.Errorf("%d processes are left, want 3:\n%s", c.Processes(), c.do("top", c.Name))
	}
	c.Stop()
}

// ordinary builds a static server that binds its own port, as the examples'
// comments ask for.
func ordinary(t *testing.T, path string) {
	t.Helper()
	source := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(source, []byte(`package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
)

func main() {
	log.Fatal(http.ListenAndServe(":8080", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "generation", os.Getenv("HOTINIT_GENERATION"))
	})))
}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("go", "build", "-o", path, source)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", c, err, out)
	}
}

func TestComposeExample(t *testing.T) {
	box.Need(t, "docker", Missing())
	compose := []string{"docker", "compose"}
	if exec.Command("docker", "compose", "version").Run() != nil {
		if _, err := exec.LookPath("docker-compose"); err != nil {
			t.Skip("neither docker compose nor docker-compose is installed")
		}
		compose = []string{"docker-compose"}
	}
	img, err := image()
	if err != nil {
		t.Fatal(err)
	}
	project, dir := Name(), t.TempDir()
	ordinary(t, filepath.Join(dir, "server"))
	do := func(args ...string) {
		t.Helper()
		words := append(compose, "-p", project, "-f", "../../compose.example.yaml")
		c := exec.Command(words[0], append(words[1:], args...)...)
		c.Env = append(os.Environ(), "DOCKER_BUILDKIT=0", "APP="+dir, "ADDRESS=127.0.0.1:", "BASE=scratch", "BUILDER="+made[len(made)-1])
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", c, err, out)
		}
	}
	// The image that compose would build is there already, under its name.
	built := project + "_web"
	if compose[0] == "docker" {
		built = project + "-web"
	}
	if _, err := Do("tag", img, built); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Remove(built); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { do("down", "-v") })
	do("config", "-q")
	do("up", "-d", "--no-build")
	id, err := Do("ps", "-q", "--filter", "label=com.docker.compose.project="+project)
	if err != nil {
		t.Fatal(err)
	}
	address, err := Do("port", id, "8080/tcp")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := box.Answers(address, "generation 1"); err != nil {
		t.Fatal(err)
	}
	do("kill", "-s", "HUP", "web")
	if _, err := box.Answers(address, "generation 2"); err != nil {
		t.Fatal(err)
	}
}
