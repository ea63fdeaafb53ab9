package release

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAPrivateCopyGoesWithItsHotinit(t *testing.T) {
	dir := t.TempDir()
	a, err := MakePrivate(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := CopyTree(grown(t), a, CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	b, err := MakePrivate(dir, false) // sweeps
	if err != nil {
		t.Fatal(err)
	}
	defer b.Remove()
	if _, err := os.Stat(a.Path + "/tree/server.js"); err != nil {
		t.Errorf("a copy that is used was removed: %v", err)
	}
	unix.Close(a.FD) // as if it were killed
	c, err := MakePrivate(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	c.Remove()
	if left, _ := filepath.Glob(dir + "/.hotinit-copy-*"); len(left) != 1 || left[0] != b.Path {
		t.Errorf("left: %v", left)
	}
}

// A link that leads to where the copy will be leads into the copy, and out of the
// original: it cannot be the same in both, however often it is copied.
func TestACopyThatCannotBeTheSameSaysWhatDiffers(t *testing.T) {
	tree := grown(t)
	p, err := MakePrivate(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Remove()
	if err := os.Symlink(p.Path+"/tree/server.js", tree.Root+"/lib/there"); err != nil {
		t.Fatal(err)
	}
	_, _, err = CopyTree(tree, p, CopyOptions{})
	if err == nil || errors.Is(err, ErrTorn) || errors.Is(err, unix.EAGAIN) || !strings.Contains(err.Error(), "lib/there has ") {
		t.Error(err)
	}
}

func TestACopyOfAFileStandsForIt(t *testing.T) {
	_, f := one(t, script("x"))
	p, err := MakePrivate(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Remove()
	path, err := f.CopyFile(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := f.InCopy(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Name() != f.Name() || !c.Same(f.Release) {
		t.Errorf("%+v", c.Release)
	}
	os.WriteFile(path, []byte(script("y")), 0o755)
	if _, err := f.InCopy(path, nil); err == nil {
		t.Error("another content stands for it")
	}
}
