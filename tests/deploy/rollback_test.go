package deploy

import (
	"os"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// trusted is a site whose release v1 has outlived its probation.
func trusted(t *testing.T, flags []string, app ...string) *site {
	t.Helper()
	s := serving(t, options{flags: append([]string{"--probation", "8s"}, flags...), app: app})
	s.proven(1)
	return s
}

func TestCurrentThatDiesInItsProbationIsRolledBackThoughTheFileWasReplaced(t *testing.T) {
	s := trusted(t, nil)
	s.swap("v2")
	s.Answers("v2 generation 2 ")
	s.die(9)
	s.Line(`generation 2 exited with status 9 in its probation`)
	s.Answers("v1 generation 3 ")
	s.becomes(3, "current")
	s.stop(0)
}

func TestItIsRolledBackThoughTheFileWasDeleted(t *testing.T) {
	s := trusted(t, nil)
	s.swap("v2")
	s.Answers("v2 generation 2 ")
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	s.die(9)
	s.Answers("v1 generation 3 ")
	s.becomes(3, "current")
	s.stop(0)
}

func TestItIsRolledBackAlsoByAnotherHandoff(t *testing.T) {
	s := trusted(t, nil)
	s.swap("v2")
	s.Answers("v2 generation 2 ")
	s.KillHandoff()
	s.die(9)
	s.Answers("v1 generation 3 ")
	s.becomes(3, "current")
	s.stop(0)
}

func TestAReleaseThatWasRolledBackIsNotTriedAgainUntilItChanges(t *testing.T) {
	s := trusted(t, nil)
	s.swap("v2")
	s.Answers("v2 generation 2 ")
	s.die(9)
	s.Answers("v1 generation 3 ")
	s.swap("v2") // the same bytes in a new file
	s.KillHandoff()
	s.Answers("v1 generation 3 ")
	s.swap("v3")
	s.Answers("v3 generation 4 ")
	s.stop(0)
}

func TestARejectedReleaseIsNotTriedAgainByTheNextHandoff(t *testing.T) {
	s := serving(t, options{})
	s.swap("v2", "-exit", "9")
	s.Line(`generation 2 failed: exited with status 9; generation 1 stays`)
	s.KillHandoff()
	s.status()
	s.swap("v3")
	s.Answers("v3 generation 3 ")
	s.stop(0)
}

func TestRollbackByHand(t *testing.T) {
	s := trusted(t, nil)
	s.swap("v2")
	s.Answers("v2 generation 2 ")
	if status, text := s.ask("rollback", "--wait"); status != 0 || !strings.Contains(text, "generation 3 is current") {
		t.Fatalf("status %d: %s", status, text)
	}
	s.Answers("v1 generation 3 ")
	s.becomes(3, "current")
	s.stop(0)
}

func TestRollbackWithNothingToGoBackTo(t *testing.T) {
	s := trusted(t, nil)
	if status, text := s.ask("rollback", "--wait"); status != 1 || !strings.Contains(text, "no other good release") {
		t.Fatalf("status %d: %s", status, text)
	}
	s.Answers("v1 generation 1 ")
}

func TestARollbackThatFailsEndsAsOnExitSays(t *testing.T) {
	s := trusted(t, nil, "-exit-by-number")
	s.swap("v2")
	s.Answers("v2 generation 2 ")
	s.die(9)
	s.Line(`in its probation`)
	s.ends(9)
}

func TestRestartsThatFailHaveGrowingDelays(t *testing.T) {
	s := trusted(t, []string{"--on-exit", "restart"}, "-exit-by-number")
	s.swap("v2")
	s.Answers("v2 generation 2 ")
	s.die(9)
	for _, delay := range []string{"at once", "in 100ms", "in 200ms", "in 400ms"} {
		s.Line(`another one is started ` + delay)
	}
}

// Also where each generation counts as ready at once, and without a probation.
func TestAnAppThatDiesAtOnceIsStartedWithGrowingDelays(t *testing.T) {
	s := open(t, options{name: "start_server", sub: true, flags: []string{"--interval", "0"}, script: "exit 1"})
	for _, delay := range []string{"in 100ms", "in 200ms", "in 400ms"} {
		s.Line(delay)
	}
}

func TestAScriptIsRolledBackThroughTheSymlinkOfItsRelease(t *testing.T) {
	need(t, "systemd-notify")
	var gate func()
	s := open(t, options{
		flags: []string{"--interval", "100ms", "--probation", "8s"}, command: []string{"sh", "current/app"},
		prepare: func(s *site) {
			gate = box.Fifo(t, s.file("gate"))
			s.write("one/app", `echo "v1 generation $HOTINIT_GENERATION"; exec sleep 1000`)
			s.write("two/app", `systemd-notify --ready; echo "v2 is ready"; read line <gate; exit 9`)
			s.link("one", "current")
		},
	})
	s.proven(1)
	s.link("two", "current")
	s.Line(`^v2 is ready$`)
	s.becomes(2, "current")
	gate()
	s.Line(`^v1 generation 3$`)
}
