package upgrade

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/load"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// faults is the file that tells a hotinit what to do at which point.
type faults struct{ path string }

// faulty starts the older hotinit, so that faults can be set.
func faulty(t *testing.T, o site.Options) (*site.Site, faults) {
	t.Helper()
	f := faults{filepath.Join(t.TempDir(), "fault")}
	o.Env = append(slices.Clone(o.Env), "_HOTINIT_FAULT="+f.path)
	return run(t, o), f
}

// set has a hotinit of a version do something at a point, once.
func (f faults) set(t *testing.T, words ...string) {
	t.Helper()
	// Whoever reads it finds all of it.
	err := os.WriteFile(f.path+".new", []byte(strings.Join(words, " ")), 0o644)
	if err == nil {
		err = os.Rename(f.path+".new", f.path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// fired reports whether the point was reached.
func (f faults) fired() bool {
	_, err := os.Stat(f.path)
	return os.IsNotExist(err)
}

const either = "either"

// steps are the points of an upgrade, who reaches it, what is done there, and what
// becomes of the upgrade. (Once the older handoff has sent it, init kills it.)
// The handoff may be killed sooner or later than init is replaced: then it is
// either.
var steps = []struct{ version, point, action, why string }{
	{older, "handoff.asked", "kill", "ask again"},
	{older, "handoff.asked", "fail", "told to fail"},
	{older, "init.handed", "fail", "ended before it acted"},
	{newer, "handoff.start", "exit", "ended before it acted"},
	{newer, "handoff.start", "kill", "ended before it acted"},
	{newer, "handoff.able", "exit", "ended before it acted"},
	{newer, "handoff.able", "kill", "ended before it acted"},
	{newer, "handoff.waits", "kill", either},
	{older, "init.prove", "fail", either},
	{newer, "trial", "fail", "told to fail"},
	{newer, "trial", "exit", "without an answer"},
	{older, "init.tried", "fail", either},
	{older, "init.execute", "fail", "executed in init's place"},
	{newer, "handoff.released", "kill", ""}, // init is the newer one by then
}

func TestAFailureAtAnyStepLeavesAHotinitAtWork(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			s, f := faulty(t, way)
			pid := s.Generation(1).PID
			l := load.Start(load.Options{Address: s.Address})
			for _, step := range steps {
				f.set(t, step.version, step.point, step.action)
				switch step.why {
				case "":
					upgrade(t, s, newer)
				case either:
					s.Ask("upgrade", hotinit(t, newer))
				default:
					rejected(t, s, hotinit(t, newer), step.why, older)
				}
				if !f.fired() {
					t.Fatalf("%v was not reached\noutput:\n%s", step, s.Output)
				}
				if step.why == "" || step.why == either {
					upgrade(t, s, older)
				}
				same(t, s, 1, pid)
				// A signal goes the whole way, through both processes.
				s.Signal(unix.SIGUSR1)
			}
			f.set(t, newer, "trial", "fail")
			rejected(t, s, hotinit(t, newer), "told to fail", older)
			if text := s.Status().Upgrade; !strings.Contains(text, "rejected: it was told to fail at trial") {
				t.Errorf("the status says %q", text)
			}
			upgrade(t, s, older)
			if text := s.Status().Upgrade; text != "" {
				t.Errorf("the last one was a success, and the status says %q", text)
			}
			upgrade(t, s, newer)
			same(t, s, 1, pid)
			s.Swap("v2")
			s.Answers("v2 generation 2 ")
			if r := l.Stop(); r.Losses() > 0 || r.Done == 0 {
				t.Errorf("%v\noutput:\n%s", r, s.Output)
			}
			s.Becomes(2, "current")
			s.Stop(0)
		})
	}
}

// moments are the points before and after each message of an upgrade, who comes to it,
// and whether that is init.
var moments = []struct {
	version, point string
	init, always   bool // always: not only with HOTINIT_TEST_FAULTS=all
}{
	{version: older, point: "handoff.asked", always: true},
	{version: older, point: "init.handed", init: true},
	{version: newer, point: "handoff.start"},
	{version: newer, point: "handoff.opened"},
	{version: newer, point: "handoff.able"},
	{version: newer, point: "handoff.waits", always: true},
	{version: older, point: "init.prove", init: true},
	{version: newer, point: "trial"},
	{version: older, point: "init.tried", init: true},
	{version: older, point: "init.execute", init: true, always: true},
	{version: newer, point: "init.resumed", init: true},
	{version: newer, point: "handoff.released"},
}

// Whoever is stopped, or gets no time for seconds: the upgrade succeeds or is rejected,
// and the HUP that comes meanwhile is one generation.
func TestAStopOrStarvationAtAnyMessageOfAnUpgradeLosesNothing(t *testing.T) {
	for name, way := range ways {
		for _, action := range []string{"stop", "late"} {
			t.Run(action+" "+name, func(t *testing.T) {
				s, f := faulty(t, way)
				l := load.Start(load.Options{Address: s.Address})
				n, became := 1, map[string]int{}
				for _, m := range moments {
					if !m.always && os.Getenv("HOTINIT_TEST_FAULTS") != "all" {
						continue
					}
					what := action
					if m.init {
						what = "late" // PID 1 is immune to its own SIGSTOP
					}
					f.set(t, m.version, m.point, what)
					c := s.Client("upgrade", hotinit(t, newer))
					answer := make(chan string, 1)
					go func() {
						_, text := site.Finish(t, c)
						answer <- strings.TrimSpace(text)
					}()
					s.Until("it comes to "+m.point, f.fired)
					if m.init && action == "stop" {
						s.Signal(unix.SIGSTOP)
					}
					s.Signal(unix.SIGHUP)
					if m.init && action == "stop" {
						s.Signal(unix.SIGCONT)
					}
					text := <-answer
					n++
					s.Becomes(n, "current")
					s.Until("it is alone", func() bool { return len(s.Status().Generations) == 1 })
					version := s.Status().Version
					t.Logf("%s at %s: %s", action, m.point, text)
					if (version == newer) != strings.HasSuffix(text, newer+" runs") && strings.Contains(text, "runs") {
						t.Errorf("%s at %s: hotinit %s runs, and the upgrade said %s", action, m.point, version, text)
					}
					runs(t, s, version)
					became[version]++
					if version == newer {
						upgrade(t, s, older)
					}
					if t.Failed() {
						t.Fatalf("%s at %s\noutput:\n%s", action, m.point, s.Output)
					}
				}
				s.Swap("v2")
				n++
				s.Answers(fmt.Sprintf("v2 generation %d ", n))
				s.Becomes(n, "current")
				if r := l.Stop(); r.Losses() > 0 || r.Done == 0 {
					t.Errorf("%v\noutput:\n%s", r, s.Output)
				} else {
					t.Logf("%v; %v", became, r)
				}
				for g := 1; g <= n; g++ {
					if got := s.Output.Count(regexp.MustCompile(fmt.Sprintf(`^app v\d generation %d pid \d+: started$`, g))); got != 1 {
						t.Errorf("generation %d was started %d times\noutput:\n%s", g, got, s.Output)
					}
				}
				s.Stop(0)
			})
		}
	}
}

func TestAHotinitThatHangsIsRejectedInTime(t *testing.T) {
	for _, step := range []struct{ point, why string }{
		{"handoff.start", "did not act within 10s"},
		{"handoff.able", "did not act within 10s"},
		{"trial", "did not answer within 5s"},
	} {
		t.Run(step.point, func(t *testing.T) {
			s, f := faulty(t, site.Options{})
			pid := s.Generation(1).PID
			f.set(t, newer, step.point, "hang")
			rejected(t, s, hotinit(t, newer), step.why, older)
			if !f.fired() {
				t.Error("it did not hang")
			}
			same(t, s, 1, pid)
			s.Swap("v2")
			s.Answers("v2 generation 2 ")
			s.Becomes(2, "current")
			s.Stop(0)
		})
	}
}

// docker stop kills after 10 s: a hotinit that hangs must not use them up.
func TestASignalToStopEndsAnUpgradeThatHangs(t *testing.T) {
	s, f := faulty(t, site.Options{App: []string{"-status", "3"}})
	f.set(t, newer, "handoff.able", "hang")
	c := s.Client("upgrade", hotinit(t, newer))
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	s.Until("the newer hotinit hangs", f.fired)
	s.Signal(unix.SIGTERM)
	s.Ends(3)
	s.Line("did not act on a signal for 2s")
	s.Line("stops: SIGTERM; SIGTERM is sent to generation 1")
	s.Line("ends with status 3: it was told to stop")
	_ = c.Wait()
}

// Each signal is for the older or the newer hotinit, wherever it comes in between.
func TestASignalDuringAnUpgradeIsActedUpon(t *testing.T) {
	for _, step := range []struct{ version, point string }{
		{older, "handoff.asked"}, {newer, "handoff.start"}, {newer, "handoff.able"}, {newer, "trial"}, {newer, "handoff.waits"},
	} {
		t.Run(step.point, func(t *testing.T) {
			s, f := faulty(t, site.Options{})
			for i, action := range []string{"wait", "wait"} {
				f.set(t, step.version, step.point, action)
				done := make(chan string, 1)
				c := s.Client("upgrade", hotinit(t, newer))
				go func() {
					_, text := site.Finish(t, c)
					done <- text
				}()
				s.Until("it has come to the point", f.fired)
				s.Signal(unix.SIGHUP)
				f.set(t, "go", "on")
				if text := <-done; !strings.Contains(text, "runs") {
					t.Errorf("%s\noutput:\n%s", text, s.Output)
				}
				_ = os.Remove(f.path)
				s.Answers([]string{"v1 generation 2 ", "v1 generation 3 "}[i])
				s.Becomes(i+2, "current")
				upgrade(t, s, older)
			}
			c := s.Client("upgrade", hotinit(t, newer))
			f.set(t, step.version, step.point, "wait")
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			s.Until("it has come to the point", f.fired)
			s.Signal(unix.SIGTERM)
			f.set(t, "go", "on")
			s.Ends(0)
			_ = c.Wait()
		})
	}
}
