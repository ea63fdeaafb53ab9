package release

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// site makes two releases and the link "current" to the first.
func site(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"1", "2"} {
		if err := os.MkdirAll(filepath.Join(dir, "releases", n, "bin"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"server.js", "server", "bin/python"} {
			put(t, filepath.Join(dir, "releases", n, name), script("x"), 0o755)
		}
	}
	turn(t, dir, "releases/1")
	return dir
}

func turn(t *testing.T, dir, to string) {
	t.Helper()
	os.Remove(filepath.Join(dir, "new"))
	if err := os.Symlink(to, filepath.Join(dir, "new")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "current")); err != nil {
		t.Fatal(err)
	}
}

func TestACommandIsResolvedAsTheKernelWould(t *testing.T) {
	dir := site(t)
	if err := os.Symlink("releases/1/server", dir+"/app"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir+"/current/server", dir+"/server"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		in     Command
		script int
		want   Command
		target string
	}{
		{"a script through a link",
			Command{"/usr/bin/node", []string{"node", "D/current/server.js", "--config=D/current/c.json", "D/currently", "current"}, "/"}, 1,
			Command{"/usr/bin/node", []string{"node", "D/releases/1/server.js", "--config=D/releases/1/c.json", "D/currently", "current"}, "/"},
			"D/releases/1/server.js"},
		{"a relative script in a working directory that is a link",
			Command{"/usr/bin/node", []string{"node", "server.js", "-p", "80"}, "D/current"}, 1,
			Command{"/usr/bin/node", []string{"node", "D/releases/1/server.js", "-p", "80"}, "D/releases/1"},
			"D/releases/1/server.js"},
		{"a relative script through a link",
			Command{"/usr/bin/node", []string{"node", "current/server.js", "current/x", "other/x"}, "D"}, 1,
			Command{"/usr/bin/node", []string{"node", "D/releases/1/server.js", "D/releases/1/x", "other/x"}, "D"},
			"D/releases/1/server.js"},
		{"an interpreter of the release itself",
			Command{"D/current/bin/python", []string{"D/current/bin/python", "D/current/server.js"}, "/"}, 1,
			Command{"D/releases/1/bin/python", []string{"D/releases/1/bin/python", "D/releases/1/server.js"}, "/"},
			"D/releases/1/server.js"},
		{"an executable through a link",
			Command{"D/current/server", []string{"D/current/server"}, "/"}, -1,
			Command{"D/releases/1/server", []string{"D/releases/1/server"}, "/"},
			"D/releases/1/server"},
		{"a link to a link",
			Command{"D/server", []string{"D/server"}, "/"}, -1,
			Command{"D/releases/1/server", []string{"D/releases/1/server"}, "/"},
			"D/releases/1/server"},
		{"a program with many names",
			Command{"D/app", []string{"D/app", "x"}, "/"}, -1,
			Command{"D/releases/1/server", []string{"D/app", "x"}, "/"},
			"D/releases/1/server"},
		{"found in PATH",
			Command{"D/current/server", []string{"server"}, "/"}, -1,
			Command{"D/releases/1/server", []string{"server"}, "/"},
			"D/releases/1/server"},
		{"no link at all",
			Command{"D/releases/2/server", []string{"D/releases/2/server", "a/b", ""}, "D"}, -1,
			Command{"D/releases/2/server", []string{"D/releases/2/server", "a/b", ""}, "D"},
			"D/releases/2/server"},
		{"nothing there",
			Command{"D/current/none", []string{"D/current/none"}, "/"}, -1,
			Command{"D/releases/1/none", []string{"D/releases/1/none"}, "/"},
			"D/releases/1/none"},
	} {
		put := func(c Command) Command {
			m := []Move{{"D", dir}}
			c.Dir = move(c.Dir, m)
			c.Path = move(c.Path, m)
			argv := make([]string, len(c.Argv))
			for i, a := range c.Argv {
				argv[i] = a
				if len(a) > 1 && a[:2] == "D/" {
					argv[i] = dir + a[1:]
				} else if len(a) > 11 && a[:11] == "--config=D/" {
					argv[i] = "--config=" + dir + a[10:]
				}
			}
			c.Argv = argv
			return c
		}
		got, target := put(c.in).Resolve(c.script)
		if want := put(c.want); !reflect.DeepEqual(got, want) || target != move(c.target, []Move{{"D", dir}}) {
			t.Errorf("%s: %+v, %s\nwant %+v, %s", c.name, got, target, want, c.target)
		}
	}
}

func TestAResolvedCommandStaysWhenTheLinkIsTurned(t *testing.T) {
	dir := site(t)
	c := Command{"/usr/bin/node", []string{"node", dir + "/current/server.js"}, dir + "/current"}
	before, _ := c.Resolve(1)
	turn(t, dir, "releases/2")
	after, _ := c.Resolve(1)
	if before.Dir != dir+"/releases/1" || after.Dir != dir+"/releases/2" || before.Argv[1] == after.Argv[1] {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

func TestATurnedLinkIsANewReleaseWhateverTheBytes(t *testing.T) {
	dir := site(t)
	path := dir + "/current/server"
	a, err := Open(path, CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := os.Remove(dir + "/releases/2/server"); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(dir+"/releases/1/server", dir+"/releases/2/server"); err != nil { // as rsync --link-dest does
		t.Fatal(err)
	}
	turn(t, dir, "releases/2")
	b, err := Open(path, CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if a.Same(b.Release) || a.Name() == b.Name() {
		t.Errorf("%+v is the same as %+v", a.Release, b.Release)
	}
	if b.Real != dir+"/releases/2/server" {
		t.Errorf("it was opened as %s", b.Real)
	}
}
