package swap

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/load"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// rejects swaps to a release that does not serve, under load, and checks that it
// is rejected and nothing is lost.
func rejects(t *testing.T, reason string, flags ...string) {
	s := site.Serving(t, site.Options{Flags: []string{"--ready-timeout", "2s"}})
	l := load.Start(load.Options{Address: s.Address})
	<-l.After(200)
	s.Swap("v2", flags...)
	s.Line("generation 2 failed.*: .*" + reason)
	<-l.After(200)
	r := l.Stop()
	t.Log(r)
	if r.Losses() > 0 || r.By["v1"] != r.Done {
		t.Errorf("%v; answers: %v", r, r.By)
	}
	if status, text := s.Ask("health"); status != 0 || !strings.Contains(text, "generation 1 serves") {
		t.Errorf("health: %d, %s", status, text)
	}
	s.Stop(0)
}

func TestABinaryThatHangsBeforeItListensIsRejected(t *testing.T) {
	rejects(t, `it did not wait for connections in time`, "-hang", "before")
}

func TestABinaryThatListensAndNeverAcceptsIsRejected(t *testing.T) {
	rejects(t, `it waits for connections, and accepted none of those that came in time`, "-hang", "deaf")
}

// Where none comes it cannot be told from one that would accept.
func TestABinaryThatNeverAcceptsIsCurrentAfterAQuietInterval(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--interval", "200ms", "--probation", "1h", "--stall-timeout", "500ms", "--drain-timeout", "1s"}})
	s.Swap("v2", "-hang", "deaf")
	s.Becomes(2, "current")
	// And in its probation a connection shows it.
	l := load.Start(load.Options{Address: s.Address})
	s.Line("generation 2 .*does not accept.*none accepted for")
	<-l.Answered("v1 generation 3 ")
	r := l.Stop()
	t.Log(r)
	if r.Losses() > 0 {
		t.Error(r)
	}
	s.Stop(0)
}

// stall makes the current generation accept nothing, and a client wait.
func stall(s *site.Site, n int) (resume func()) {
	g := s.Generation(n)
	p, ok := s.Find(g.PID)
	if !ok {
		s.T.Fatalf("generation %d is gone", n)
	}
	s.SignalTo(p.PID, unix.SIGSTOP)
	answered := make(chan error, 1)
	go func() {
		_, err := box.Get(s.Address, "/")
		answered <- err
	}()
	return func() {
		_ = unix.Kill(p.PID, unix.SIGCONT)
		if err := <-answered; err != nil {
			s.T.Errorf("the client got no answer: %v", err)
		}
	}
}

func TestAStallAfterTheProbationFailsHealthAndIsSaid(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--probation", "0", "--stall-timeout", "500ms"}})
	s.Becomes(1, "current")
	resume := stall(s, 1)
	s.Line(`generation 1 does not accept.*: 1 connection waits, none accepted for .*; it stays`)
	if status, text := s.Ask("health"); status != 1 || !strings.Contains(text, "generation 1 does not serve: 1 connection waits, none accepted for ") {
		t.Errorf("health: %d, %s", status, text)
	}
	if status, text := s.Ask("status"); status != 0 || !strings.Contains(text, "\n1 connection waits, none accepted for ") {
		t.Errorf("status: %d, %s", status, text)
	}
	// It is known to the next handoff too.
	s.KillHandoff()
	s.Until("the next handoff says so", func() bool {
		status, text := s.Ask("health")
		return status == 1 && strings.Contains(text, "generation 1 does not serve")
	})
	resume()
	s.Line("generation 1.* accepts connections again")
	if status, text := s.Ask("health"); status != 0 {
		t.Errorf("health: %d, %s", status, text)
	}
	s.Stop(0)
}

func TestOnStallRestartReplacesTheGeneration(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--probation", "0", "--stall-timeout", "500ms", "--on-stall", "restart", "--drain-timeout", "1s"}})
	s.Becomes(1, "current")
	resume := stall(s, 1)
	s.Line(`generation 1 does not accept.*: 1 connection waits`)
	s.Becomes(2, "current")
	resume()
	s.Stop(0)
}
