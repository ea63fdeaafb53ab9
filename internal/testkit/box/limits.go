package box

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
)

// A Controller is a cgroup with one controller, of v1 or v2.
type Controller struct {
	T   *testing.T
	Dir string
}

var controllers atomic.Int64

// NewController makes a cgroup that has a file, and removes it in the end. The test is
// skipped where there is none to be had.
func NewController(t *testing.T, v1 string, files ...string) *Controller {
	t.Helper()
	name := fmt.Sprintf("hotinit-test-%d-%d", os.Getpid(), controllers.Add(1))
	for _, root := range []string{"/sys/fs/cgroup/" + v1, "/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		dir := filepath.Join(root, name)
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			if !Eventually(func() bool { return os.Remove(dir) == nil }) {
				t.Errorf("cannot remove %s", dir)
			}
		})
		for _, file := range files {
			if _, err := os.Stat(filepath.Join(dir, file)); err == nil {
				return &Controller{t, dir}
			}
		}
	}
	t.Skipf("there is no cgroup with the controller %s to be had", v1)
	return nil
}

// Write writes to the first of the files that is there.
func (c *Controller) Write(text string, files ...string) {
	c.T.Helper()
	for _, file := range files {
		path := filepath.Join(c.Dir, file)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0); err != nil {
			c.T.Fatal(err)
		}
		return
	}
	c.T.Fatalf("%s has none of %q", c.Dir, files)
}

// Take moves processes into it.
func (c *Controller) Take(pids ...int) {
	c.T.Helper()
	for _, pid := range pids {
		c.Write(strconv.Itoa(pid), "cgroup.procs")
	}
}

// Read reads a file.
func (c *Controller) Read(file string) string {
	c.T.Helper()
	b, err := os.ReadFile(filepath.Join(c.Dir, file))
	if err != nil {
		c.T.Fatal(err)
	}
	return string(b)
}
