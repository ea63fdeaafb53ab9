package deploy

import (
	"fmt"
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
	s := open(t, options{flags: []string{"--interval", "5s"}, script: lateFailure})
	s.becomes(1, "current")
	s.Signal(unix.SIGHUP)
	s.Line("^begun 2$")
	s.Signal(unix.SIGHUP)
	s.Line(`generation 2 failed: exited with status 3`)
	s.Line(`generation 3 failed: exited with status 3; generation 1 stays`)
	if g := s.generation(1); g == nil || g.Phase != "current" || g.Stopped {
		t.Errorf("generation 1 does not serve any more: %+v", g)
	}
}

func TestHUPsDuringASwapLeadToOneMore(t *testing.T) {
	s := serving(t, options{flags: []string{"--ready", "notify"}})
	gate := box.Fifo(t, s.file("gate"))
	box.Swap(t, s.path, "v2", "-ready", s.file("gate"))
	s.Line(`generation 2 .* started`)
	for range 5 {
		s.Signal(unix.SIGHUP)
	}
	// A status is answered once all before it was acted upon.
	s.becomes(2, "candidate")
	gate()
	s.Line(`generation 2 is ready`)
	s.Line(`generation 3 .* started`)
	gate()
	s.Answers("v2 generation 3 ")
	s.running(1)
	s.stop(0)
	s.never("generation 4")
}

func TestTERMEndsAFirstStartThatFailsAgainAndAgain(t *testing.T) {
	s := open(t, options{name: "start_server", sub: true, flags: []string{"--interval", "3600"}, app: []string{"-exit", "7"}})
	s.Line(`generation 1 failed: .*status 7; it is tried again`)
	s.stop(0)
}

func TestTERMDuringKillOldDelayEndsBoth(t *testing.T) {
	s := serving(t, options{flags: []string{"--kill-old-delay", "1h"}})
	s.swap("v2")
	s.Line(`generation 2 is ready; generation 1 is told to go in 1h`)
	s.stop(0)
	if n := len(s.Processes()); n != 0 {
		t.Errorf("%d processes are left", n)
	}
}

func TestTERMWhileAnOldGenerationDrainsEndsItToo(t *testing.T) {
	s := serving(t, options{flags: []string{"--drain-timeout", "0", "--stop-timeout", "1s"}, app: []string{"-term", "ignore"}})
	s.swap("v2")
	s.Answers("v2 generation 2 ")
	s.becomes(1, "retiring")
	s.stop(0)
}

func TestTERMWhileACandidateIsCheckedEndsAtOnce(t *testing.T) {
	s := serving(t, options{flags: []string{"--check", "sh -c 'test $HOTINIT_GENERATION = 1 || { echo checked >" + "checking; exec sleep 1000; }'"}})
	s.swap("v2")
	s.contains("checking", "checked")
	s.stop(0)
	s.never("v2 ")
}

func TestCurrentThatDiesWhileACandidateStartsIsReplacedByIt(t *testing.T) {
	s := serving(t, options{flags: []string{"--ready", "notify"}})
	gate := box.Fifo(t, s.file("gate"))
	s.swap("v2", "-ready", s.file("gate"))
	s.Line(`generation 2 .* started`)
	s.die(5)
	s.Line(`generation 1 exited with status 5; generation 2, which is starting, takes over`)
	gate()
	s.Answers("v2 generation 2 ")
	s.becomes(2, "current")
	s.stop(0)
}

func TestTwoChangesInARowLeadToTheNewest(t *testing.T) {
	s := serving(t, options{flags: []string{"--ready", "notify"}})
	box.Fifo(t, s.file("gate"))
	s.swap("v2", "-ready", s.file("gate"))
	s.Line(`generation 2 .* started`)
	s.swap("v3")
	s.Line(`generation 2 is told to go: there is newer content`)
	s.Answers("v3 generation 3 ")
	s.running(1)
	s.stop(0)
}

// The machine decides how long it takes; the log says so.
func TestAHundredSwaps(t *testing.T) {
	s := serving(t, options{flags: []string{"--ready", "notify"}, app: []string{"-quiet"}})
	begun := time.Now()
	for n := 2; n <= 101; n++ {
		s.Signal(unix.SIGHUP)
		s.Line(fmt.Sprintf(`generation %d is ready`, n))
	}
	t.Logf("100 swaps in %v", time.Since(begun))
	s.Answers("v1 generation 101 ")
	s.running(1)
	s.stop(0)
}

func TestAFirstGenerationThatFailsEndsHotinitWithItsStatus(t *testing.T) {
	s := open(t, options{app: []string{"-exit", "41"}})
	s.ends(41)
}

func TestCurrentThatDiesDuringKillOldDelayIsReplacedByTheOldOne(t *testing.T) {
	s := serving(t, options{flags: []string{"--kill-old-delay", "1h"}})
	s.swap("v2")
	s.Answers("v2 generation 2 ")
	s.kill(2)
	s.Line(`generation 1, which was not told to go yet, serves again`)
	s.Answers("v1 generation 1 ")
	s.stop(0)
}

func TestADeadOldGenerationIsReapedWhileAStartIsUnderWay(t *testing.T) {
	s := serving(t, options{flags: []string{"--ready", "notify", "--drain-timeout", "0"}, app: []string{"-term", "ignore"}})
	s.swap("v2")
	s.Answers("v2 generation 2 ")
	s.becomes(1, "retiring")
	box.Fifo(t, s.file("gate"))
	s.swap("v3", "-ready", s.file("gate"))
	s.Line(`generation 3 .* started`)
	s.kill(1)
	s.Until("no process is a zombie", func() bool { return !slices.ContainsFunc(s.Processes(), box.Process.Zombie) })
	s.becomes(3, "candidate")
	s.stop(0)
}
