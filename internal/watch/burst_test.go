package watch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// newBurst watches a program and the directory that it is in, both of which have
// been looked at. Its clock can be stopped.
func newBurst(t *testing.T, program string) *rig {
	t.Helper()
	dir := t.TempDir()
	return newRig(t, rigOptions{dir: dir, content: program, clock: &clock{}, options: Options{Paths: []Path{{Pattern: dir}}, Settle: 300 * time.Millisecond}})
}

// elsewhere writes an executable file outside the watched directory.
func (r *rig) elsewhere(content string) string {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), "new")
	r.write(path, content)
	return path
}

func (r *rig) rename(from, to string) {
	r.t.Helper()
	if err := os.Rename(from, to); err != nil {
		r.t.Fatal(err)
	}
}

// alone makes one more change beside the program, and checks that its event is
// the next one.
func (r *rig) alone() {
	r.t.Helper()
	r.write(filepath.Join(r.dir, "last"), "change")
	if e := r.event(); e.Kind != PathsChanged || e.What != filepath.Join(r.dir, "last") {
		r.t.Fatalf("%+v, want the change of the file last alone", e)
	}
}

func TestAProgramAndFilesBesideItAreOneChange(t *testing.T) {
	r := newBurst(t, script("first"))
	next := r.elsewhere(script("second"))
	r.clock.stop()
	r.write(filepath.Join(r.dir, "before"), "a part")
	r.rename(next, r.path)
	r.write(filepath.Join(r.dir, "after"), "a part")
	r.verdict(verdictAct)
	r.clock.run()
	r.release(script("second"))
	r.alone()
}

func TestAProgramByItselfInAWatchedDirectoryIsOneChange(t *testing.T) {
	r := newBurst(t, script("first"))
	r.clock.stop()
	r.rename(r.elsewhere(script("second")), r.path)
	r.verdict(verdictAct)
	r.clock.run()
	r.release(script("second"))
	r.alone()
}

func TestATouchedProgramInAWatchedDirectoryIsNoChange(t *testing.T) {
	// Too large for the watch on the directory to compare its content.
	r := newBurst(t, script(strings.Repeat("large ", maxRead/4)))
	r.sh(`touch server; chmod 700 server`)
	r.alone()
}

func TestTwoFoldersInOneBurstAreOneChange(t *testing.T) {
	r := newTree(t, `mkdir a b`, Options{Paths: []Path{{Pattern: "a"}, {Pattern: "b"}}, Settle: 300 * time.Millisecond})
	r.clock.stop()
	r.write(filepath.Join(r.dir, "a/part"), "a part")
	r.write(filepath.Join(r.dir, "b/part"), "a part")
	r.told(1, 2)
	r.clock.run()
	if e := r.event(); e.Kind != PathsChanged {
		t.Fatalf("%+v", e)
	}
	r.sh(`echo last >b/last`)
	r.changed("b/last")
}

func TestASignalIsNotHeldBackByABurst(t *testing.T) {
	l := &loop{now: (&clock{}).now, trees: []*tree{{loud: true, have: true}, {}}, Watcher: &Watcher{events: make(chan Event)}}
	l.changes = []*Event{{Kind: PathsChanged}, {Kind: PathsChanged, Signal: 1}}
	l.since = l.now()
	if _, e := l.pending(); e.Signal != 1 {
		t.Errorf("%+v is pending, want the signal", e)
	}
	l.taken(*l.changes[1])
	if c, e := l.pending(); c != nil {
		t.Errorf("%+v is pending within the burst", e)
	}
	l.trees[0].loud = false
	if c, _ := l.pending(); c == nil {
		t.Error("nothing is pending after the burst")
	}
}
