package say

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

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

// answer has pwritev2 give an error while the test runs.
func answer(t *testing.T, err error) {
	pwritev2 = func(int, [][]byte, int64, int) (int, error) { return -1, err }
	t.Cleanup(func() { pwritev2 = unix.Pwritev2 })
}

// XFS and btrfs say EAGAIN to a write that does not wait; a profile, an older
// kernel or another kind of file say something else.
func TestALineIsWrittenToAFileWhateverTheNewCallSays(t *testing.T) {
	for _, err := range []error{unix.EAGAIN, unix.EPERM, unix.EACCES, unix.ENOSYS, unix.EOPNOTSUPP, unix.EINVAL} {
		t.Run(err.Error(), func(t *testing.T) {
			answer(t, err)
			f, ferr := os.Create(t.TempDir() + "/log")
			if ferr != nil {
				t.Fatal(ferr)
			}
			defer f.Close()
			withStderr(t, f, func() { Line("cannot work") })
			if b, err := os.ReadFile(f.Name()); err != nil || string(b) != "hotinit: cannot work\n" {
				t.Errorf("the file has %q, %v", b, err)
			}
		})
	}
}

func TestAWriteThatTheFileCutShortIsFinished(t *testing.T) {
	pwritev2 = func(fd int, b [][]byte, _ int64, _ int) (int, error) { return unix.Write(fd, b[0][:5]) }
	t.Cleanup(func() { pwritev2 = unix.Pwritev2 })
	f, err := os.Create(t.TempDir() + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	withStderr(t, f, func() { Line("cannot work") })
	if b, err := os.ReadFile(f.Name()); err != nil || string(b) != "hotinit: cannot work\n" {
		t.Errorf("the file has %q, %v", b, err)
	}
}

// Where the new call is forbidden, poll(2) says whether a pipe has room.
func TestAFullPipeDoesNotBlockWithoutTheNewCall(t *testing.T) {
	for _, err := range []error{unix.EAGAIN, unix.EPERM, unix.ENOSYS} {
		answer(t, err)
		_, w := blockingPipe(t)
		withStderr(t, w, func() {
			for range 200 {
				Line("%s", strings.Repeat("x", 1000))
			}
		})
		dropped = 0
	}
}

func TestABrokenPipeIsNoError(t *testing.T) {
	r, w := blockingPipe(t)
	r.Close()
	withStderr(t, w, func() { Line("nobody is there") })
}

// A file system that does not answer: nobody waits for it for long, and once it goes on
// the lines are there, in their order, and how many are missing.
func TestAWriteThatHangsHoldsNobodyUp(t *testing.T) {
	r, w := blockingPipe(t)
	release := make(chan struct{})
	real := pwritev2
	pwritev2 = func(fd int, iovs [][]byte, offset int64, flags int) (int, error) {
		<-release
		return real(fd, iovs, offset, flags)
	}
	const more = 10
	dropped = 0 // of other tests
	withStderr(t, w, func() {
		began := time.Now()
		for n := range 1 + mostQueued + more {
			Line("line %d", n)
		}
		if took := time.Since(began); took > 10*writtenWithin {
			t.Errorf("it took %v", took)
		}
		close(release)
		lines := bufio.NewScanner(r)
		for n := range 1 + mostQueued {
			if want := fmt.Sprintf("hotinit: line %d", n); !lines.Scan() || lines.Text() != want {
				t.Fatalf("got %q, want %q", lines.Text(), want)
			}
		}
		for again := true; again; runtime.Gosched() { // until the last of them is known to be written
			mu.Lock()
			again = late != nil
			mu.Unlock()
		}
		pwritev2 = real
		Line("after")
		if want := fmt.Sprintf("hotinit: (%d lines were dropped, nobody read them) after", more); !lines.Scan() || lines.Text() != want {
			t.Errorf("got %q, want %q", lines.Text(), want)
		}
	})
}
