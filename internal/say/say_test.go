package say

import (
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// withStderr points descriptor 2 at w while f runs.
func withStderr(t *testing.T, w *os.File, f func()) {
	t.Helper()
	saved, err := unix.FcntlInt(stderr, unix.F_DUPFD_CLOEXEC, 10)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.Dup3(int(fd), stderr, 0) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		unix.Dup3(saved, stderr, 0)
		unix.Close(saved)
	}()
	f()
}

func blockingPipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r, w = os.NewFile(uintptr(p[0]), "read end"), os.NewFile(uintptr(p[1]), "write end")
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func TestALineIsOneLineWhateverIsInIt(t *testing.T) {
	r, w := blockingPipe(t)
	withStderr(t, w, func() { Line("cannot run %q: %s", "x", "two\nlines\r\n") })
	w.Close()
	got, _ := io.ReadAll(r)
	if want := "hotinit: cannot run \"x\": two lines  \n"; string(got) != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

func TestAFullPipeLosesLinesAndSaysSoLater(t *testing.T) {
	r, w := blockingPipe(t)
	withStderr(t, w, func() {
		for range 1000 { // a pipe holds 64 KiB by default
			Line("%s", strings.Repeat("x", 1000))
		}
	})
	buf := make([]byte, 1<<20)
	if _, err := r.Read(buf); err != nil {
		t.Fatal(err)
	}
	withStderr(t, w, func() { Line("room again") })
	w.Close()
	rest, _ := io.ReadAll(r)
	lines := strings.Split(strings.TrimSpace(string(rest)), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, "lines were dropped") || !strings.HasSuffix(last, "room again") {
		t.Errorf("the last line is %q, want it to count the dropped ones", last)
	}
}

func TestABrokenPipeIsNoError(t *testing.T) {
	r, w := blockingPipe(t)
	r.Close()
	withStderr(t, w, func() { Line("nobody is there") })
}
