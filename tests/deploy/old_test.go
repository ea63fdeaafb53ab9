package deploy

import "testing"

func TestAnOldGenerationThatDoesNotGoIsKilled(t *testing.T) {
	s := serving(t, options{flags: []string{"--drain-timeout", "1s"}, app: []string{"-term", "ignore"}})
	s.swap("v2")
	s.Line(`generation 1 did not go in 1s \(--drain-timeout\); it is killed`)
	s.running(1)
	s.Answers("v2 generation 2 ")
	s.stop(0)
}

func TestTheOldestOfTooManyOldGenerationsIsKilled(t *testing.T) {
	s := serving(t, options{flags: []string{"--drain-timeout", "0", "--max-old", "1"}, app: []string{"-term", "ignore"}})
	s.swap("v2", "-term", "ignore")
	s.Answers("v2 generation 2 ")
	s.becomes(1, "retiring")
	s.swap("v3")
	s.Line(`generation 1 is killed: more than 1 old generations`)
	s.Answers("v3 generation 3 ")
	s.running(2)
	s.becomes(2, "retiring")
}

// -lasting leaves a process in the group and one in a session of its own.
func TestWhatAnOldGenerationHasForkedGoesWithIt(t *testing.T) {
	s := serving(t, options{app: []string{"-lasting"}})
	s.running(3)
	s.swap("v2")
	s.Answers("v2 generation 2 ")
	s.running(1)
	s.stop(0)
}

func TestWhatItHasForkedIsKilledWithIt(t *testing.T) {
	s := serving(t, options{flags: []string{"--drain-timeout", "1s"}, app: []string{"-lasting", "-term", "ignore"}})
	s.running(3)
	s.swap("v2")
	s.Line(`generation 1 did not go in 1s`)
	s.running(1)
	s.stop(0)
}

func TestWhatTheNewGenerationHasForkedStays(t *testing.T) {
	s := serving(t, options{app: []string{"-lasting"}})
	s.swap("v2", "-lasting")
	s.Answers("v2 generation 2 ")
	s.Until("generation 1 is gone", func() bool { return s.generation(1) == nil })
	s.running(3)
	s.stop(0)
}

// Processes that left their group, and whose parents have ended, are known by
// their environment; here that is gone too.
func TestWhatLeftWithoutATraceGoesAtTheEnd(t *testing.T) {
	s := open(t, options{script: `
(setsid env -i sleep 1001 &)
echo begun
exec sleep 1000`})
	s.Line("^begun$")
	s.becomes(1, "current")
	s.stop(143)
	if left := s.Processes(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
