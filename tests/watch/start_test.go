package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// large writes a release with a hole of so many bytes in it.
func large(t *testing.T, path, version string, size int64) {
	t.Helper()
	box.Install(t, path, "hole")
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("\n#app "+version), size); err != nil {
		t.Skipf("no room for a file of %d bytes: %v", size, err)
	}
}

// field reads a number of a file in /proc.
func field(t *testing.T, pid int, file, name string) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if key, value, _ := strings.Cut(line, ":"); key == name {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s in %s:\n%s", name, file, b)
	return 0
}

const gigabyte = 1 << 30

func TestTheFirstStartDoesNotWaitForTheDigestOfALargeProgram(t *testing.T) {
	dir := directory(t)
	path := filepath.Join(dir, "server")
	large(t, path, "v1", 4*gigabyte)
	s := launch(t, dir, false, nil, path)
	s.next("v1")
	handoff := s.Handoff().PID
	if n := field(t, handoff, "io", "rchar"); n >= 4*gigabyte {
		t.Errorf("%d bytes were read before the first answer", n)
	}
	// Nor does the loop: a signal is acted upon meanwhile.
	box.Swap(t, path, "v2")
	s.Signal(unix.SIGHUP)
	s.next("v2")
	if n := field(t, handoff, "io", "rchar"); n >= 4*gigabyte {
		t.Logf("the digest was known before the second generation served")
	}
	if kB := field(t, handoff, "status", "VmHWM"); kB > 64<<10 {
		t.Errorf("the handoff took %d kB", kB)
	}
	s.only("v3")
}

// While a large release is read, signals and requests are acted upon, and it
// is not read into memory.
func TestTheDigestOfALargeReleaseHoldsNothingUp(t *testing.T) {
	dir := directory(t)
	path, next := filepath.Join(dir, "server"), filepath.Join(dir, "next")
	box.Install(t, path, "v1", "-echo")
	large(t, next, "v2 -echo", gigabyte)
	s := launch(t, dir, true, nil, path)
	s.Line("^listening to signals$")
	s.Until("the digest of the first is known", func() bool { return s.Status().Generations[0].Digest != "" })
	handoff := s.Handoff().PID
	before := field(t, handoff, "io", "rchar")
	read := func() int64 { return field(t, handoff, "io", "rchar") - before }
	s.sh(`mv next server`)
	s.Until("the next one is being read", func() bool { return read() > 64<<20 })
	for range 3 {
		s.Signal(unix.SIGUSR1)
		s.Line("^got SIGUSR1$")
		if st := s.Status(); len(st.Generations) != 1 || st.Generations[0].N != 1 {
			t.Errorf("there is another generation while the release is being read: %+v", st.Generations)
		}
	}
	if n := read(); n >= gigabyte {
		t.Errorf("all %d bytes were read before three signals and requests were answered", n)
	}
	s.Line("^listening to signals$")
	if n := read(); n < gigabyte {
		t.Errorf("only %d bytes were read before it was started", n)
	}
	if kB := field(t, handoff, "status", "VmHWM"); kB > 32<<10 {
		t.Errorf("the handoff took %d kB", kB)
	}
}

func TestAReleaseHasItsDigestOnceItWasRead(t *testing.T) {
	dir := directory(t)
	path := filepath.Join(dir, "server")
	box.Install(t, path, "v1")
	s := launch(t, dir, true, nil, path)
	s.next("v1")
	s.Until("the digest is known", func() bool {
		st := s.Status()
		return len(st.Generations) == 1 && len(st.Generations[0].Digest) == 64
	})
	// Named by its content, it is no news in another file.
	s.sh(`cp server copy; mv copy server`)
	s.only("v2")
}

func TestAHandoffThatTakesOverReadsWhatWasNotReadYet(t *testing.T) {
	dir := directory(t)
	path := filepath.Join(dir, "server")
	large(t, path, "v1", gigabyte)
	s := launch(t, dir, true, nil, path)
	s.next("v1")
	s.KillHandoff()
	s.Until("the digest is known", func() bool {
		st := s.Status()
		return len(st.Generations) == 1 && len(st.Generations[0].Digest) == 64
	})
	s.only("v2")
}

func TestABusyFileIsWaitedFor(t *testing.T) {
	dir := directory(t)
	path := filepath.Join(dir, "server")
	box.Install(t, path, "v1")
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	s := launch(t, dir, false, nil, path)
	s.Line(`generation 1 cannot be started yet: .*(open for writing|text file busy)`)
	writer.Close()
	s.next("v1")
}

func TestAStopWhileABusyFileIsWaitedFor(t *testing.T) {
	dir := directory(t)
	path := filepath.Join(dir, "server")
	box.Install(t, path, "v1")
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	s := launch(t, dir, false, nil, path)
	s.Line(`generation 1 cannot be started yet`)
	s.Signal(unix.SIGTERM)
	if status := s.Wait(); status != 128+15 {
		t.Errorf("status %d, want 143", status)
	}
}

func TestWhatWasCheckedIsWhatRuns(t *testing.T) {
	dir := directory(t)
	path, trap := filepath.Join(dir, "server"), filepath.Join(dir, "trap")
	box.Install(t, path, "v1")
	box.Install(t, trap, "evil")
	// The check passes, and then another file is in the place of the checked one.
	check := filepath.Join(dir, "check.sh")
	write(t, check, `#!/bin/sh
case $(tail -n 1 "$1") in
'#app v2'*) echo checked v2 >>log; if mv trap server 2>/dev/null; then exit 0; fi; exit 0 ;;
'#app evil'*) echo checked evil >>log; echo it is evil >&2; exit 1 ;;
esac
`, 0o755)
	s := launch(t, dir, false, []string{"--check", check + " {}"}, path)
	s.next("v1")
	box.Swap(t, path, "v2")
	s.Line(`generation 2 failed.*: .*it is evil`)
	s.Never("app evil") // it was not checked
	s.Answers("v1 generation 1 ")
}

// The check passes, and then the very file is overwritten, with its size and mtime as
// they were.
func TestWhatWasCheckedAndThenOverwrittenIsCheckedAgain(t *testing.T) {
	dir := directory(t)
	path := filepath.Join(dir, "server")
	box.Install(t, path, "v1")
	box.Install(t, filepath.Join(dir, "trap"), "v9")
	check := filepath.Join(dir, "check.sh")
	write(t, check, `#!/bin/sh
case $(tail -n 1 "$1") in
'#app v2'*) touch -r server stamp && cat trap >server && touch -r stamp server ;;
'#app v9'*) echo it is evil >&2; exit 1 ;;
esac
`, 0o755)
	s := launch(t, dir, false, []string{"--check", check + " {}"}, path)
	s.next("v1")
	box.Swap(t, path, "v2")
	s.Line(`generation 2 failed.*: .*it is evil`)
	s.Never("app v9") // it was not checked
	s.Answers("v1 generation 1 ")
}
