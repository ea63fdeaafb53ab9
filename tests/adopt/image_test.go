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

// The example in examples/any-image, with the command of its README.
func TestAnyImage(t *testing.T) {
	box.Need(t, "docker", docker.Missing())
	context := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(context, "bin/server"), ".")
	build.Dir, build.Env = "../../examples/any-image/server", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	image := docker.Name()
	if _, err := docker.Do("build", "-q", "-t", image, "-f", "../../examples/any-image/Dockerfile", context); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = docker.Remove(image) })
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
