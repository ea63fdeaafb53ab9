package inits

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

func TestMain(m *testing.M) {
	box.Main(m, func() {
		if builtIn != "" {
			os.RemoveAll(builtIn)
		}
	})
}

var builtIn string // the directory of probe

var compiled = sync.OnceValues(func() (string, error) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		return "", err
	}
	if builtIn, err = os.MkdirTemp("", "hotinit-probe-"); err != nil {
		return "", err
	}
	os.Chmod(builtIn, 0o755) // other users execute it
	path := filepath.Join(builtIn, "probe")
	out, err := exec.Command(gcc, "-O1", "-Wall", "-Werror", "-static", "-o", path, "testdata/probe.c").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("cannot compile testdata/probe.c: %w\n%s", err, out)
	}
	return path, nil
})

// probe is the path of the compiled testdata/probe.c.
func probe(t *testing.T) string {
	t.Helper()
	path, err := compiled()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("needs a C compiler:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// start starts hotinit as PID 1. words are its flags, --, the command.
func start(t *testing.T, words ...string) *box.Box {
	t.Helper()
	return run(t, box.Options{Args: words})
}

// run starts hotinit, as PID 1 unless Sub says otherwise.
func run(t *testing.T, o box.Options) *box.Box {
	t.Helper()
	if !o.Sub {
		box.NeedNamespace(t)
	}
	return box.Start(t, o)
}

// around starts hotinit as PID 1 by way of the probe, which first becomes what
// its own words say ("begin", "deny", ...) and then executes it: same PID.
func around(t *testing.T, probeWords []string, words ...string) *box.Box {
	t.Helper()
	args := append(append([]string(nil), probeWords...), box.Hotinit)
	return run(t, box.Options{Binary: probe(t), Args: append(args, words...)})
}

// compare runs a test with hotinit, and with other inits that do the same.
func compare(t *testing.T, others string, test func(t *testing.T, start func(t *testing.T, words ...string) *box.Box)) {
	t.Run("hotinit", func(t *testing.T) { test(t, start) })
	for _, name := range strings.Fields(others) {
		t.Run(name, func(t *testing.T) {
			path, err := exec.LookPath(name)
			box.Need(t, name, err)
			test(t, func(t *testing.T, words ...string) *box.Box {
				return run(t, box.Options{Binary: path, Name: name, Args: words})
			})
		})
	}
}

// ended waits for the end and checks the status.
func ended(t *testing.T, b *box.Box, want int) {
	t.Helper()
	if status := b.Wait(); status != want {
		t.Errorf("status %d, want %d; output:\n%s", status, want, b.Output)
	}
}

// stop sends TERM, and expects the end.
func stop(t *testing.T, b *box.Box, want int) {
	t.Helper()
	b.Signal(unix.SIGTERM)
	ended(t, b, want)
}

// handles waits until n probes in all have said that they handle signals. A generation may
// be ready before.
func handles(b *box.Box, n int) {
	b.Until("the generation handles signals", func() bool { return b.Output.Count(saysReady) >= n })
}

var saysReady = regexp.MustCompile("^ready$")

// got waits for the probe's line about a signal.
func got(b *box.Box, n int) { b.Line("^got " + strconv.Itoa(n) + "( |$)") }

// fields reads the probe's line of state.
func fields(t *testing.T, b *box.Box) map[string]string {
	t.Helper()
	line := b.Line(`^blocked=.*$`)[0]
	state := map[string]string{}
	for _, word := range strings.Fields(line) {
		name, value, _ := strings.Cut(word, "=")
		state[name] = value
	}
	return state
}

// command returns the path of a program that a test needs.
func command(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(err)
	}
	return path
}

func readlink(t *testing.T, path string) string {
	t.Helper()
	target, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func itoa(n int) string { return strconv.Itoa(n) }

// sorted returns numbers in order, and each once.
func sorted(numbers ...string) []string {
	slices.SortFunc(numbers, func(a, b string) int { return len(a)*100 - len(b)*100 + strings.Compare(a, b) })
	return slices.Compact(numbers)
}

// app waits for the process of a probe that was told to do something.
func app(t *testing.T, b *box.Box, what string) (found box.Process) {
	t.Helper()
	b.Until("the app runs", func() bool {
		list := b.Processes()
		// The newest generation is the last of them.
		for i := len(list) - 1; i >= 0; i-- {
			if p := list[i]; len(p.Args) > 1 && p.Args[0] == probe(t) && p.Args[1] == what && !p.Zombie() {
				found = p
				return true
			}
		}
		return false
	})
	return found
}
