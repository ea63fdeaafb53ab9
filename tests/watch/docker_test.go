package watch

import (
	"archive/tar"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/tests/docker"
)

// image makes one of hotinit and release v1, and nothing else.
func image(t *testing.T) string {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "image.tar")
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	add := func(name string, content []byte, err error) {
		t.Helper()
		if err == nil {
			err = w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg})
		}
		if err == nil {
			_, err = w.Write(content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	hotinit, err := os.ReadFile(box.Hotinit)
	add("hotinit", hotinit, err)
	server, err := box.Release("v1")
	add("srv/server", server, err)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	name := docker.Name()
	if _, err := docker.Do("import", archive, name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := docker.Remove(name); err != nil {
			t.Log(err)
		}
	})
	return name
}

// Into the container's own file system, an overlay whose lower layer has the
// first release, and into a directory of the host that is mounted there.
func TestDockerCp(t *testing.T) {
	box.Need(t, "docker", docker.Missing())
	img := image(t)
	for _, c := range []struct{ name, path string }{
		{"overlay", "/srv/server"},
		{"bind mount", "/app/server"},
	} {
		t.Run(c.name, func(t *testing.T) {
			volume, from := t.TempDir(), t.TempDir()
			box.Install(t, filepath.Join(volume, "server"), "v1")
			run := docker.Run(t, img, volume, []string{"-e", "HOTINIT_PORTS=8080"}, "/hotinit", "--", c.path)
			address := run.Address()
			for n := 1; n <= 4; n++ {
				if n > 1 {
					path := filepath.Join(from, "server")
					box.Swap(t, path, fmt.Sprintf("v%d", n))
					if _, err := docker.Do("cp", path, run.Name+":"+c.path); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := box.Answers(address, fmt.Sprintf("v%d generation %d ", n, n)); err != nil {
					t.Fatalf("%v\n%s", err, run.Output)
				}
			}
			if status := run.Stop(); status != 0 {
				t.Errorf("status %d, want 0", status)
			}
		})
	}
}
