package watch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/release"
)

// layout makes a release directory with a server in it.
func (r *rig) layout(sub, content string) {
	r.t.Helper()
	dir := filepath.Join(r.dir, sub)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		r.t.Fatal(err)
	}
	r.write(filepath.Join(dir, "server"), content)
}

func TestWaysThatAPathMayChange(t *testing.T) {
	second := script("second")
	for _, c := range []struct {
		name, before, command, swap string
		after                       string // where the next release goes
	}{
		{"ln -sfn releases/43 current", `ln -s releases/42 current`, "current/server", `ln -sfn releases/43 current`, "releases/43/server"},
		{"ln -s and mv -T", `ln -s releases/42 current`, "current/server", `ln -s releases/43 next; mv -T next current`, "releases/43/server"},
		{"absolute link", `ln -s "$PWD/releases/42" current`, "current/server", `ln -sfn "$PWD/releases/43" current`, "releases/43/server"},
		{"link to the file", `ln -s releases/42/server server`, "server", `ln -sf releases/43/server server`, "releases/43/server"},
		{"file replaced behind the link", `ln -s releases/42 current`, "current/server", `mv releases/43/server releases/42/server`, "releases/42/server"},
		{"first of three relative links", `ln -s b/two one; mkdir b c; ln -s ../c/three b/two; ln -s ../releases/42 c/three`, "one/server", `ln -sfn releases/43 one`, "releases/43/server"},
		{"second of three relative links", `ln -s b/two one; mkdir b c; ln -s ../c/three b/two; ln -s ../releases/42 c/three`, "one/server", `ln -sfn ../releases/43 b/two`, "releases/43/server"},
		{"third of three relative links", `ln -s b/two one; mkdir b c; ln -s ../c/three b/two; ln -s ../releases/42 c/three`, "one/server", `ln -sfn ../releases/43 c/three`, "releases/43/server"},
		{"..data swapped", `mv releases/42 ..1; mv releases/43 ..2; ln -s ..1 ..data; ln -s ..data/server server`, "server", `ln -s ..2 ..data_tmp; mv -T ..data_tmp ..data; rm -r ..1`, "..2/server"},
		{"parent directory renamed and replaced", `mv releases/42 app`, "app/server", `mv app old; mv releases/43 app`, "app/server"},
		{"grandparent renamed and replaced", `mkdir -p a/b x/b; mv releases/42/server a/b; mv releases/43/server x/b`, "a/b/server", `mv a old; mv x a`, "a/b/server"},
		{"directory removed and made again", `mv releases/42 app`, "app/server", `rm -r app; mkdir app; cp -p releases/43/server app/server`, "app/server"},
		{"path with ..", `mkdir d; mv releases/42 app`, "d/../app/./server", `mv releases/43/server app/server`, "app/server"},
		{"link over ..", `mkdir -p d/e; ln -s d/e link; mv releases/42 d/app`, "link/../app/server", `mv releases/43/server d/app/server`, "d/app/server"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, rigOptions{dir: t.TempDir(), prepare: func(r *rig) {
				r.path = r.dir + "/" + c.command
				r.layout("releases/42", script("first"))
				r.layout("releases/43", second)
				r.sh(c.before)
			}})
			r.sh(c.swap)
			r.release(second)
			// And the new way is watched as the old one was.
			third := script("third")
			r.deploy(filepath.Join(r.dir, c.after), third)
			r.release(third)
			if n := len(r.events); n > 0 {
				t.Fatalf("%d events too many", n)
			}
		})
	}
}

func TestADirectoryThatDoesNotExistYetIsWaitedFor(t *testing.T) {
	r := &rig{t: t, dir: t.TempDir(), events: make(chan Event, 10), looks: make(chan conclusion, 1000), logs: make(chan string, 10)}
	r.path = filepath.Join(r.dir, "a/b/c/server")
	r.start(Options{Command: r.path}, calls{}, func(l *loop) {
		go l.Running(release.Release{Digest: release.Digest{1}})
		r.verdict(verdictRefuse)
	})
	r.log("was removed")
	r.sh(`mkdir -p a/b/c`)
	r.write(r.path, script("at last"))
	r.release(script("at last"))
}

// What the program loads later lies beside it, so the same bytes in another
// directory are another release, also where both names are one file's.
func TestATurnedLinkIsNewsWhateverTheBytes(t *testing.T) {
	for _, copy := range []string{"cp -p", "ln"} {
		t.Run(copy, func(t *testing.T) {
			r := newRig(t, rigOptions{dir: t.TempDir(), prepare: func(r *rig) {
				r.path = r.dir + "/current/server"
				r.layout("1", script("first"))
				r.sh(`mkdir 2; ` + copy + ` 1/server 2/server; ln -s 1 current`)
			}})
			r.sh(`ln -sfn 2 current`)
			if e := r.release(script("first")); filepath.Base(filepath.Dir(e.Release.Real)) != "2" {
				t.Errorf("the new release is %s", e.Release.Real)
			}
			r.only()
		})
	}
}

func TestAnotherWayToTheSameFileIsNothing(t *testing.T) {
	r := newRig(t, rigOptions{dir: t.TempDir(), prepare: func(r *rig) {
		r.path = r.dir + "/current/server"
		r.layout("1", script("first"))
		r.sh(`ln -s 1 one; ln -s 1 current`)
	}})
	r.sh(`ln -sfn one current`)
	r.only()
}

func TestWalkNamesEveryDirectoryAndLinkOnTheWay(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := rig{t: t, dir: dir}
	r.layout("releases/42", "x")
	r.sh(`ln -s releases/42 current`)
	w := walk(dir + "/current/server")
	var got []string
	for _, n := range w.needs {
		if strings.HasPrefix(n.path, dir) && n.role != roleChecksum {
			got = append(got, strings.TrimPrefix(n.path, dir)+":"+n.name)
		}
	}
	want := ":current :releases /releases:42 /releases/42:server"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("waits for %q, want %q", s, want)
	}
	if w.real != dir+"/releases/42/server" || w.file == (release.Stamp{}) || w.fault != "" {
		t.Errorf("%+v", w)
	}
}
