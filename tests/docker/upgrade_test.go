package docker

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/load"
)

// Another hotinit takes over in a running container, from an ordinary one to one
// that may do nothing, and nobody notices.
func TestAHotinitOnAVolumeTakesOver(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			c, path, address := serve(t, way.args, "-status", "3")
			before := c.Identity()
			dir := filepath.Dir(path)
			build := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, "hotinit"), "-ldflags",
				"-s -w -E hotinit_entry -X github.com/hotinit/hotinit/internal/version.Number=99.0.0", "github.com/hotinit/hotinit/cmd/hotinit")
			build.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			first := c.given(t, address)
			l := load.Start(load.Options{Address: address})
			for range 3 {
				if got := strings.TrimSpace(c.do("exec", c.Name, "hotinit", "upgrade", "/app/hotinit")); got != "hotinit 99.0.0 runs" {
					t.Errorf("%s", got)
				}
			}
			if got := c.do("exec", c.Name, "hotinit", "status", "--json"); !strings.Contains(got, `"version": "99.0.0"`) {
				t.Errorf("%s", got)
			}
			if got := c.given(t, address); got.PID != first.PID {
				t.Errorf("the app was process %d, and is %d", first.PID, got.PID)
			}
			box.Swap(t, path, "v2", "-status", "4")
			c.answers(t, address, "v2 generation 2 ")
			if r := l.Stop(); r.Losses() > 0 || r.Done == 0 {
				t.Errorf("%v\noutput:\n%s", r, c.Output)
			}
			if got := c.Identity(); got != before {
				t.Errorf("the container was %s, and is %s", before, got)
			}
			c.line(t, `generation 2 is ready`)
			if status := c.Stop(); status != 4 {
				t.Errorf("it ended with status %d, want 4\noutput:\n%s", status, c.Output)
			}
		})
	}
}
