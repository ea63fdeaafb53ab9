package adopt

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/load"
	"github.com/hotinit/hotinit/tests/docker"
)

// anyImage builds the image of examples/any-image. It returns its name, and where
// its server is.
func anyImage(t *testing.T) (image, server string) {
	t.Helper()
	box.Need(t, "docker", docker.Missing())
	context := t.TempDir()
	server = filepath.Join(context, "bin/server")
	build := exec.Command("go", "build", "-o", server, ".")
	build.Dir, build.Env = "../../examples/any-image/server", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	image = docker.Name()
	if _, err := docker.Do("build", "-q", "-t", image, "-f", "../../examples/any-image/Dockerfile", context); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = docker.Remove(image) })
	return image, server
}

// The example in examples/any-image, with the command of its README.
func TestAnyImage(t *testing.T) {
	image, _ := anyImage(t)
	c := docker.Run(t, image, t.TempDir(), []string{"-v", box.Hotinit + ":/hotinit:ro", "--entrypoint", "/hotinit"}, "--", "/server")
	address := c.Address()
	if _, err := box.Answers(address, "generation 1"); err != nil {
		t.Fatalf("%v\noutput:\n%s", err, c.Output)
	}
	l := load.Start(load.Options{Address: address})
	for _, want := range []string{"generation 2", "generation 3", "generation 4"} {
		answered := l.Answered(want)
		c.Signal("HUP")
		if !box.Within(answered) {
			t.Fatalf("no answer of %s; output:\n%s", want, c.Output)
		}
	}
	r := l.Stop()
	t.Log(r)
	// Its own drops: at most the request of each of the six workers, each time.
	if r.Lost[load.Refused] > 0 || r.Losses() > 3*6 {
		t.Errorf("%v", r)
	}
	c.Stop()
}

// A broken release on the volume: the old one goes on, and nothing is lost.
func TestABadReleaseInAnyImage(t *testing.T) {
	image, server := anyImage(t)
	content, err := os.ReadFile(server)
	if err != nil {
		t.Fatal(err)
	}
	app := t.TempDir()
	deploy := func(content []byte) {
		t.Helper()
		path := filepath.Join(app, "server")
		err := os.WriteFile(path+".new", content, 0o755)
		if err == nil {
			err = os.Rename(path+".new", path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	deploy(content)
	c := docker.Run(t, image, app, []string{"-v", box.Hotinit + ":/hotinit:ro", "--entrypoint", "/hotinit"}, "--", "/app/server")
	address := c.Address()
	if _, err := box.Answers(address, "generation 1"); err != nil {
		t.Fatalf("%v\noutput:\n%s", err, c.Output)
	}
	if _, err := c.Output.Find(`generation 1 is ready`); err != nil {
		t.Fatalf("%v\noutput:\n%s", err, c.Output)
	}
	l := load.Start(load.Options{Address: address})
	box.Swap(t, filepath.Join(app, "server"), "broken", "-exit", "3")
	if _, err := c.Output.Find(`generation 2 failed.*: exited with status 3; generation 1 stays`); err != nil {
		t.Errorf("%v\noutput:\n%s", err, c.Output)
	}
	<-l.After(100)
	r := l.Stop()
	t.Logf("requests lost: %d; %v", r.Losses(), r)
	if r.Losses() > 0 || r.Last != "generation 1" {
		t.Errorf("%v; the last answer was %q", r, r.Last)
	}
	deploy(append(content, '\n'))
	if _, err := box.Answers(address, "generation 3"); err != nil {
		t.Errorf("%v\noutput:\n%s", err, c.Output)
	}
	c.Stop()
}
