package handoff

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/message"
)

// newTestReports returns what runs a command of --on-event in a directory.
func newTestReports(t *testing.T, command string) (s *reports, dir string) {
	t.Helper()
	ours, theirs, err := message.Pair()
	if err != nil {
		t.Fatal(err)
	}
	go message.NewLink(theirs).Receive(func(message.Message) bool { return true }, func(error) {})
	l := &link{Link: message.NewLink(ours), kept: make(map[string]int), held: make(map[string]bool)}
	t.Cleanup(l.Close)
	dir = t.TempDir()
	s = newReports(l, dir, nil)
	s.start = nil // spawn.Start
	s.command, s.timeout = command, 0
	return s, dir
}

// written returns what the command has written.
func written(dir string) []string {
	b, _ := os.ReadFile(filepath.Join(dir, "out"))
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

// awaitFile waits until the command has begun; there is no event to wait for.
func awaitFile(dir string) {
	for {
		if st, err := os.Stat(filepath.Join(dir, "out")); err == nil && st.Size() > 0 {
			return
		}
		_, _ = unix.Poll(nil, 1)
	}
}

func (s *reports) event(n int) {
	s.add(report{Happening: machine.Happening{Kind: machine.DidReady, N: n}, program: "web"})
}

func TestEventsAreReportedOneByOneInOrder(t *testing.T) {
	s, dir := newTestReports(t, `sh -c 'echo "$HOTINIT_EVENT $HOTINIT_EVENT_PROGRAM $HOTINIT_EVENT_GENERATION" >>out'`)
	s.begin()
	var want []string
	for n := 1; n <= 10; n++ {
		s.event(n)
		want = append(want, fmt.Sprintf("ready web %d", n))
	}
	s.end(newLoop(), false) // which waits for them: nobody has told hotinit to stop
	if got := written(dir); !slices.Equal(got, want) {
		t.Errorf("it is %q, and not %q", got, want)
	}
}

// The command does not end: what comes is bounded, and counted.
func TestEventsThatAreTooManyAreCounted(t *testing.T) {
	s, dir := newTestReports(t, `sh -c '[ -e fifo.read ] || { : >fifo.read; read x <fifo; }; echo "$HOTINIT_EVENT_GENERATION $HOTINIT_EVENT_DROPPED" >>out'`)
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.begin()
	s.event(1)
	fifo, err := os.OpenFile(filepath.Join(dir, "fifo"), os.O_WRONLY, 0) // once the command reads it
	if err != nil {
		t.Fatal(err)
	}
	for n := 2; n <= 1000; n++ {
		s.event(n)
	}
	fifo.WriteString("go\n")
	fifo.Close()
	s.end(newLoop(), false)
	got := written(dir)
	if len(got) != 1+mostReports || got[0] != "1 " || got[1] != fmt.Sprintf("2 %d", 1000-1-mostReports) || got[2] != "3 " {
		t.Errorf("it is %q", got)
	}
}

// A stop does not wait for a command that hangs, and ends it.
func TestACommandThatHangsIsEndedWithHotinit(t *testing.T) {
	s, dir := newTestReports(t, `sh -c 'trap "" TERM; echo $$ >out; exec sleep 1000'`)
	s.begin()
	s.event(1)
	s.event(2)
	awaitFile(dir)
	s.end(newLoop(), true)
	select {
	case <-s.ended:
	case <-time.After(time.Minute):
		t.Fatal("it is waited for")
	}
	if got := written(dir); len(got) != 1 {
		t.Errorf("it was run again: %q", got)
	}
}

func TestASignalEndsTheWaitForTheCommand(t *testing.T) {
	s, dir := newTestReports(t, `sh -c 'echo >out; exec sleep 1000'`)
	s.begin()
	s.event(1)
	awaitFile(dir)
	l := newLoop()
	go func() { l.inputs <- input{seq: 1} }()
	s.end(l, false)
	<-s.ended
}

func TestWhatAnEventSaysIsClean(t *testing.T) {
	r := report{Happening: machine.Happening{Kind: machine.DidReject, N: 3, Release: "abc", Reason: "bad\nHOTINIT_EVENT=ready\x1b[31m\x00 " + strings.Repeat("x", 5000), Status: 1}, program: "web", when: time.Unix(0, 0)}
	env := r.environ(2)
	for _, want := range []string{"HOTINIT_EVENT=rejected", "HOTINIT_EVENT_PROGRAM=web", "HOTINIT_EVENT_GENERATION=3", "HOTINIT_EVENT_RELEASE=abc", "HOTINIT_EVENT_TIME=1970-01-01T00:00:00.000Z", "HOTINIT_EVENT_DROPPED=2"} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is missing in %q", want, env)
		}
	}
	i := slices.IndexFunc(env, func(v string) bool { return strings.HasPrefix(v, "HOTINIT_EVENT_REASON=") })
	if i < 0 || !strings.HasPrefix(env[i], "HOTINIT_EVENT_REASON=bad HOTINIT_EVENT=ready?[31m? xxx") || len(env[i]) > longestReason+30 {
		t.Errorf("the reason is %.80q", env[max(i, 0)])
	}
}
