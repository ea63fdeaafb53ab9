package swap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/load"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// faulty returns a site whose handoff can be killed at a point, see package fault,
// and the file that says at which one.
func faulty(t *testing.T, o site.Options) (s *site.Site, file string) {
	t.Helper()
	t.Parallel()
	o.Beside, o.Binary = true, faultyHotinit(t)
	file = filepath.Join(t.TempDir(), "fault")
	o.Env = append(o.Env, "_HOTINIT_FAULT="+file)
	return site.Serving(t, o), file
}

var (
	faultyBuild sync.Once
	faultyDir   string
)

// faultyHotinit returns the path of a hotinit with the points of package fault. It
// is built once; main_test.go removes it.
func faultyHotinit(t *testing.T) string {
	t.Helper()
	faultyBuild.Do(func() {
		dir, err := os.MkdirTemp("", "hotinit-faults")
		if err != nil {
			t.Fatal(err)
		}
		c := exec.Command("go", "build", "-trimpath", "-tags", "faults", "-o", filepath.Join(dir, "hotinit"),
			"-ldflags", "-s -w -E hotinit_entry -X github.com/hotinit/hotinit/internal/version.Number=1.0.0", "github.com/hotinit/hotinit/cmd/hotinit")
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", c, err, out)
		}
		faultyDir = dir
	})
	return filepath.Join(faultyDir, "hotinit")
}

// killAt has the handoff be killed when it comes to a point for the nth time from
// now, and returns a function that reports whether it was.
func killAt(t *testing.T, file, point string, nth int) (killed func() bool) {
	t.Helper()
	tell(t, file, fmt.Sprintf("1.0.0 effect.%s kill %d", point, nth))
	return func() bool { return errors.Is(os.Remove(file), fs.ErrNotExist) }
}

// tell writes what package fault reads. Whoever reads it finds all of it.
func tell(t *testing.T, file, text string) {
	t.Helper()
	err := os.WriteFile(file+".new", []byte(text), 0o644)
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// points returns those before and after each of the kinds of effects.
func points(kinds string) (all []string) {
	for _, kind := range strings.Fields(kinds) {
		all = append(all, "before."+kind, "after."+kind)
	}
	return all
}

// everyFault is set where the handoff is killed at each effect that there is, and
// not only at the first of each kind.
var everyFault = os.Getenv("HOTINIT_TEST_FAULTS") == "all"

// settled waits until a single generation is left, and returns its number.
func settled(s *site.Site) (n int) {
	s.T.Helper()
	s.Until("a single generation is left, and is current", func() bool {
		g := s.Status().Generations
		if len(g) != 1 || g[0].Phase != "current" {
			return false
		}
		n = g[0].N
		return true
	})
	return n
}

// deaths are what the handoff is killed in, each time one step later.
var deaths = []struct {
	name  string
	kinds string // of the effects that it has
	// begin, if not nil, returns the generation that serves before it.
	begin func(s *site.Site, n int) int
	// ask asks for it, and returns the generation that serves in the end.
	ask func(s *site.Site, n int) int
	// end, if not nil, returns the generation that serves after it.
	end func(s *site.Site, n int) int
}{
	{
		name:  "a swap by HUP",
		kinds: "prepare forked record send say foreground outcome tell sweep",
		ask: func(s *site.Site, n int) int {
			s.Signal(unix.SIGHUP)
			s.Becomes(n+1, "current")
			return n + 1
		},
	},
	{
		name:  "a candidate that is rejected",
		kinds: "prepare forked record send say outcome sweep",
		ask: func(s *site.Site, n int) int {
			s.Swap(fmt.Sprint("bad", n), "-exit", "9")
			// Its number is taken.
			s.Until("the candidate has failed", func() bool {
				past := s.Status().Past
				return len(past) > 0 && past[len(past)-1].N == n+1
			})
			return n
		},
		end: func(s *site.Site, n int) int {
			s.Swap(fmt.Sprint("v", n+100))
			s.Becomes(n+2, "current")
			return n + 2
		},
	},
	{
		name:  "a rollback by hand",
		kinds: "prepare forked record send say outcome tell sweep",
		begin: func(s *site.Site, n int) int {
			s.Swap(fmt.Sprint("v", n+100))
			s.Becomes(n+1, "current")
			return n + 1
		},
		ask: func(s *site.Site, n int) int {
			for status, text := s.Ask("rollback"); status != 0; status, text = s.Ask("rollback") {
				// Whoever gets no answer does not know whether it is done.
				s.T.Logf("rollback: %s", strings.TrimSpace(text))
				if now := settled(s); now != n {
					return now
				}
			}
			s.Becomes(n+1, "current")
			return n + 1
		},
	},
}

func TestKillingTheHandoffBeforeAndAfterEachEffectLosesNothing(t *testing.T) {
	for _, d := range deaths {
		t.Run(d.name, func(t *testing.T) {
			s, file := faulty(t, site.Options{})
			l := load.Start(load.Options{Address: s.Address})
			n := settled(s)
			die := func(point string, nth int) (killed bool) {
				if d.begin != nil {
					n = d.begin(s, n)
					settled(s)
				}
				was := killAt(t, file, point, nth)
				want := d.ask(s, n)
				if n = settled(s); n != want {
					t.Fatalf("at %s (%d): generation %d serves, want %d\noutput:\n%s", point, nth, n, want, s.Output)
				}
				killed = was()
				if d.end != nil {
					n = d.end(s, n)
					settled(s)
				}
				return killed
			}
			if everyFault {
				for nth := 1; die("*", nth); nth++ {
				}
			} else {
				for _, point := range points(d.kinds) {
					if !die(point, 1) {
						t.Errorf("%s was not reached", point)
					}
				}
			}
			lossless(t, s.Box, l)
			if d.end == nil { // a candidate that exits at once says nothing
				once(t, s.Box, s.Path)
			}
			s.Stop(0)
		})
	}
}

// A handoff that is stopped does not act on the next signal: init ends it, and the
// next one goes on. One that gets no time for seconds goes on by itself.
func TestAHandoffThatIsStoppedOrStarvedAtAnEffectLosesNothing(t *testing.T) {
	few := map[string][]string{"stop": {"after.forked"}, "late": {"before.prepare", "after.record", "before.tell"}}
	for action, at := range few {
		if everyFault {
			at = points(deaths[0].kinds)
		}
		t.Run(action, func(t *testing.T) {
			s, file := faulty(t, site.Options{})
			l := load.Start(load.Options{Address: s.Address})
			n := settled(s)
			for _, point := range at {
				tell(t, file, "1.0.0 effect."+point+" "+action)
				s.Signal(unix.SIGHUP)
				s.Until("it comes to "+point, func() bool { _, err := os.Stat(file); return err != nil })
				if action == "stop" {
					s.Signal(unix.SIGWINCH)
					s.Line("did not act on a signal for 5s")
				}
				s.Becomes(n+1, "current")
				if now := settled(s); now != n+1 {
					t.Fatalf("at %s: generation %d serves, want %d\noutput:\n%s", point, now, n+1, s.Output)
				}
				n++
			}
			lossless(t, s.Box, l)
			once(t, s.Box, s.Path)
			s.Stop(0)
		})
	}
}

// A release that was started before its content was read is renamed by it later. The
// next handoff must find it by the name that the record has, or it would not know
// what runs, and watch for nothing.
func TestKillingTheHandoffWhileAReleaseIsRenamedLeavesTheWatch(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fault")
	was := killAt(t, file, "after.rename", 1)
	s := site.Serving(t, site.Options{Binary: faultyHotinit(t), Env: []string{"_HOTINIT_FAULT=" + file}})
	s.Line("the handoff was lost")
	if !was() {
		t.Error("it was not killed while it renamed")
	}
	s.Swap("v2")
	s.Becomes(2, "current")
	once(t, s.Box, s.Path)
	s.Stop(0)
}

func TestKillingTheHandoffBeforeAndAfterEachEffectOfAStop(t *testing.T) {
	// After the verdict init may end the handoff before it comes to "after.exit".
	for _, point := range append(points("tell sweep record send"), "before.exit") {
		t.Run(point, func(t *testing.T) {
			s, file := faulty(t, site.Options{App: []string{"-status", "3"}})
			settled(s)
			was := killAt(t, file, point, 1)
			s.Stop(3)
			if !was() {
				t.Errorf("it was not reached\noutput:\n%s", s.Output)
			}
		})
	}
}
