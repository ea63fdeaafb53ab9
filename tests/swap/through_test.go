package swap

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// current opens a site whose first generation is current: before, nothing needs leave.
func current(t *testing.T, o site.Options) *site.Site {
	t.Helper()
	s := site.Open(t, o)
	s.Becomes(1, "current")
	return s
}

func TestASwapGoesThroughACommand(t *testing.T) {
	s := current(t, site.Options{Flags: []string{"--swap-through", "sh -c 'echo $HOTINIT_SWAP >before; {} >outcome; echo $? >after'"}})
	s.Swap("v2")
	s.Contains("after", "0")
	if !strings.HasPrefix(s.Read("outcome"), "generation 2 is current (release ") || s.Read("before") == "" {
		t.Errorf("before %q, outcome %q", s.Read("before"), s.Read("outcome"))
	}
	s.Answers("v2 generation 2 ")
	_ = os.Remove(s.File("after"))
	s.Swap("v3", "-exit", "9")
	s.Contains("after", "1")
	// What follows a failure needs no leave, and neither does a rollback.
	_ = os.Remove(s.File("after"))
	if status, text := s.Ask("rollback", "--wait"); status != 0 {
		t.Errorf("status %d: %s", status, text)
	}
	if s.Read("after") != "" {
		t.Error("the rollback has waited for leave")
	}
}

func TestWithoutLeaveASwapIsOff(t *testing.T) {
	s := current(t, site.Options{Flags: []string{"--swap-through", "sh -c 'echo locked by another >&2; exit 3; {}'"}})
	status, text := s.Ask("reload", "--wait")
	if status != 1 || !strings.Contains(text, "the swap is off: --swap-through: it exited with status 3: locked by another") {
		t.Errorf("status %d: %s", status, text)
	}
	if status, text := s.Ask("status"); status != 0 || !strings.Contains(text, "locked by another") {
		t.Errorf("status %d: %s", status, text)
	}
	s.Answers("v1 generation 1 ")
}

func TestLeaveHasATimeLimit(t *testing.T) {
	s := current(t, site.Options{Flags: []string{"--swap-through", "sh -c 'sleep 1000; {}'", "--swap-through-timeout", "50ms"}})
	status, text := s.Ask("reload", "--wait")
	if status != 1 || !strings.Contains(text, "--swap-through-timeout") {
		t.Errorf("status %d: %s", status, text)
	}
	s.Until("the command is gone", func() bool { return !runs(s, "sleep") })
}

// runs reports whether a program runs in the box.
func runs(s *site.Site, name string) bool {
	for _, p := range s.Processes() {
		if len(p.Args) > 0 && p.Args[0] == name && !p.Zombie() {
			return true
		}
	}
	return false
}

// waiting is a site whose swap waits until a FIFO is opened.
func waiting(t *testing.T) (s *site.Site, open func()) {
	t.Helper()
	s = current(t, site.Options{Flags: []string{"--swap-through", "sh -c 'read x <gate; {} >outcome 2>&1; echo $? >after'"}})
	open = box.Fifo(t, s.File("gate"))
	s.Swap("v2")
	s.Until("the command runs", func() bool {
		return slices.ContainsFunc(s.Processes(), func(p box.Process) bool {
			return len(p.Args) > 2 && strings.HasPrefix(p.Args[2], "read x <gate")
		})
	})
	return s, open
}

func TestTheNewestContentIsSwappedTo(t *testing.T) {
	s, open := waiting(t)
	s.Swap("v3")
	s.Until("the newer content was seen", func() bool {
		_, text := s.Ask("status")
		return strings.Contains(text, "waiting: ")
	})
	open()
	s.Answers("v3 generation ")
	s.Contains("after", "0")
}

func TestAStopDoesNotWaitForLeave(t *testing.T) {
	s, _ := waiting(t)
	s.Stop(0)
}

func TestASwapThatWaitsSurvivesAKilledHandoff(t *testing.T) {
	s, open := waiting(t)
	s.KillHandoff()
	s.Until("the next handoff waits", func() bool {
		_, text := s.Ask("status")
		return strings.Contains(text, "waiting: ")
	})
	s.KillHandoff()
	open()
	s.Answers("v2 generation 2 ")
	s.Contains("after", "0")
	if n := strings.Count(s.Output.Text(), "a swap is due"); n != 1 {
		t.Errorf("leave was asked for %d times\n%s", n, s.Output)
	}
	// Its end is known: the next swap asks again.
	s.Swap("v3")
	s.Line("a swap is due")
	open()
	s.Answers("v3 generation 3 ")
}

func TestTheOutcomeSurvivesAKilledHandoff(t *testing.T) {
	s := current(t, site.Options{
		Flags: []string{"--ready", "notify", "--swap-through", "sh -c '{} >outcome 2>&1; echo $? >after'"}})
	fifo := s.File("ready")
	open := box.Fifo(t, fifo)
	s.Swap("v2", "-ready", fifo)
	s.Becomes(2, "candidate")
	s.KillHandoff()
	s.Becomes(2, "candidate")
	open()
	s.Contains("after", "0")
	s.Contains("outcome", "generation 2 is current")
}

// TestWithALockNoTwoSwapAtATime has several hotinits wait for one lock, each with a
// candidate that takes its time.
func TestWithALockNoTwoSwapAtATime(t *testing.T) {
	site.Need(t, "flock")
	withLock(t, 3, func(dir string) string { return "flock " + dir + "/lock {}" })
}

// withLock swaps n hotinits that watch one file, at the same moment. Each notes in a
// journal when its command begins and ends.
func withLock(t *testing.T, n int, command func(dir string) string) {
	dir := t.TempDir()
	path := dir + "/server"
	box.Install(t, path, "v1")
	journal := dir + "/journal"
	var sites []*site.Site
	for i := range n {
		s := site.Open(t, site.Options{Command: []string{path}, Beside: i > 0, Sub: true,
			Flags: []string{"--swap-through", strings.Replace(command(dir), "{}", fmt.Sprintf("sh -c \"echo begin >>%s; {}; echo end >>%s\"", journal, journal), 1)}})
		s.Becomes(1, "current")
		sites = append(sites, s)
	}
	box.Swap(t, path, "v2")
	for _, s := range sites {
		s.Answers("v2 generation 2 ")
	}
	sites[0].Until("all commands have ended", func() bool {
		b, _ := os.ReadFile(journal)
		return strings.Count(string(b), "end\n") == n
	})
	b, _ := os.ReadFile(journal)
	if string(b) != strings.Repeat("begin\nend\n", n) {
		t.Errorf("two swapped at a time: %q", b)
	}
	for _, s := range sites {
		s.Signal(unix.SIGTERM)
	}
}

// TestWithEtcdsLockNoTwoSwapAtATime does the same with a lock that many hosts can
// share.
func TestWithEtcdsLockNoTwoSwapAtATime(t *testing.T) {
	site.Need(t, "etcd")
	site.Need(t, "etcdctl")
	dir := t.TempDir()
	client, peer := "unix://etcd-client.sock:0", "unix://etcd-peer.sock:0"
	c := exec.Command("etcd", "--data-dir", "data", "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer, "--log-level", "error")
	c.Dir = dir
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	endpoint := "unix://" + dir + "/etcd-client.sock:0"
	if !box.Eventually(func() bool {
		return exec.Command("etcdctl", "--endpoints", endpoint, "get", "x").Run() == nil
	}) {
		t.Fatalf("etcd does not answer: %s", &out)
	}
	withLock(t, 3, func(string) string { return "etcdctl --endpoints " + endpoint + " lock web -- {}" })
}

// TestABrokenReleaseStopsAtTheFirstReplica has several hotinits swap through the
// example's script to a release that ends at once.
func TestABrokenReleaseStopsAtTheFirstReplica(t *testing.T) {
	site.Need(t, "flock")
	script, err := os.ReadFile("../../examples/deploy/swap-once")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := dir + "/server"
	box.Install(t, path, "v1")
	if err := os.WriteFile(dir+"/swap-once", []byte(strings.ReplaceAll(string(script), "/app/", dir+"/")), 0o755); err != nil {
		t.Fatal(err)
	}
	var sites []*site.Site
	for i := range 3 {
		s := site.Open(t, site.Options{Command: []string{path}, Beside: i > 0, Sub: true, Flags: []string{"--swap-through", dir + "/swap-once {}"}})
		s.Becomes(1, "current")
		sites = append(sites, s)
	}
	box.Swap(t, path, "v2", "-exit", "9")
	failed := 0
	for _, s := range sites {
		s.Line("generation 2 failed|the swap is off: .*failed on another replica")
		if strings.Contains(s.Output.Text(), "generation 2 failed") {
			failed++
		}
	}
	if failed != 1 {
		t.Errorf("%d replicas have tried it", failed)
	}
	// One that is mended gets through.
	box.Swap(t, path, "v3")
	for _, s := range sites {
		s.Answers("v3 generation ")
		s.Signal(unix.SIGTERM)
	}
}
