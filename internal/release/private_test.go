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
	a, err := MakePrivate(Place{Dir: dir, Exec: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := CopyTree(grown(t), a, CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	b, err := MakePrivate(Place{Dir: dir, Exec: true}) // sweeps
	if err != nil {
		t.Fatal(err)
	}
	defer b.Remove()
	if _, err := os.Stat(a.Path + "/tree/server.js"); err != nil {
		t.Errorf("a copy that is used was removed: %v", err)
	}
	unix.Close(a.FD) // as if it were killed
	c, err := MakePrivate(Place{Dir: dir, Exec: true})
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
	p, err := MakePrivate(Place{Dir: t.TempDir(), Exec: true})
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

// As docker run --tmpfs mounts it.
func TestACopyThatIsOnlyReadMayBeWhereNothingCanBeExecuted(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "mount")
	os.Mkdir(dir, 0o755)
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOEXEC, "mode=1777"); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	if _, err := MakePrivate(Place{Dir: dir, Exec: true}); err == nil || !strings.Contains(err.Error(), "mounted noexec (it needs a directory to write to: docker run --tmpfs /tmp:exec") {
		t.Errorf("what is executed from it: %v", err)
	}
	p, err := MakePrivate(Place{Dir: dir})
	if err != nil || !p.NoExec {
		t.Fatalf("what is only read: %+v, %v", p, err)
	}
	p.Remove()
	if p, err = MakePrivate(Place{Dir: t.TempDir()}); err != nil || p.NoExec {
		t.Fatalf("elsewhere: %+v, %v", p, err)
	}
	p.Remove()
}

func TestWhatExecutesInADirectory(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	put(t, root+"/server", script("x"), 0o755)
	if err := os.Symlink("/bin/sh", root+"/python"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{root + "/server": true, "./server": true, root + "/python": false, "/bin/sh": false} {
		c := Command{Path: path, Argv: []string{path, root + "/server"}, Dir: root}
		if got := c.ExecutesIn(root); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

func TestACopyOfAFileStandsForIt(t *testing.T) {
	_, f := one(t, script("x"))
	p, err := MakePrivate(Place{Dir: t.TempDir(), Exec: true})
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
