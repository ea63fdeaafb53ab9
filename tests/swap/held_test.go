package swap

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/load"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// howMany returns that of an environment variable, or another where it is not set.
func howMany(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const (
	// atRest is how much memory each process may have written to, in KB, once it has
	// nothing to do: only then garbage is collected.
	atRest = 6 << 10
	// allowance is how much more that may be in the end. Go's collector works in steps.
	allowance = 1 << 10
	// bounded is after how many swaps what is remembered of generations does not grow any
	// more.
	bounded = 200
)

// A load of each kind that docs/draining.md speaks of loses nothing over many swaps,
// and afterwards hotinit holds what it held after the tenth. The long run has
// HOTINIT_TEST_SWAPS=1000 and HOTINIT_TEST_REQUESTS=1000000, and compares memory with
// that after the 200th.
func TestEachKindOfLoadIsHeldOverManySwaps(t *testing.T) {
	count, requests := howMany(t, "HOTINIT_TEST_SWAPS", 18), howMany(t, "HOTINIT_TEST_REQUESTS", 1000)
	file := t.TempDir() + "/socket"
	s := site.Serving(t, site.Options{Flags: []string{"--port", file}, App: []string{"-quiet"}})
	s.Becomes(1, "current")

	loads := map[string]*load.Load{}
	for _, address := range []string{s.Address, file} {
		for protocol, path := range map[string]string{
			load.HTTP1: "/", load.HTTP2: "/", load.WebSocket: "/websocket", load.Events: "/events", "long polls": "/slow?for=200ms",
		} {
			loads[protocol+" at "+address] = load.Start(load.Options{Address: address, Path: path, Protocol: protocol,
				Workers: 1, Pause: 5 * time.Millisecond, Most: 100 * (requests + 1000)})
		}
	}
	done := func() (n int) {
		for _, l := range loads {
			n += l.Report().Done
		}
		return n
	}

	n, version := 1, "v1"
	swap := func() {
		n++
		answered := map[string]<-chan struct{}{}
		if n%2 == 0 {
			version = fmt.Sprintf("v%d", n)
		}
		for name, l := range loads {
			answered[name] = l.Answered(fmt.Sprintf("%s generation %d ", version, n))
		}
		if n%2 == 0 {
			s.Swap(version)
		} else {
			s.Signal(unix.SIGHUP)
		}
		for name, event := range answered {
			await(t, s.Box, loads[name], event, fmt.Sprintf("an answer of generation %d, %s,", n, name))
		}
	}
	// rest waits until nothing more is held than may be.
	rest := func(may [2]site.Usage) (list [2]site.Usage) {
		t.Helper()
		s.Becomes(n, "current")
		s.Running(1)
		for i := range list {
			if !box.Eventually(func() bool {
				list[i] = s.Usage(i == 1)
				return list[i].Descriptors <= may[i].Descriptors && list[i].Threads <= may[i].Threads &&
					list[i].Watches <= may[i].Watches && list[i].Dirty <= may[i].Dirty
			}) {
				t.Errorf("%s holds %+v after %d swaps, and may hold %+v", [...]string{"init", "the handoff"}[i], list[i], n-1, may[i])
			}
		}
		t.Logf("after %d swaps init holds %+v, the handoff %+v", n-1, list[0], list[1])
		return list
	}
	for range 10 {
		swap()
	}
	most := site.Usage{Descriptors: 100, Threads: 20, Watches: 100, Dirty: atRest}
	may := rest([...]site.Usage{most, most})
	for i := 10; i < count; i++ {
		if i == bounded {
			for i, now := range rest([...]site.Usage{most, most}) {
				may[i].Dirty = now.Dirty
			}
		}
		swap()
	}
	for l := loads[load.HTTP1+" at "+s.Address]; done() < requests; {
		await(t, s.Box, l, l.After(100), "more load")
	}
	for i := range may {
		may[i].Dirty += allowance
		may[i].Threads += 2 // Go starts one where another is in a long system call
	}
	rest(may)
	total := done()
	for name, l := range loads {
		t.Log(name)
		lossless(t, s.Box, l)
	}
	t.Logf("%d swaps, %d requests", n-1, total)
	s.Stop(0)
}
