package watch

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/gitignore"
	"github.com/hotinit/hotinit/internal/release"
)

// newTree watches patterns in a fresh directory that prepare has filled.
func newTree(t *testing.T, prepare string, o Options) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), events: make(chan Event, 1000), looks: make(chan conclusion, 1), sweeps: make(chan scan, 10000), logs: make(chan string, 100), clock: &clock{}}
	r.sh(prepare)
	for i := range o.Paths {
		o.Paths[i].Pattern = filepath.Join(r.dir, o.Paths[i].Pattern)
	}
	r.start(o, calls{}, func(l *loop) {})
	r.swept()
	return r
}

// swept waits until each tree was gone through.
func (r *rig) swept() {
	r.t.Helper()
	for range r.loop.trees {
		select {
		case <-r.sweeps:
		case <-time.After(patience):
			r.t.Fatal("no sweep")
		}
	}
}

// resweep waits until each tree was gone through once more, from now on.
func (r *rig) resweep() {
	r.t.Helper()
	for len(r.sweeps) > 0 {
		<-r.sweeps
	}
	r.loop.notes <- []note{{target: overflow}}
	r.swept()
}

func (r *rig) changed(what string) Event {
	r.t.Helper()
	e := r.event()
	if e.Kind != PathsChanged || what != "" && e.What != filepath.Join(r.dir, what) {
		r.t.Fatalf("%+v, want a change of %s", e, what)
	}
	return e
}

// onlyPaths makes one more change and checks that its event is the next.
func (r *rig) onlyPaths(file string) {
	r.t.Helper()
	r.sh(`echo the last one >>"$1"`, file)
	r.changed(file)
	if n := len(r.events); n > 0 {
		r.t.Fatalf("%d events too many, the first: %+v", n, <-r.events)
	}
}

func TestTreeChangesThatCount(t *testing.T) {
	const tree = `mkdir -p app/a/b; echo x >app/x.py; echo y >app/a/b/y.py; echo 1 >app/.env; mkdir other; echo z >other/z; ln -s ../other/z app/link; ln -s a app/to-a`
	for _, c := range []struct{ name, line, what string }{
		{"a file written", `echo more >>app/x.py`, "app/x.py"},
		{"a file deep below", `echo more >>app/a/b/y.py`, "app/a/b/y.py"},
		{"a hidden file", `echo more >>app/.env`, "app/.env"},
		{"a file renamed over", `echo new >new; mv new app/x.py`, "app/x.py"},
		{"a new file", `echo n >app/n.py`, "app/n.py"},
		{"a new empty directory", `mkdir app/n`, "app/n"},
		{"a file in a new directory in a new directory", `mkdir -p app/n/m; echo n >app/n/m/n.py`, ""},
		{"a file removed", `rm app/x.py`, "app"},
		{"a directory removed", `rm -r app/a`, "app"},
		{"a directory renamed", `mv app/a app/c`, ""},
		{"the directory replaced", `cp -r app app2; echo more >>app2/x.py; mv app old; mv app2 app`, ""},
		{"a link turned", `ln -sfn .. app/to-a`, "app/to-a"},
		{"an editor's save with backup", `cp app/x.py app/x.py~; echo e >app/4913; rm app/4913; echo new >app/.x.py.swp; mv app/.x.py.swp app/x.py`, "app/x.py"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newTree(t, tree, Options{Paths: []Path{{Pattern: "app"}}})
			r.sh(c.line)
			r.changed(c.what)
			r.sh(`mkdir -p app/a/b`)
			for len(r.events) > 0 {
				<-r.events
			}
		})
	}
}

func TestTreeNothingHappensForASocket(t *testing.T) {
	r := newTree(t, `mkdir app; echo x >app/x.py`, Options{Paths: []Path{{Pattern: "app"}}})
	l, err := net.Listen("unix", filepath.Join(r.dir, "app", "s"))
	if err != nil {
		t.Fatal(err)
	}
	r.resweep()
	l.Close() // removes it
	r.resweep()
	r.onlyPaths("app/x.py")
}

func TestTreeNothingHappensFor(t *testing.T) {
	const tree = `mkdir -p app/a/b app/.git app/__pycache__; echo x >app/x.py; echo y >app/a/b/y.py`
	for _, c := range []struct{ name, line string }{
		{"touch", `touch app/x.py app/a/b/y.py`},
		{"chmod", `chmod 600 app/x.py`},
		{"the same bytes", `echo x >app/x.py`},
		{"the same bytes renamed over", `cp app/x.py t; mv t app/x.py`},
		{"reading", `cat app/x.py app/a/b/y.py`},
		{"what is ignored by default", `echo 1 >app/.git/index; echo 1 >app/__pycache__/x.pyc; echo 1 >app/x.py~; echo 1 >app/.x.py.swp`},
		{"what is ignored by pattern", `mkdir app/tmp; echo 1 >app/tmp/x; echo 1 >app/x.log`},
		{"a file made and removed", `echo 1 >app/n; rm app/n`},
		{"a FIFO", `mkfifo app/f`},
		{"what is beside", `echo 1 >beside; mkdir b`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newTree(t, tree, Options{Paths: []Path{{Pattern: "app"}}, Ignore: []string{"*.log", "/tmp/"}})
			r.sh(c.line)
			r.resweep()
			r.onlyPaths("app/x.py")
		})
	}
}

func TestTreeGlob(t *testing.T) {
	const tree = `mkdir -p conf/d; echo 1 >conf/a.yaml; echo 1 >conf/b.txt; echo 1 >conf/d/c.yaml`
	for _, c := range []struct {
		glob, file string
		counts     bool
	}{
		{"conf/*.yaml", "conf/a.yaml", true},
		{"conf/*.yaml", "conf/new.yaml", true},
		{"conf/*.yaml", "conf/b.txt", false},
		{"conf/*.yaml", "conf/d/c.yaml", false},
		{"conf/**/*.yaml", "conf/a.yaml", true},
		{"conf/**/*.yaml", "conf/d/c.yaml", true},
		{"conf/**/*.yaml", "conf/b.txt", false},
		{"c*/d", "conf/d/c.yaml", true},
		{"c*/d", "conf/d/deeper.txt", true},
		{"conf/[ab].*", "conf/b.txt", true},
	} {
		t.Run(c.glob+" "+c.file, func(t *testing.T) {
			r := newTree(t, tree, Options{Paths: []Path{{Pattern: c.glob}}})
			r.sh(`echo more >>"$1"`, c.file)
			if !c.counts {
				r.resweep()
				c.file = map[string]string{"conf/*.yaml": "conf/a.yaml", "conf/**/*.yaml": "conf/d/c.yaml"}[c.glob]
				r.onlyPaths(c.file)
				return
			}
			r.changed(c.file)
		})
	}
}

func TestTreeABurstIsOneChange(t *testing.T) {
	r := newTree(t, `mkdir app; echo 1 >app/first`, Options{Paths: []Path{{Pattern: "app"}}, Settle: 300 * time.Millisecond})
	r.clock.stop()
	for i := range 5000 {
		dir := filepath.Join(r.dir, "app", fmt.Sprint(i%50))
		if i < 50 {
			os.Mkdir(dir, 0o755)
		}
		put(t, filepath.Join(dir, fmt.Sprintf("f%d", i)), "x", 0o644)
		if i == 2500 {
			// What is written into the new directories is not reported until they
			// are watched, so it seems quiet. The watch goes through all of it,
			// and must not take that for the end.
			r.told(1)
			r.clock.pass(300 * time.Millisecond)
			r.round()
			r.swept()
		}
	}
	r.clock.run()
	e := r.changed("")
	if !strings.Contains(e.Reason, "5049 more") {
		t.Errorf("reason %q", e.Reason)
	}
	r.onlyPaths("app/first")
}

// The second change has the size and the time of the first, which was gone
// through in between, and is looked at when its time is long past.
func TestTreeAChangeWithinTheTickOfASweepIsFound(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	x, err := newExtent(dir, gitignore.Parse(nil))
	if err != nil {
		t.Fatal(err)
	}
	s := sweeper{extent: x, apply: func([]need) (bool, error) { return false, nil }}
	var before scan
	for before.marks == nil || before.marks[0].content&readFresh == 0 { // it came too late
		put(t, path, "first", 0o644)
		before = s.sweep(sweep{first: true})
	}
	at := time.Unix(0, release.StatStamp(path).MTime)
	put(t, path, "other", 0o644)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
	for isFresh(release.StatStamp(path), false) {
		runtime.Gosched()
	}
	after := s.sweep(sweep{marks: before.marks})
	if after.changed != 1 {
		t.Errorf("%d changes, want 1", after.changed)
	}
	// What was read then need not be read again.
	again := s.sweep(sweep{marks: after.marks})
	if again.changed != 0 || again.marks[0] != after.marks[0] || again.sum != after.sum || again.marks[0].content&readFresh != 0 {
		t.Errorf("after that: %+v, then %+v", after, again)
	}
}

func TestTreeASlowWriterIsWaitedFor(t *testing.T) {
	r := newTree(t, `mkdir app; echo 1 >app/a.yaml`, Options{Paths: []Path{{Pattern: "app"}}})
	f, err := os.OpenFile(filepath.Join(r.dir, "app/a.yaml"), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("half")
	r.resweep()
	r.resweep()
	f.WriteString("whole")
	f.Close()
	r.changed("app/a.yaml")
	r.onlyPaths("app/a.yaml")
}

func TestTreeOfOneFileWithASignal(t *testing.T) {
	r := newTree(t, `mkdir etc; echo 1 >etc/app.conf; echo 2 >etc/other`, Options{Paths: []Path{{Pattern: "etc/app.conf", Signal: unix.SIGHUP}}})
	r.sh(`echo 3 >>etc/other; echo 3 >new; mv new etc/app.conf`)
	if e := r.changed("etc/app.conf"); e.Signal != unix.SIGHUP {
		t.Errorf("signal %v", e.Signal)
	}
	r.onlyPaths("etc/app.conf")
}

func TestTreeSendsNoSignalForTheSameBytes(t *testing.T) {
	for _, way := range []string{`echo 1 >etc/app.conf`, `echo 1 >new; mv new etc/app.conf`, `touch etc/app.conf`} {
		r := newTree(t, `mkdir etc; echo 1 >etc/app.conf`, Options{Paths: []Path{{Pattern: "etc/app.conf", Signal: unix.SIGHUP}}})
		r.sh(way)
		r.resweep()
		r.onlyPaths("etc/app.conf")
	}
}

func TestTreeOfMountedConfiguration(t *testing.T) {
	// As orchestrators project it: links into a directory that is swapped whole.
	r := newTree(t, `mkdir -p conf/..1; echo 1 >conf/..1/a.yaml; ln -s ..1 conf/..data; ln -s ..data/a.yaml conf/a.yaml`, Options{Paths: []Path{{Pattern: "conf/a.yaml"}}})
	r.sh(`mkdir conf/..2; echo 2 >conf/..2/a.yaml; ln -s ..2 conf/..tmp; mv -T conf/..tmp conf/..data; rm -r conf/..1`)
	r.changed("")
}

func TestTreeThatDoesNotExistYet(t *testing.T) {
	r := newTree(t, `:`, Options{Paths: []Path{{Pattern: "a/b"}}})
	r.sh(`mkdir -p a/b; echo 1 >a/b/c`)
	r.changed("")
}

func TestTreePathWithoutAName(t *testing.T) {
	if w, err := New(Options{Paths: []Path{{}}}); err == nil {
		w.Close()
		t.Error("accepted an empty path")
	}
}
