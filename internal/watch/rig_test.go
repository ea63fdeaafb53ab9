package watch

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hotinit/hotinit/internal/release"
)

// patience is how long a test waits for what must come. It is never asserted.
const patience = time.Minute

// A rig is a watcher under test and what it said.
type rig struct {
	t      *testing.T
	dir    string // a fresh directory
	path   string // of the command, dir/server
	events chan Event
	looks  chan conclusion
	sweeps chan scan // of trees, once they are taken in
	logs   chan string
	loop   *loop
	clock  *clock   // nil: the real one
	heard  chan int // with a clock: targets of which the loop was told
}

type conclusion struct {
	observation observation
	verdict     verdict
}

// rigOptions are what tests vary.
type rigOptions struct {
	dir     string // "": a fresh one
	command string // "": dir/server
	content string // of the first release, unless there is a file already
	options Options
	calls   calls
	prepare func(r *rig) // before the watch begins
	clock   *clock
}

func script(text string) string { return "#!/bin/sh\necho " + text + "\n" }

// newRig starts a watcher on a command that runs the file at path as it is.
func newRig(t *testing.T, o rigOptions) *rig {
	t.Helper()
	r := &rig{t: t, dir: o.dir, events: make(chan Event, 1000), looks: make(chan conclusion, 100000), logs: make(chan string, 1000)}
	if r.dir == "" {
		r.dir = t.TempDir()
	}
	r.path = filepath.Join(r.dir, "server")
	if o.command != "" {
		r.path = o.command
	}
	if o.prepare != nil {
		o.prepare(r)
	} else if _, err := os.Lstat(r.path); err != nil {
		if o.content == "" {
			o.content = script("first")
		}
		r.write(r.path, o.content)
	}
	first, err := release.Open(r.path, o.options.Check)
	if err != nil {
		t.Fatalf("the first release: %v", err)
	}
	first.Close()
	o.options.Command = r.path
	if len(o.options.Paths) > 0 {
		r.sweeps = make(chan scan, 10000)
	}
	r.clock = o.clock
	r.start(o.options, o.calls, func(l *loop) { go l.Running(first.Release) })
	r.verdict(verdictIgnore)
	r.swept()
	return r
}

func (r *rig) start(o Options, c calls, running func(*loop)) {
	r.t.Helper()
	if c.init == nil {
		c.init = realCalls.init
	}
	if c.add == nil {
		c.add = realCalls.add
	}
	o.Log = func(text string) { r.logs <- text }
	if o.Settle == 0 {
		o.Settle = 30 * time.Millisecond
	}
	l, err := newLoop(o, newHub(c))
	if err != nil {
		r.t.Fatal(err)
	}
	r.loop = l
	if r.clock != nil {
		r.clock.run()
		l.now = r.clock.now
		// The first look at the mounts would have everything gone through
		// once more, at a time that no test knows.
		l.mounted = func(chan<- struct{}) func() { return func() {} }
		r.listen()
	}
	if l.cmd != nil {
		l.cmd.concluded = func(s observation, v verdict) { r.looks <- conclusion{s, v} }
	}
	for _, tr := range l.trees {
		tr.swept = func(s scan) {
			if r.sweeps != nil {
				r.sweeps <- s
			}
		}
	}
	var wg sync.WaitGroup
	wg.Go(l.run)
	done := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case e := <-l.Events():
				r.events <- e
			case <-done:
				return
			}
		}
	})
	r.t.Cleanup(func() {
		l.Close()
		close(done)
		wg.Wait()
		for len(r.events) > 0 {
			(<-r.events).File.Close()
		}
	})
	running(l)
}

// listen stands between the queue and the loop.
func (r *rig) listen() {
	r.heard = make(chan int, 100000)
	l, reports := r.loop, make(chan []note)
	l.queue.out = reports
	go func() {
		for {
			select {
			case notes := <-reports:
				select {
				case l.notes <- notes:
				case <-l.stop:
					return
				}
				for _, n := range notes {
					r.heard <- n.target
				}
			case <-l.stop:
				return
			}
		}
	}()
}

// told waits until the loop was told of each of these targets, and has taken
// it in.
func (r *rig) told(targets ...int) {
	r.t.Helper()
	deadline := time.After(patience)
	for len(targets) > 0 {
		select {
		case n := <-r.heard:
			targets = slices.DeleteFunc(targets, func(m int) bool { return m == n })
		case <-deadline:
			r.t.Fatalf("nothing was reported of %v", targets)
		}
	}
	r.round()
}

// round has the loop look at its clock.
func (r *rig) round() { r.loop.notes <- nil }

// write puts an executable file there, in place.
func (r *rig) write(path, content string) {
	r.t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		r.t.Fatal(err)
	}
}

// deploy renames a new file over path.
func (r *rig) deploy(path, content string) {
	r.t.Helper()
	tmp := filepath.Join(r.t.TempDir(), "new")
	if filepath.Dir(path) != "" {
		tmp = filepath.Join(filepath.Dir(path), ".new")
	}
	r.write(tmp, content)
	if err := os.Rename(tmp, path); err != nil {
		r.t.Fatal(err)
	}
}

// sh runs a command line in dir, with $1... as given.
func (r *rig) sh(line string, args ...string) {
	r.t.Helper()
	c := exec.Command("/bin/sh", append([]string{"-ec", line, "sh"}, args...)...)
	c.Dir = r.dir
	if out, err := c.CombinedOutput(); err != nil {
		r.t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// event waits for the next event.
func (r *rig) event() Event {
	r.t.Helper()
	select {
	case e := <-r.events:
		r.t.Cleanup(func() { e.File.Close() })
		return e
	case <-time.After(patience):
		r.t.Fatalf("no event came; said: %q", r.said())
	}
	return Event{}
}

// release waits for the next event, which must be for just this content.
func (r *rig) release(content string) Event {
	r.t.Helper()
	e := r.event()
	if e.Kind != NewRelease {
		r.t.Fatalf("event of kind %d, want a new release: %+v", e.Kind, e)
	}
	if want := release.Digest(sha256.Sum256([]byte(content))); e.Release.Digest != want {
		got, _ := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", e.File.FD()))
		r.t.Fatalf("new release %.12s with %d bytes %.40q, want %.12s %.40q", e.Release.Digest, e.Release.Size, got, want, content)
	}
	return e
}

// only deploys one more release at path and checks that its event is the next:
// whatever was done before must have been nothing to speak of.
func (r *rig) only() {
	r.t.Helper()
	last := script("the last one, after which nothing may be left")
	r.deploy(r.path, last)
	r.release(last)
	if n := len(r.events); n > 0 {
		r.t.Fatalf("%d events too many, the first: %+v", n, <-r.events)
	}
}

// looked waits until a look was concluded upon in this way.
func (r *rig) looked(match func(conclusion) bool) conclusion {
	r.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case c := <-r.looks:
			if match(c) {
				return c
			}
		case <-deadline:
			r.t.Fatalf("no such look; said: %q", r.said())
		}
	}
}

// forget drops the looks up to now.
func (r *rig) forget() {
	for {
		select {
		case <-r.looks:
		default:
			return
		}
	}
}

func (r *rig) verdict(k verdictKind) conclusion {
	r.t.Helper()
	return r.looked(func(c conclusion) bool { return c.verdict.kind == k })
}

// log waits for a message that contains the text.
func (r *rig) log(text string) {
	r.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case got := <-r.logs:
			if strings.Contains(got, text) {
				return
			}
			r.t.Logf("said before: %s", got)
		case <-deadline:
			r.t.Fatalf("%q was not said", text)
		}
	}
}

// said are the messages that nobody waited for.
func (r *rig) said() []string {
	var all []string
	for {
		select {
		case text := <-r.logs:
			all = append(all, text)
		default:
			return all
		}
	}
}

func need1(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		t.Skipf("%s is not installed", tool)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
}
