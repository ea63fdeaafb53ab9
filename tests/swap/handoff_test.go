package swap

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/load"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// The handoff is killed at a random moment of each of these swaps. The moment
// is counted in answered requests, from before the swap begins until well
// after the new generation serves.
func TestKillingTheHandoffDuringSwapsLosesNothing(t *testing.T) {
	b, path, address := serve(t, nil)
	l := load.Start(load.Options{Address: address})
	killed := 0
	for n := 2; n <= swaps+1; n++ {
		version := fmt.Sprintf("v%d ", n)
		moment := l.After(rand.IntN(150))
		answered := l.Answered(version)
		if n%2 == 0 {
			box.Swap(t, path, fmt.Sprintf("v%d", n))
			await(t, b, l, moment, "the moment to kill the handoff")
		} else {
			box.Install(t, path+".new", fmt.Sprintf("v%d", n))
			await(t, b, l, moment, "the moment to kill the handoff")
			box.Swap(t, path, fmt.Sprintf("v%d", n))
		}
		if b.KillHandoff() {
			killed++
		}
		await(t, b, l, answered, "an answer of "+version)
	}
	lossless(t, b, l)
	t.Logf("the handoff was killed %d times", killed)
	once(t, b, path)
	stop(t, b)
}

// Killed over and over, with nothing asked of it between, it comes back each
// time and the application is served throughout.
func TestKillingTheHandoffOverAndOver(t *testing.T) {
	b, path, address := serve(t, nil)
	l := load.Start(load.Options{Address: address})
	for range 15 {
		b.KillHandoff()
		await(t, b, l, l.After(rand.IntN(100)), "load without a handoff")
	}
	if r := l.Report(); len(r.By) != 1 {
		t.Errorf("answers came from %v, want those of v1 alone", r.By)
	}
	answered := l.Answered("v2 generation 2 ")
	box.Swap(t, path, "v2")
	await(t, b, l, answered, "an answer of v2")
	lossless(t, b, l)
	once(t, b, path)
	stop(t, b)
}

// Whoever kills it faster than it can say that it is there does not end the
// application either.
func TestKillingTheHandoffBeforeItIsThere(t *testing.T) {
	b, path, address := serve(t, nil)
	l := load.Start(load.Options{Address: address})
	for range 8 {
		b.KillHandoff()
	}
	answered := l.Answered("v2 generation 2 ")
	box.Swap(t, path, "v2")
	await(t, b, l, answered, "an answer of v2")
	lossless(t, b, l)
	once(t, b, path)
	stop(t, b)
}

// A signal that comes while there is no handoff is not lost.
func TestASignalWithoutAHandoffIsKept(t *testing.T) {
	b, path, address := serve(t, nil)
	for generation := 2; generation <= 6; generation++ {
		b.KillHandoff()
		b.Signal(unix.SIGHUP)
		b.Answers(address, fmt.Sprintf("v1 generation %d ", generation))
	}
	once(t, b, path)
	b.KillHandoff()
	stop(t, b)
}

// once checks that each generation was started once and none was left out, and
// that in the end a single one runs.
func once(t *testing.T, b *box.Box, path string) {
	t.Helper()
	started := map[int]int{}
	highest := 0
	pattern := regexp.MustCompile(`^app v\d+ generation (\d+) pid \d+: started$`)
	for _, line := range b.Output.All() {
		if found := pattern.FindStringSubmatch(line); found != nil {
			n, _ := strconv.Atoi(found[1])
			started[n]++
			highest = max(highest, n)
		}
	}
	for n := 1; n <= highest; n++ {
		if started[n] != 1 {
			t.Errorf("generation %d was started %d times:\n%s", n, started[n], b.Output)
		}
	}
	b.Until("a single generation runs", func() bool {
		n := 0
		for _, p := range b.Processes() {
			if len(p.Args) > 0 && p.Args[0] == path {
				n++
			}
		}
		return n == 1
	})
}

// The user's name has left /etc/passwd, and its group /etc/group, when the next
// handoff starts: the app goes on, and so does the next generation.
func TestANameThatIsGoneIsNoEndForANewHandoff(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can start an app as another user")
	}
	s := site.Serving(t, site.Options{
		Flags: []string{"--user", "someone:some", "--groups", "more"},
		Prepare: func(s *site.Site) {
			s.Enter()
			s.Write("passwd", "someone:x:4711:4712::/home/someone:/bin/sh\n")
			s.Write("group", "some:x:4713:\nmore:x:4714:\n")
		},
		Before: "mount --bind passwd /etc/passwd && mount --bind group /etc/group",
	})
	s.Write("passwd", "root:x:0:0::/:/bin/sh\n") // in place, so that the mount has it
	s.Write("group", "root:x:0:\n")
	s.KillHandoff()
	s.Line("the handoff was lost")
	s.Swap("v2")
	s.Answers("v2 generation 2 ")
	g := s.Generation(2)
	if g == nil {
		t.Fatal("generation 2 is gone")
	}
	p, _ := s.Find(g.PID)
	status, err := os.ReadFile("/proc/" + strconv.Itoa(p.PID) + "/status")
	if err != nil || !regexp.MustCompile(`(?m)^Uid:\t4711\t(.*\n)*Gid:\t4713\t(.*\n)*Groups:\t4713 4714 *$`).Match(status) {
		t.Errorf("%v\n%s", err, status)
	}
	s.Stop(0)
}

// Whatever of its configuration has gone while hotinit ran, a new handoff goes on with
// what there is: the app serves, hotinit answers, and ends with the app's status.
func TestAHandoffThatComesBackIntoAWorseWorldGoesOn(t *testing.T) {
	for _, gone := range []struct {
		name, path string
		flags      []string
	}{
		{"the app's directory", "below", []string{"--dir", "below"}},
		{"the environment", "below", []string{"--envdir", "below"}},
		{"the state directory", "below", []string{"--state-dir", "below"}},
		{"what is watched", "below", []string{"--watch", "below"}},
		{"where copies are made", "below", []string{"--snapshot", "--snapshot-dir", "below"}},
		{"where the files of hotinit are", "below", []string{"--pid-file", "below/pid", "--status-file", "below/status", "--log-file", "below/log"}},
		{"where a socket's file is", "below", []string{"--path", "below/socket"}},
		{"the log's command", "below", []string{"--log-file", "| below/logger"}},
		{"the executable", "server", nil},
	} {
		t.Run(gone.name, func(t *testing.T) {
			s := site.Serving(t, site.Options{Flags: gone.flags, Prepare: func(s *site.Site) {
				s.Write("below/logger", "#!/bin/sh\nexec cat\n")
				if err := os.Chmod(s.File("below/logger"), 0o755); err != nil {
					t.Fatal(err)
				}
			}})
			s.Becomes(1, "current")
			before := s.Handoff().PID
			s.SignalTo(before, unix.SIGSTOP) // it must not act upon that
			if err := os.RemoveAll(s.File(gone.path)); err != nil {
				t.Fatal(err)
			}
			s.KillHandoff()
			s.Until("another handoff is there", func() bool { h := s.Handoff().PID; return h != 0 && h != before })
			s.Answers("v1 generation 1 ")
			s.Becomes(1, "current")
			s.Stop(0)
		})
	}
}
