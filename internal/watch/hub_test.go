package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hears is a queue that wants to hear of a name in a directory.
func hears(t *testing.T, h *hub, dir, name string) (*queue, chan []note) {
	t.Helper()
	out, done := make(chan []note), make(chan struct{})
	q := newQueue(1, h, out, done)
	t.Cleanup(func() { close(done); q.close() })
	wants(t, q, dir, name)
	return q, out
}

func wants(t *testing.T, q *queue, dir, name string) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	if _, err := q.apply(0, []need{{path: dir, inode: inode{uint64(st.Dev), st.Ino}, name: name, role: roleFinal}}); err != nil {
		t.Fatal(err)
	}
}

func told(t *testing.T, out chan []note) {
	t.Helper()
	select {
	case <-out:
	case <-time.After(patience):
		t.Fatal("nothing was reported")
	}
}

func instances(t *testing.T) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); to == "anon_inode:inotify" {
			n++
		}
	}
	return n
}

func TestManyQueuesShareAnInstanceAndEachHearsOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	before := instances(t)
	h := newHub(realCalls)
	const many = 200 // and a user may have 128 instances
	var outs []chan []note
	for i := range many {
		_, out := hears(t, h, dir, fmt.Sprint("p", i))
		outs = append(outs, out)
	}
	if n := instances(t) - before; n != 1 {
		t.Errorf("%d instances", n)
	}
	h.mu.Lock()
	watches := len(h.byWD)
	h.mu.Unlock()
	if watches != 1 {
		t.Errorf("%d watches of one directory", watches)
	}
	for _, i := range []int{7, many - 1} {
		put(t, filepath.Join(dir, fmt.Sprint("p", i)), "x", 0o600)
		told(t, outs[i])
	}
	for i, out := range outs {
		select {
		case notes := <-out:
			if i != 7 && i != many-1 {
				t.Errorf("queue %d hears %v", i, notes)
			}
		default:
		}
	}
}

func TestAQueueHearsOnAfterAnotherOneHasLeft(t *testing.T) {
	dir := t.TempDir()
	h := newHub(realCalls)
	gone, _ := hears(t, h, dir, "one")
	_, out := hears(t, h, dir, "two")
	gone.close()
	gone.close()
	put(t, filepath.Join(dir, "two"), "x", 0o600)
	told(t, out)
	if added, err := gone.apply(0, nil); added || err != nil {
		t.Error("a queue that has left is", added, err)
	}
}

func TestAWatchThatNobodyHasIsRemoved(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	h := newHub(realCalls)
	q, _ := hears(t, h, dir, "one")
	hears(t, h, other, "two")
	wants(t, q, other, "one")
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.byWD) != 1 || len(h.idle) != 0 {
		t.Errorf("%d watches are there, %d are to be removed", len(h.byWD), len(h.idle))
	}
}

// TestALoopThatTakesNothingHoldsUpNoOther: their reports come by the same way.
func TestALoopThatTakesNothingHoldsUpNoOther(t *testing.T) {
	dir := t.TempDir()
	h := newHub(realCalls)
	hears(t, h, dir, "one") // and nobody receives
	_, out := hears(t, h, dir, "two")
	for range 3 {
		put(t, filepath.Join(dir, "one"), "x", 0o600)
		put(t, filepath.Join(dir, "two"), "x", 0o600)
		told(t, out)
	}
}

func TestTheLastQueueClosesTheInstance(t *testing.T) {
	before := instances(t)
	h := newHub(realCalls)
	q, _ := hears(t, h, t.TempDir(), "one")
	q.close()
	for deadline := time.Now().Add(patience); instances(t) > before; { // the reader lets go of it
		if time.Now().After(deadline) {
			t.Fatal("it is open")
		}
	}
	dir := t.TempDir()
	_, out := hears(t, h, dir, "one")
	put(t, filepath.Join(dir, "one"), "x", 0o600)
	told(t, out)
}
