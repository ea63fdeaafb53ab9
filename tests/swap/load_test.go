package swap

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/load"
)

// swaps is how many of each kind the tests under load do.
const swaps = 20

// await waits for an event of a load, and fails with what was counted.
func await(t *testing.T, b *box.Box, l *load.Load, event <-chan struct{}, what string) {
	t.Helper()
	if !box.Within(event) {
		t.Fatalf("%s does not happen within %v; %v\noutput:\n%s", what, box.Patience, l.Stop(), b.Output)
	}
}

// lossless stops a load and fails if it lost anything.
func lossless(t *testing.T, b *box.Box, l *load.Load) load.Report {
	t.Helper()
	r := l.Stop()
	t.Log(r)
	if r.Losses() > 0 || r.Done == 0 {
		t.Errorf("%v\noutput:\n%s", r, b.Output)
	}
	return r
}

func TestSwapsByRenameLoseNothing(t *testing.T) {
	b, path, address := serve(t, nil)
	l := load.Start(load.Options{Address: address})
	for n := 2; n <= swaps+1; n++ {
		version := fmt.Sprintf("v%d generation %[1]d ", n)
		answered := l.Answered(version)
		box.Swap(t, path, fmt.Sprintf("v%d", n))
		await(t, b, l, answered, "an answer of "+version)
		await(t, b, l, l.After(20), "load on "+version)
	}
	r := lossless(t, b, l)
	if len(r.By) != swaps+1 {
		t.Errorf("answers came from %v, want %d releases", r.By, swaps+1)
	}
	stop(t, b)
}

func TestSwapsByHUPLoseNothing(t *testing.T) {
	b, _, address := serve(t, nil)
	l := load.Start(load.Options{Address: address})
	for n := 2; n <= swaps+1; n++ {
		generation := fmt.Sprintf("v1 generation %d ", n)
		answered := l.Answered(generation)
		b.Signal(unix.SIGHUP)
		await(t, b, l, answered, "an answer of "+generation)
		await(t, b, l, l.After(20), "load on "+generation)
	}
	lossless(t, b, l)
	stop(t, b)
}

// Slow requests overlap several swaps: each generation finishes its own.
func TestSlowRequestsOutliveSwaps(t *testing.T) {
	b, path, address := serve(t, nil)
	fast := load.Start(load.Options{Address: address})
	slow := load.Start(load.Options{Address: address, Path: "/slow?for=300ms"})
	for n := 2; n <= 6; n++ {
		version := fmt.Sprintf("v%d ", n)
		answered := fast.Answered(version)
		box.Swap(t, path, fmt.Sprintf("v%d", n))
		await(t, b, fast, answered, "an answer of "+version)
	}
	await(t, b, slow, slow.Answered("v6 "), "a slow answer of v6")
	lossless(t, b, slow)
	lossless(t, b, fast)
	stop(t, b)
}

// A burst of requests to swap is no burst of generations: each that starts
// gets ready, and the newest content is what serves in the end.
func TestABurstOfSwapsLosesNothing(t *testing.T) {
	b, path, address := serve(t, nil)
	l := load.Start(load.Options{Address: address})
	for n := 2; n <= 10; n++ {
		box.Swap(t, path, fmt.Sprintf("v%d", n))
		b.Signal(unix.SIGHUP)
	}
	await(t, b, l, l.Answered("v10 "), "an answer of v10")
	await(t, b, l, l.After(50), "load on v10")
	lossless(t, b, l)
	stop(t, b)
}
