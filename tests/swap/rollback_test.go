package swap

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// trusted is a site whose release v1 has outlived its probation.
func trusted(t *testing.T, flags []string, app ...string) *site.Site {
	t.Helper()
	s := site.Serving(t, site.Options{Flags: append([]string{"--probation", "8s"}, flags...), App: app})
	s.Proven(1)
	return s
}

func TestStatusWarnsOfARejectedReleaseAsLongAsItIsWhatARestartWouldStart(t *testing.T) {
	s := trusted(t, nil)
	warning := " at " + s.Path + " was rejected: exited with status 9; it is not started until it changes, or somebody asks; a restart of hotinit starts it (see --state-dir)"
	quiet := func(when string) {
		t.Helper()
		if status, text := s.Ask("status"); status != 0 || strings.Contains(text, " at "+s.Path+" was ") || strings.Contains(text, "a restart of hotinit") {
			t.Errorf("%s: status %d: %s", when, status, text)
		}
	}
	quiet("before the failure")
	if err := os.Link(s.Path, s.File("good")); err != nil {
		t.Fatal(err)
	}
	s.Swap("bad", "-exit", "9")
	s.Line(`generation 2 failed.*: exited with status 9.*; generation 1 stays`)
	if status, text := s.Ask("status"); status != 0 || !strings.Contains(text, warning) {
		t.Errorf("after the failure: status %d: %s", status, text)
	}
	if there := s.Status().There; there == nil || there.Path != s.Path || there.Reason != "exited with status 9" || there.Release == "" || !there.Restarts || there.ByHand {
		t.Errorf("after the failure, in JSON: %+v", there)
	}
	// Who puts the old file back says nothing to hotinit.
	if err := os.Rename(s.File("good"), s.Path); err != nil {
		t.Fatal(err)
	}
	quiet("after the old file was put back")
	s.Swap("bad", "-exit", "9")
	s.Until("it is there again", func() bool { return s.Status().There != nil })
	s.Swap("v2")
	s.Becomes(3, "current")
	quiet("after the next release")
	if status, text := s.Ask("rollback", "--wait"); status != 0 {
		t.Fatalf("status %d: %s", status, text)
	}
	if status, text := s.Ask("status"); status != 0 || !strings.Contains(text, " at "+s.Path+" was rolled back by hand; it is not started until it changes, or somebody asks; ") {
		t.Errorf("after the rollback: status %d: %s", status, text)
	}
	s.Stop(0)
}

func TestCurrentThatDiesInItsProbationIsRolledBackThoughTheFileWasReplaced(t *testing.T) {
	s := trusted(t, nil)
	s.Swap("v2")
	s.Answers("v2 generation 2 ")
	s.Die(9)
	s.Line(`generation 2 exited with status 9 in its probation`)
	s.Answers("v1 generation 3 ")
	s.Becomes(3, "current")
	s.Stop(0)
}

func TestItIsRolledBackThoughTheFileWasDeleted(t *testing.T) {
	s := trusted(t, nil)
	s.Swap("v2")
	s.Answers("v2 generation 2 ")
	if err := os.Remove(s.Path); err != nil {
		t.Fatal(err)
	}
	s.Die(9)
	s.Answers("v1 generation 3 ")
	s.Becomes(3, "current")
	s.Stop(0)
}

func TestItIsRolledBackAlsoByAnotherHandoff(t *testing.T) {
	s := trusted(t, nil)
	s.Swap("v2")
	s.Answers("v2 generation 2 ")
	s.KillHandoff()
	s.Die(9)
	s.Answers("v1 generation 3 ")
	s.Becomes(3, "current")
	s.Stop(0)
}

func TestAReleaseThatWasRolledBackIsNotTriedAgainUntilItChanges(t *testing.T) {
	s := trusted(t, nil)
	s.Swap("v2")
	s.Answers("v2 generation 2 ")
	s.Die(9)
	s.Answers("v1 generation 3 ")
	s.Swap("v2") // the same bytes in a new file
	s.KillHandoff()
	s.Answers("v1 generation 3 ")
	s.Swap("v3")
	s.Answers("v3 generation 4 ")
	s.Stop(0)
}

func TestARejectedReleaseIsNotTriedAgainByTheNextHandoff(t *testing.T) {
	s := site.Serving(t, site.Options{})
	s.Swap("v2", "-exit", "9")
	s.Line(`generation 2 failed.*: exited with status 9.*; generation 1 stays`)
	s.KillHandoff()
	s.Status()
	s.Swap("v3")
	s.Answers("v3 generation 3 ")
	s.Stop(0)
}

func TestRollbackByHand(t *testing.T) {
	s := trusted(t, nil)
	s.Swap("v2")
	s.Answers("v2 generation 2 ")
	if status, text := s.Ask("rollback", "--wait"); status != 0 || !strings.Contains(text, "generation 3 is current") {
		t.Fatalf("status %d: %s", status, text)
	}
	s.Answers("v1 generation 3 ")
	s.Becomes(3, "current")
	s.Stop(0)
}

func TestRollbackWithNothingToGoBackTo(t *testing.T) {
	s := trusted(t, nil)
	if status, text := s.Ask("rollback", "--wait"); status != 1 || !strings.Contains(text, "no other good release") {
		t.Fatalf("status %d: %s", status, text)
	}
	s.Answers("v1 generation 1 ")
}

func TestARollbackThatFailsEndsAsOnExitSays(t *testing.T) {
	s := trusted(t, nil, "-exit-by-number")
	s.Swap("v2")
	s.Answers("v2 generation 2 ")
	s.Die(9)
	s.Line(`in its probation`)
	s.Ends(9)
}

func TestRestartsThatFailHaveGrowingDelays(t *testing.T) {
	s := trusted(t, []string{"--on-exit", "restart"}, "-exit-by-number")
	s.Swap("v2")
	s.Answers("v2 generation 2 ")
	s.Die(9)
	for _, delay := range []string{"at once", "in 100ms", "in 200ms", "in 400ms"} {
		s.Line(`another one is started ` + delay)
	}
}

// Also where each generation counts as ready at once, and without a probation.
func TestAnAppThatDiesAtOnceIsStartedWithGrowingDelays(t *testing.T) {
	s := site.Open(t, site.Options{Name: "start_server", Sub: true, Flags: []string{"--interval", "0"}, Script: "exit 1"})
	for _, delay := range []string{"in 100ms", "in 200ms", "in 400ms"} {
		s.Line(delay)
	}
}

func TestAScriptIsRolledBackThroughTheSymlinkOfItsRelease(t *testing.T) {
	site.Need(t, "systemd-notify")
	var gate func()
	s := site.Open(t, site.Options{
		Flags: []string{"--ready", "interval", "--interval", "100ms", "--probation", "8s"}, Command: []string{"sh", "current/app"},
		Prepare: func(s *site.Site) {
			gate = box.Fifo(t, s.File("gate"))
			s.Write("one/app", `echo "v1 generation $HOTINIT_GENERATION"; exec sleep 1000`)
			s.Write("two/app", `systemd-notify --ready; echo "v2 is ready"; read line <gate; exit 9`)
			s.Link("one", "current")
		},
	})
	s.Proven(1)
	s.Link("two", "current")
	s.Line(`^v2 is ready$`)
	s.Becomes(2, "current")
	gate()
	s.Line(`^v1 generation 3$`)
}

func TestRollbacksGoAlongTheListAndToANamedRelease(t *testing.T) {
	s := site.Serving(t, site.Options{})
	for n, v := range []string{"v2", "v3"} {
		s.Swap(v)
		s.Answers(fmt.Sprintf("%s generation %d ", v, n+2))
		s.Becomes(n+2, "current")
	}
	list := func() (found []control.Release) {
		t.Helper()
		code, text := s.Ask("releases", "--json")
		if err := json.Unmarshal([]byte(text), &found); code != 0 || err != nil {
			t.Fatalf("releases: %d, %v\n%s", code, err, text)
		}
		return found
	}
	releases := list()
	if len(releases) != 3 || releases[0].Fate != "current" || !releases[1].Good || !releases[2].Good || releases[1].Path != s.Path {
		t.Fatalf("three releases were served: %+v", releases)
	}
	first, third := releases[2].Name, releases[0].Name

	// Twice, each time to the one before, and then there is none.
	for n, v := range []string{"v2", "v1"} {
		if code, text := s.Ask("rollback", "--wait"); code != 0 || !strings.Contains(text, fmt.Sprintf("generation %d is current (release ", n+4)) {
			t.Fatalf("rollback: %d\n%s", code, text)
		}
		s.Answers(fmt.Sprintf("%s generation %d ", v, n+4))
	}
	if code, text := s.Ask("rollback", "--wait"); code != 1 || !strings.Contains(text, "there is no other good release") {
		t.Errorf("one more: %d\n%s", code, text)
	}

	// The one that was rolled back by hand comes back where somebody names it.
	if code, text := s.Ask("rollback", "--wait", third[:8]); code != 0 {
		t.Fatalf("rollback %s: %d\n%s", third[:8], code, text)
	}
	s.Answers("v3 generation 6 ")
	if code, text := s.Ask("rollback", "--wait", "nosuch"); code != 1 || !strings.Contains(text, `there is no release "nosuch"`) {
		t.Errorf("rollback nosuch: %d\n%s", code, text)
	}
	if code, text := s.Ask("releases"); code != 0 || !strings.Contains(text, first[:12]) || !strings.Contains(text, "current") {
		t.Errorf("releases: %d\n%s", code, text)
	}
	if code, text := s.Ask("reload", "--wait"); code != 0 || !strings.Contains(text, "the same as before") {
		t.Errorf("reload: %d\n%s", code, text)
	}
	s.Stop(0)
}
