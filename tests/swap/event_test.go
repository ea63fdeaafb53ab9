package swap

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/site"
)

// eventLog is a command of --on-event that writes what it is told into the file events.
const eventLog = `sh -c 'echo "$HOTINIT_EVENT $HOTINIT_EVENT_GENERATION$HOTINIT_EVENT_STATUS: $HOTINIT_EVENT_REASON" >>events'`

func TestEachEventIsReported(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--on-event", eventLog, "--interval", "100ms", "--stall-timeout", "0"}})
	s.Contains("events", "started 1: boot\nready 1: \n")
	s.Swap("v2")
	s.Contains("events", "started 2: changed\n")
	s.Contains("events", "ready 2: \n")
	s.Contains("events", "ended 10: exited with status 0\n")
	s.Swap("v3", "--exit", "3")
	s.Contains("events", "rejected 3: exited with status 3\n")
	s.KillHandoff()
	s.Contains("events", "handoff-lost : the handoff was lost, and another one goes on\n")
	s.Status()
	s.Kill(2)
	s.Contains("events", "rolled-back 2: killed by signal 9 (SIGKILL)")
	s.Contains("events", "started 4: rolled back after a failure\n")
	s.Contains("events", "ready 4: \n")
	s.Swap("v1", "--hang", "before") // which is another release
	s.Contains("events", "started 5: changed\n")
	s.Stop(0)
	if got := s.Read("events"); strings.Count(got, "ready") != 3 {
		t.Errorf("it is not ready three times:\n%s", got)
	}
}

func TestAStopIsReported(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--on-event", eventLog}, App: []string{"--term", "ignore"}})
	s.Signal(unix.SIGTERM)
	s.Contains("events", "stopping : SIGTERM\n")
	s.Kill(1)
	s.Wait()
}

// Nobody has told hotinit to stop: the command has its time for the last events.
func TestTheEndOfACommandIsReported(t *testing.T) {
	s := site.Open(t, site.Options{Flags: []string{"--on-event", eventLog}, Script: "exit 3"})
	s.Ends(3)
	for _, want := range []string{"started 1: boot\n", "ended 13: exited with status 3\n", "stopped 3: generation 1"} {
		if got := s.Read("events"); !strings.Contains(got, want) {
			t.Errorf("%q is missing in %q", want, got)
		}
	}
}

// What becomes of the command changes nothing: it fails, is missing, or hangs, and
// ignores that it is told to go, where a stop has all the time in the world.
func TestACommandForEventsChangesNothing(t *testing.T) {
	for name, c := range map[string]struct{ command, says string }{
		"it fails":    {`sh -c 'echo because >&2; exit 7'`, "the command of --on-event failed for the event started of app: it exited with status 7: because"},
		"it is gone":  {"./none", "the command of --on-event failed for the event started of app: .*none"},
		"it hangs":    {`sh -c 'trap "" TERM INT HUP; : >hangs; exec sleep 1000'`, ""},
		"it is slain": {"sh -c 'exec sleep 1000'", "the command of --on-event failed .*: it took longer than 200ms and was killed"},
	} {
		t.Run(name, func(t *testing.T) {
			flags := []string{"--on-event", c.command, "--interval", "100ms", "--stop-timeout", "0", "--on-event-timeout", "0"}
			if name == "it is slain" {
				flags[len(flags)-1] = "200ms"
			}
			s := site.Serving(t, site.Options{Flags: flags})
			if c.says != "" {
				s.Line(c.says)
			} else {
				s.Until("the command hangs", func() bool { return regexp.MustCompile("^$").MatchString(s.Read("hangs")) && exists(s, "hangs") })
			}
			s.Swap("v2")
			s.Answers("v2 generation 2 ")
			s.Stop(0)
		})
	}
}

func exists(s *site.Site, name string) bool {
	var st unix.Stat_t
	return unix.Stat(s.File(name), &st) == nil
}

func TestLinesAreObjects(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--log-format", "json", "--interval", "100ms"}})
	s.Swap("v2")
	s.Answers("v2 generation 2 ")
	s.Line("generation 1 ended")
	s.Swap("v3", "--exit", "3")
	s.Line("generation 3 failed")
	s.KillHandoff()
	s.Line("the handoff was lost") // which init says
	s.Status()
	s.Stop(0)
	events := make(map[string]bool)
	for _, line := range s.Output.All() {
		if strings.HasPrefix(line, "app v") {
			continue // which is the app's own
		}
		var o struct {
			Time, Level, Program, Event, Message string
			Generation                           int
		}
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%q is no object: %v", line, err)
		}
		if o.Time == "" || o.Level == "" || o.Message == "" || strings.HasPrefix(o.Message, "generation") && (o.Generation == 0 || o.Program != "app") {
			t.Errorf("fields are missing: %s", line)
		}
		if o.Event != "" {
			events[o.Event] = true
			if o.Event == "rejected" && (o.Level != "error" || o.Generation != 3) {
				t.Errorf("a rejection is %s", line)
			}
		}
	}
	for _, want := range []string{"started", "ready", "ended", "rejected", "stopping", "stopped"} {
		if !events[want] {
			t.Errorf("no line has the event %s:\n%s", want, s.Output)
		}
	}
}
