package swap

import (
	"fmt"
	"github.com/hotinit/hotinit/internal/testkit/site"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// A generation that ends within its interval, though not at once.
const lateFailure = `
if [ "$HOTINIT_GENERATION" = 1 ]; then echo first; exec sleep 1000; fi
echo "begun $HOTINIT_GENERATION"
sleep 0.5
exit 3
`

func TestASecondHUPDoesNotShortenTheIntervalOfABadCandidate(t *testing.T) {
	s := site.Open(t, site.Options{Flags: []string{"--interval", "5s"}, Script: lateFailure})
	s.Becomes(1, "current")
	s.Signal(unix.SIGHUP)
	s.Line("^begun 2$")
	s.Signal(unix.SIGHUP)
	s.Line(`generation 2 failed.*: exited with status 3`)
	s.Line(`generation 3 failed.*: exited with status 3.*; generation 1 stays`)
	if g := s.Generation(1); g == nil || g.Phase != "current" || g.Stopped {
		t.Errorf("generation 1 does not serve any more: %+v", g)
	}
}

func TestHUPsDuringASwapLeadToOneMore(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--ready", "notify"}})
	gate := box.Fifo(t, s.File("gate"))
	box.Swap(t, s.Path, "v2", "-ready", s.File("gate"))
	s.Line(`generation 2 .* started`)
	for range 5 {
		s.Signal(unix.SIGHUP)
	}
	// A status is answered once all before it was acted upon.
	s.Becomes(2, "candidate")
	gate()
	s.Line(`generation 2 is ready`)
	s.Line(`generation 3 .* started`)
	gate()
	s.Answers("v2 generation 3 ")
	s.Running(1)
	s.Stop(0)
	s.Never("generation 4")
}

func TestTERMEndsAFirstStartThatFailsAgainAndAgain(t *testing.T) {
	s := site.Open(t, site.Options{Name: "start_server", Sub: true, Flags: []string{"--interval", "3600"}, App: []string{"-exit", "7"}})
	s.Line(`generation 1 failed.*: .*status 7.*; it is tried again`)
	s.Stop(0)
}

func TestTERMDuringKillOldDelayEndsBoth(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--kill-old-delay", "1h"}})
	s.Swap("v2")
	s.Line(`generation 2 is ready.*; generation 1 is told to go in 1h`)
	s.Stop(0)
	if n := len(s.Processes()); n != 0 {
		t.Errorf("%d processes are left", n)
	}
}

func TestTERMWhileAnOldGenerationDrainsEndsItToo(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--drain-timeout", "0", "--stop-timeout", "1s"}, App: []string{"-term", "ignore"}})
	s.Swap("v2")
	s.Answers("v2 generation 2 ")
	s.Becomes(1, "retiring")
	s.Stop(0)
}

func TestTERMWhileACandidateIsCheckedEndsAtOnce(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--check", "sh -c 'test $HOTINIT_GENERATION = 1 || { echo checked >" + "checking; exec sleep 1000; }'"}})
	s.Swap("v2")
	s.Contains("checking", "checked")
	s.Stop(0)
	s.Never("v2 ")
}

func TestCurrentThatDiesWhileACandidateStartsIsReplacedByIt(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--ready", "notify"}})
	gate := box.Fifo(t, s.File("gate"))
	s.Swap("v2", "-ready", s.File("gate"))
	s.Line(`generation 2 .* started`)
	_, _ = box.Get(s.Address, "/exit?status=5") // generation 2 does not accept yet
	s.Line(`generation 1 exited with status 5.*; generation 2, which is starting, takes over`)
	gate()
	s.Answers("v2 generation 2 ")
	s.Becomes(2, "current")
	s.Stop(0)
}

func TestTwoChangesInARowLeadToTheNewest(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--ready", "notify"}})
	box.Fifo(t, s.File("gate"))
	s.Swap("v2", "-ready", s.File("gate"))
	s.Line(`generation 2 .* started`)
	s.Swap("v3")
	s.Line(`generation 2 is told to go.*: there is newer content`)
	s.Answers("v3 generation 3 ")
	s.Running(1)
	s.Stop(0)
}

// The machine decides how long it takes; the log says so.
func TestAHundredSwaps(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--ready", "notify"}, App: []string{"-quiet"}})
	begun := time.Now()
	for n := 2; n <= 101; n++ {
		s.Signal(unix.SIGHUP)
		s.Line(fmt.Sprintf(`generation %d is ready`, n))
	}
	t.Logf("100 swaps in %v", time.Since(begun))
	s.Answers("v1 generation 101 ")
	s.Running(1)
	s.Stop(0)
}

func TestAFirstGenerationThatFailsEndsHotinitWithItsStatus(t *testing.T) {
	s := site.Open(t, site.Options{App: []string{"-exit", "41"}})
	s.Ends(41)
}

func TestCurrentThatDiesDuringKillOldDelayIsReplacedByTheOldOne(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--kill-old-delay", "1h"}})
	s.Swap("v2")
	s.Becomes(2, "current") // a candidate answers too
	s.Kill(2)
	s.Line(`generation 1, which was not terminated yet, serves again`)
	s.Answers("v1 generation 1 ")
	s.Stop(0)
}

func TestADeadOldGenerationIsReapedWhileAStartIsUnderWay(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--ready", "notify", "--drain-timeout", "0"}, App: []string{"-term", "ignore"}})
	s.Swap("v2")
	s.Answers("v2 generation 2 ")
	s.Becomes(1, "retiring")
	box.Fifo(t, s.File("gate"))
	s.Swap("v3", "-ready", s.File("gate"))
	s.Line(`generation 3 .* started`)
	s.Kill(1)
	s.Until("no process is a zombie", func() bool { return !slices.ContainsFunc(s.Processes(), box.Process.Zombie) })
	s.Becomes(3, "candidate")
	s.Stop(0)
}
