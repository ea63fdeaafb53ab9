package swap

import (
	"fmt"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

const (
	manyOrphans     = 20_000
	manyGenerations = 2_000
	batch           = 100 // of orphans beside each generation
)

func TestNoOrphanStaysAZombie(t *testing.T) {
	b, _, address := serve(t, nil)
	if got := b.Get(address, fmt.Sprintf("/orphans?n=%d", manyOrphans)); got != fmt.Sprintf("%d orphans left\n", manyOrphans) {
		t.Fatal(got)
	}
	b.Until("none of the orphans is a zombie", func() bool { return zombies(b) == 0 })
	if n := len(b.Processes()); n != 3 {
		t.Errorf("%d processes are left, want hotinit, its handoff and the application: %v", n, b.Processes())
	}
	stop(t, b)
}

// beside runs what while the application that serves leaves a batch of orphans
// behind, as fast as it can.
func beside(t *testing.T, b *box.Box, address string, what func()) {
	t.Helper()
	left := make(chan error, 1)
	go func() {
		_, err := box.Get(address, fmt.Sprintf("/orphans?n=%d", batch))
		left <- err
	}()
	what()
	if err := <-left; err != nil {
		t.Fatalf("no orphans: %v\noutput:\n%s", err, b.Output)
	}
}

// Generation N of this application exits at once with status N modulo 256, and
// hotinit says with which status it exited. Generation 1 serves throughout and
// leaves orphans meanwhile.
func TestStatusesOfGenerationsAreExactBesideOrphans(t *testing.T) {
	// By the clock, a generation that has not got the processor for a second
	// would count as ready.
	b, _, address := serve(t, []string{"--ready", "notify"}, "-exit-by-number")
	for generation := 2; generation <= manyGenerations+1; generation++ {
		beside(t, b, address, func() {
			b.Signal(unix.SIGHUP)
			found := b.Line(fmt.Sprintf(`generation %d .*?(?:exited with status (\d+)|killed by|not known)`, generation))
			if found[1] != strconv.Itoa(generation%256) {
				t.Errorf("generation %d exited with status %d, and hotinit says: %s", generation, generation%256, found[0])
			}
		})
	}
	b.Until("none of the orphans is a zombie", func() bool { return zombies(b) == 0 })
	stop(t, b)
}

// The same for generations that a signal ends.
func TestSignalsThatEndGenerationsAreExactBesideOrphans(t *testing.T) {
	b, path, address := serve(t, []string{"--ready", "notify"})
	generation := 1
	for signal := 1; signal <= 31; signal++ {
		switch unix.Signal(signal) {
		case unix.SIGCHLD, unix.SIGCONT, unix.SIGURG, unix.SIGWINCH, // end nothing
			unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
			continue
		}
		generation++
		beside(t, b, address, func() {
			box.Swap(t, path, fmt.Sprintf("v%d", generation), "-kill", strconv.Itoa(signal))
			found := b.Line(fmt.Sprintf(`generation %d .*?(?:killed by signal (\d+)|exited with|not known)`, generation))
			if found[1] != strconv.Itoa(signal) {
				t.Errorf("generation %d was killed by signal %d, and hotinit says: %s", generation, signal, found[0])
			}
		})
	}
	stop(t, b)
}

// Each status of an application is that of hotinit, while the application's
// orphans are reaped: each run leaves some when it exits.
func TestEachStatusIsHotinitsOwnBesideOrphans(t *testing.T) {
	box.NeedNamespace(t)
	const shards = 4
	for shard := range shards {
		t.Run(strconv.Itoa(shard), func(t *testing.T) {
			t.Parallel()
			for status := shard; status < 256; status += shards {
				b := box.Start(t, box.Options{Args: []string{"--", box.App, "-orphans", "60", "-exit", strconv.Itoa(status)}})
				if got := b.Wait(); got != status {
					t.Errorf("status %d, want %d:\n%s", got, status, b.Output)
				}
			}
		})
	}
}
