package swap

import (
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/site"
)

func TestAnOldGenerationThatDoesNotGoIsKilled(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--drain-timeout", "1s"}, App: []string{"-term", "ignore"}})
	s.Swap("v2")
	s.Line(`generation 1 did not go in 1s \(--drain-timeout\); it is killed`)
	s.Running(1)
	s.Answers("v2 generation 2 ")
	s.Stop(0)
}

func TestTheOldestOfTooManyOldGenerationsIsKilled(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--drain-timeout", "0", "--max-old", "1"}, App: []string{"-term", "ignore"}})
	s.Swap("v2", "-term", "ignore")
	s.Answers("v2 generation 2 ")
	s.Becomes(1, "retiring")
	s.Swap("v3")
	s.Line(`generation 1 is killed.*: more than 1 old generations`)
	s.Answers("v3 generation 3 ")
	s.Running(2)
	s.Becomes(2, "retiring")
}

// -lasting leaves a process in the group and one in a session of its own.
func TestWhatAnOldGenerationHasForkedGoesWithIt(t *testing.T) {
	s := site.Serving(t, site.Options{App: []string{"-lasting"}})
	s.Running(3)
	s.Swap("v2")
	s.Answers("v2 generation 2 ")
	s.Running(1)
	s.Stop(0)
}

func TestWhatItHasForkedIsKilledWithIt(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--drain-timeout", "1s"}, App: []string{"-lasting", "-term", "ignore"}})
	s.Running(3)
	s.Swap("v2")
	s.Line(`generation 1 did not go in 1s`)
	s.Running(1)
	s.Stop(0)
}

func TestWhatTheNewGenerationHasForkedStays(t *testing.T) {
	s := site.Serving(t, site.Options{App: []string{"-lasting"}})
	s.Swap("v2", "-lasting")
	s.Answers("v2 generation 2 ")
	s.Until("generation 1 is gone", func() bool { return s.Generation(1) == nil })
	s.Running(3)
	s.Stop(0)
}

// Processes that left their group, and whose parents have ended, are known by
// their environment; here that is gone too.
func TestWhatLeftWithoutATraceGoesAtTheEnd(t *testing.T) {
	s := site.Open(t, site.Options{Script: `
(setsid env -i sleep 1001 &)
echo begun
exec sleep 1000`})
	s.Line("^begun$")
	s.Becomes(1, "current")
	s.Stop(143)
	if left := s.Processes(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
