package release

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSnapshotSurvivesOverwritingInPlace(t *testing.T) {
	for _, where := range []string{"memory", "directory", "another file system"} {
		t.Run(where, func(t *testing.T) {
			dir := ""
			switch where {
			case "directory":
				dir = t.TempDir()
			case "another file system":
				d, err := os.MkdirTemp("/dev/shm", "hotinit-watch")
				if err != nil {
					t.Skip("no /dev/shm")
				}
				t.Cleanup(func() { os.RemoveAll(d) })
				dir = d
			}
			program, err := os.ReadFile("/bin/true")
			if err != nil {
				t.Skip("no /bin/true")
			}
			p := put(t, filepath.Join(t.TempDir(), "server"), string(program), 0o755)
			f, err := Open(p, CheckOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			c, err := Snapshot(f, dir, false)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if c.Release != f.Release {
				t.Errorf("it stands for another release: %+v", c.Release)
			}
			if err := os.WriteFile(p, []byte("overwritten"), 0o755); err != nil {
				t.Fatal(err)
			}
			if d, err := digest(c.FD(), nil); err != nil || d != f.Digest {
				t.Fatalf("the copy is %s, %v", d, err)
			}
			if dir != "" {
				if left, _ := os.ReadDir(dir); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
			}
			// It runs, and no writer of ours makes it busy.
			out, err := exec.Command(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), c.FD())).CombinedOutput()
			if err != nil {
				t.Errorf("the copy does not run: %v\n%s", err, out)
			}
		})
	}
}

func TestSnapshotNoticesAChangedOriginal(t *testing.T) {
	p := put(t, filepath.Join(t.TempDir(), "server"), script("x"), 0o755)
	f, err := Open(p, CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	os.WriteFile(p, []byte(script("y")), 0o755)
	if c, err := Snapshot(f, "", false); err == nil {
		c.Close()
		t.Fatal("copied what was not checked")
	}
}

func TestSnapshotInMemoryIsSealed(t *testing.T) {
	p := put(t, filepath.Join(t.TempDir(), "server"), script("x"), 0o755)
	f, err := Open(p, CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := Snapshot(f, "", false)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := unix.Write(c.FD(), []byte("x")); !errors.Is(err, unix.EPERM) {
		t.Errorf("writing to it: %v", err)
	}
}

func TestSnapshotIntoNoDirectory(t *testing.T) {
	p := put(t, filepath.Join(t.TempDir(), "server"), script("x"), 0o755)
	f, err := Open(p, CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Snapshot(f, "/nowhere", false); !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v", err)
	}
}
