package upgrade

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/load"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// rounds is how many upgrades are made under load. HOTINIT_TEST_UPGRADES sets
// another number.
func rounds(t *testing.T) int {
	t.Helper()
	if text := os.Getenv("HOTINIT_TEST_UPGRADES"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 20
}

// usage is what both processes use.
type usage struct{ open, private int }

func measure(t *testing.T, s *site.Site) usage {
	t.Helper()
	var u usage
	for _, pid := range []int{s.PID(), s.Handoff().PID} {
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			t.Fatal(err)
		}
		u.open += len(fds)
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			t.Fatal(err)
		}
		if m := regexp.MustCompile(`Private_Dirty: +(\d+) kB`).FindSubmatch(b); m != nil {
			n, _ := strconv.Atoi(string(m[1]))
			u.private += n
		}
	}
	return u
}

// zombies are the processes that have ended and that nobody has reaped.
func zombies(s *site.Site) (n int) {
	for _, p := range s.Processes() {
		if p.Zombie() {
			n++
		}
	}
	return n
}

func TestUpgradesUnderLoadLoseNothing(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			s := run(t, way)
			l := load.Start(load.Options{Address: s.Address})
			generation := 1
			next := func(i int) string {
				if i%2 == 0 {
					return newer
				}
				return older
			}
			for i := range 4 { // as it is in the long run: with all releases that are kept
				upgrade(t, s, next(i))
				generation++
				s.Swap(fmt.Sprintf("v%d", generation))
				s.Answers(fmt.Sprintf("v%d generation %[1]d ", generation))
				s.Becomes(generation, "current")
			}
			s.Running(1)
			before := measure(t, s)
			n := rounds(t)
			for i := range n {
				if i%5 == 4 {
					// A swap right before, which the upgrade waits for, and right after.
					generation++
					s.Swap(fmt.Sprintf("v%d", generation))
				}
				if got := s.Get(s.Address, "/orphans?n=20"); !strings.Contains(got, "20 orphans") {
					t.Fatal(got)
				}
				upgrade(t, s, next(i))
				if i%5 == 4 {
					s.Answers(fmt.Sprintf("v%d generation %[1]d ", generation))
					s.Becomes(generation, "current")
				}
			}
			if r := l.Stop(); r.Losses() > 0 || r.Done == 0 {
				t.Errorf("%v\noutput:\n%s", r, s.Output)
			} else {
				t.Logf("%d upgrades, %v", n, r)
			}
			s.Until("no orphan is left", func() bool { return zombies(s) == 0 })
			s.Until("hotinit, its handoff and the app are all that runs", func() bool { return len(s.Processes()) == 3 })
			var after usage
			s.Until("no more descriptors are open than before", func() bool {
				after = measure(t, s)
				return after.open <= before.open
			})
			t.Logf("before %+v, after %+v", before, after)
			if more := after.private - before.private; more > 4096 {
				t.Errorf("%d KB more are used", more)
			}
			s.Stop(0)
		})
	}
}

// A generation ends with a status of its own while hotinit is being replaced.
func TestTheStatusOfAGenerationThatEndsDuringAnUpgradeIsExact(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			way.Flags = []string{"--on-exit", "restart", "--probation", "0"}
			s := run(t, way)
			s.Becomes(1, "current")
			for i := range 12 {
				version, status := newer, 20+i
				if i%2 == 1 {
					version = older
				}
				c := s.Client("upgrade", hotinit(t, version))
				if err := c.Start(); err != nil {
					t.Fatal(err)
				}
				s.Until("a moment has passed", func() bool { return rand.IntN(4) == 0 })
				_, _ = box.Get(s.Address, "/exit?status="+strconv.Itoa(status))
				if err := c.Wait(); err != nil {
					t.Errorf("upgrade: %v\noutput:\n%s", err, s.Output)
				}
				s.Answers(fmt.Sprintf("v1 generation %d ", i+2))
				s.Becomes(i+2, "current")
				past := s.Status().Past
				if p := past[len(past)-1]; p.N != i+1 || p.Status != status {
					t.Errorf("generation %d ended with status %d, want %d of generation %d\noutput:\n%s", p.N, p.Status, status, i+1, s.Output)
				}
			}
			s.Stop(0)
		})
	}
}

// hotinit's own status is the app's, which ends during an upgrade.
func TestHotinitEndsWithTheStatusOfTheAppDuringAnUpgrade(t *testing.T) {
	for i := range 4 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			s := run(t, site.Options{Sub: i%2 == 1})
			c := s.Client("upgrade", hotinit(t, newer))
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			_, _ = box.Get(s.Address, "/exit?status=37")
			s.Ends(37)
			_ = c.Wait()
		})
	}
}

// Each signal comes to the app once: the next one is sent when it has arrived.
func TestNoSignalIsLostOrDoubledByUpgrades(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			way.NoPort, way.App = true, []string{"-echo"}
			way.Binary = hotinit(t, older)
			hotinit(t, newer)
			s := site.Open(t, way)
			s.Line("listening to signals")
			done := make(chan string)
			go func() {
				for i := range 10 {
					status, text := s.Ask("upgrade", hotinit(t, []string{newer, older}[i%2]))
					if status != 0 {
						done <- text
						return
					}
				}
				done <- ""
			}()
			sent := map[unix.Signal]int{}
			all := []unix.Signal{unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGWINCH, unix.SIGIO}
			for i := 0; ; i++ {
				sig := all[i%len(all)]
				s.Signal(sig)
				sent[sig]++
				s.Line("^got " + unix.SignalName(sig) + "$")
				select {
				case text := <-done:
					if text != "" {
						t.Errorf("%s\noutput:\n%s", text, s.Output)
					}
				default:
					continue
				}
				break
			}
			total := 0
			for sig, n := range sent {
				total += n
				if got := s.Output.Count(regexp.MustCompile("^got " + unix.SignalName(sig) + "$")); got != n {
					t.Errorf("%d of %s were sent, and %d arrived", n, unix.SignalName(sig), got)
				}
			}
			t.Logf("%d signals", total)
			s.Stop(0)
		})
	}
}

// What the app gets is what the first hotinit was started with, whichever hotinit
// starts it.
func TestAGenerationAfterAnUpgradeGetsTheSame(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			way.Env = []string{"GODEBUG=gctrace=0", "GOMAXPROCS=3", "GOGC=50", "A=1", "A=2", "EMPTY=", "HOTINIT_ENTRY=1:0:0"}
			way.Before = "ulimit -Sn 500; trap '' USR2; cd /"
			s := run(t, way)
			first := s.GivenTo(s.Address, 1)
			comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", s.PID()))
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.PID()))
			slack := func(n int) string {
				p, _ := s.Find(s.Generation(n).PID)
				b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/timerslack_ns", p.PID)) // for root
				return string(b)
			}
			sleeps := slack(1)
			for i, version := range []string{newer, older} {
				upgrade(t, s, version)
				s.Signal(unix.SIGHUP)
				s.Becomes(i+2, "current")
				next := s.GivenTo(s.Address, i+2)
				if got := slack(i + 2); got != sleeps {
					t.Errorf("the timer slack of generation %d is %q, and was %q", i+2, got, sleeps)
				}
				for _, g := range []*box.Given{&first, &next} {
					g.PID, g.Group, g.Session, g.Foreground = 0, 0, 0, 0
					for i := range g.Descriptors {
						g.Descriptors[i].NonBlocking = false // the app sets it
					}
					for _, name := range []string{"HOTINIT_GENERATION", "SERVER_STARTER_GENERATION", "LISTEN_PID"} {
						delete(g.Env, name)
					}
				}
				if !reflect.DeepEqual(first, next) {
					t.Errorf("generation %d was given\n%+v\nand generation 1\n%+v", i+2, next, first)
				}
				for file, want := range map[string][]byte{"comm": comm, "cmdline": line} {
					if got, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", s.PID(), file)); string(got) != string(want) {
						t.Errorf("%s is %q, and was %q", file, got, want)
					}
				}
			}
			s.Stop(0)
		})
	}
}

// The next generation of a server that binds its own port gets the very socket.
func TestASocketThatTheAppBoundOutlivesAnUpgrade(t *testing.T) {
	address := box.Address()
	s := run(t, site.Options{NoPort: true, Command: []string{"python3", "-u", "-c", `
import http.server, os, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        b = ("own generation %s " % os.environ["HOTINIT_GENERATION"]).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(b))); self.end_headers(); self.wfile.write(b)
    def log_message(self, *a): pass
host, port = sys.argv[1].split(":")
http.server.HTTPServer((host, int(port)), H).serve_forever()`, address}, Flags: []string{"--adopt", "on"}})
	site.Need(t, "python3")
	s.Address = address
	s.Answers("own generation 1 ")
	s.Becomes(1, "current")
	for i, version := range []string{newer, older} {
		upgrade(t, s, version)
		s.Signal(unix.SIGHUP)
		s.Answers(fmt.Sprintf("own generation %d ", i+2))
		s.Becomes(i+2, "current")
	}
	s.Stop(128 + int(unix.SIGTERM))
}

// --watch-self: a rename is all that it needs.
func TestWatchSelfUpgradesWhenItsFileChanges(t *testing.T) {
	dir, err := os.MkdirTemp("", "hotinit-self")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "hotinit")
	put := func(from string) {
		t.Helper()
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(path+".new", b, 0o755)
		}
		if err == nil {
			err = os.Rename(path+".new", path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put(hotinit(t, older))
	s := site.Serving(t, site.Options{Name: path, Binary: path, Flags: []string{"--watch-self"}})
	pid := s.Generation(1).PID
	put(hotinit(t, newer))
	s.Line("hotinit 2.0.0 has taken over")
	put(stranger(t, "ends"))
	s.Line("rejected: its handoff ended before it acted")
	// It is not tried again; the next one is.
	put(hotinit(t, older))
	s.Line("hotinit 1.0.0 has taken over")
	if n := s.Output.Count(regexp.MustCompile("rejected")); n != 1 {
		t.Errorf("what was rejected was tried %d times:\n%s", n, s.Output)
	}
	same(t, s, 1, pid)
	// By hand, from where hotinit was started.
	if status, text := s.Ask("upgrade"); status != 0 || !strings.Contains(text, "hotinit 1.0.0 runs") {
		t.Errorf("status %d, %s", status, text)
	}
	s.Line("hotinit 1.0.0 has taken over \\(upgrade 4, from " + path)
	s.Stop(0)
}
