package sockets

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// kept binds a unix socket below dir and keeps its file.
func kept(t *testing.T, dir string) (f *File, path string) {
	t.Helper()
	path = filepath.Join(dir, "app.sock")
	fd, err := Bind(Spec{Network: UnixStream, Path: path, FD: -1, Mode: 0o600}, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if f, err = KeepFile(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(f.FD) })
	if lost := f.Lost(); lost != "" {
		t.Fatalf("the file that was just made %s", lost)
	}
	return f, path
}

func TestAFileIsPutBackFromItsSecondName(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(t *testing.T, path string)
		lost string
	}{
		"removed": {func(t *testing.T, path string) { os.Remove(path) }, "was removed"},
		"renamed": {func(t *testing.T, path string) { os.Rename(path, path+".old") }, "was removed"},
		"replaced by a file": {func(t *testing.T, path string) {
			os.Remove(path)
			os.WriteFile(path, nil, 0o644)
		}, "was replaced by another file"},
		"replaced by a link": {func(t *testing.T, path string) {
			os.Remove(path)
			os.Symlink("/etc/passwd", path)
		}, "was replaced by another file"},
		"in the way is what a killed hotinit left": {func(t *testing.T, path string) {
			os.Remove(path)
			os.WriteFile(path, nil, 0o644)
			l, err := net.Listen("unix", filepath.Join(filepath.Dir(path), secondName("app.sock")+".new"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
		}, "was replaced by another file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f, path := kept(t, dir)
			c.do(t, path)
			if lost := f.Lost(); lost != c.lost {
				t.Errorf("it %q, want %q", lost, c.lost)
			}
			if err := f.PutBack(); err != nil {
				t.Fatal(err)
			}
			if lost := f.Lost(); lost != "" {
				t.Errorf("it was put back, and %s", lost)
			}
			if conn, err := net.Dial("unix", path); err != nil {
				t.Error(err)
			} else {
				conn.Close()
			}
			f.Forget()
			if _, err := os.Lstat(filepath.Join(dir, secondName("app.sock"))); err == nil {
				t.Error("the second name is left")
			}
		})
	}
}

func TestAFileThatCannotBePutBackSaysWhy(t *testing.T) {
	mounted := func(t *testing.T, dir string) {
		if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
			t.Skipf("needs the right to mount: %v", err)
		}
		t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	}
	for name, c := range map[string]struct {
		before, do func(t *testing.T, dir string)
		want       string
	}{
		"no name is left": {nil, func(t *testing.T, dir string) {
			os.Remove(filepath.Join(dir, "app.sock"))
			os.Remove(filepath.Join(dir, secondName("app.sock")))
		}, "no name of the file is left"},
		"the directory is gone": {nil, func(t *testing.T, dir string) { os.Rename(dir, dir+".old") }, "no such file"},
		"a directory is in its place": {nil, func(t *testing.T, dir string) {
			os.Remove(filepath.Join(dir, "app.sock"))
			os.Mkdir(filepath.Join(dir, "app.sock"), 0o755)
		}, "is a directory"},
		"another file system is mounted over it": {nil, mounted, "another file system"},
		"the file system is read-only": {mounted, func(t *testing.T, dir string) {
			os.Remove(filepath.Join(dir, "app.sock"))
			if err := unix.Mount("none", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
		}, "read-only"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "run")
			os.Mkdir(dir, 0o755)
			if c.before != nil {
				c.before(t, dir)
			}
			f, _ := kept(t, dir)
			c.do(t, dir)
			if f.Lost() == "" {
				t.Error("it is not lost")
			}
			if err := f.PutBack(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("put back: %v, want %s", err, c.want)
			}
		})
	}
}
