package watch

import (
	"path/filepath"
	"testing"
	"time"
)

// What changed between Look and the beginning of the watch is found by the watch.
func TestAChangeBeforeTheWatchBeginsIsSeen(t *testing.T) {
	for _, c := range []struct{ name, path, prepare, change, what string }{
		{"a file", "conf", `echo 1 >conf`, `echo 2 >conf`, "conf"},
		{"a file renamed over it", "conf", `echo 1 >conf`, `echo 2 >new; mv new conf`, "conf"},
		{"a file that was not there", "conf", `true`, `echo 1 >conf`, "conf"},
		{"a file that is gone", "conf", `echo 1 >conf`, `rm conf`, "conf"},
		{"a file in a directory", "d", `mkdir d; echo 1 >d/a`, `echo 2 >d/a`, "d/a"},
		{"a new directory", "d", `mkdir d`, `mkdir d/e; echo 2 >d/e/a`, ""},
		{"of a glob", "*.conf", `echo 1 >a.conf`, `echo 2 >a.conf`, "a.conf"},
		{"a link that is turned", "current", `mkdir 1 2; echo 1 >1/a; echo 2 >2/a; ln -s 1 current`, `ln -sfn 2 current`, "2/a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := looked(t, c.path, c.prepare, c.change)
			r.changed(c.what)
			r.sh(`rm -rf "$1"`, "conf")
			for len(r.events) > 0 {
				<-r.events
			}
		})
	}
}

func TestNothingThatChangedBeforeTheWatchIsNoChange(t *testing.T) {
	for _, c := range []struct{ name, change string }{
		{"nothing at all", `true`},
		{"touch", `touch d/a`},
		{"the same bytes in another file", `cp d/a b; mv b d/a`},
		{"what is ignored", `echo 1 >d/a.log`},
		{"the command itself", `cp server new; echo more >>new; mv new server`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := looked(t, ".", `mkdir d; echo 1 >d/a; echo 1 >server`, c.change)
			r.resweep()
			r.onlyPaths("d/a")
		})
	}
}

// looked has the watch of a path begin after a change.
func looked(t *testing.T, path, prepare, change string) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), events: make(chan Event, 1000), looks: make(chan conclusion, 1000), sweeps: make(chan scan, 10000), logs: make(chan string, 100)}
	r.sh(prepare)
	o := Options{Command: filepath.Join(r.dir, "server"), Paths: []Path{{Pattern: filepath.Join(r.dir, path)}}, Ignore: []string{"*.log"}}
	o.Before = Look(o)
	o.Before.Wait(time.Minute)
	r.sh(change)
	r.start(o, calls{}, func(*loop) {})
	r.swept()
	return r
}
