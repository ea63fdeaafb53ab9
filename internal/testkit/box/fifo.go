package box

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Fifo makes a FIFO. The returned function writes a line, and so lets go whoever waits
// to read it.
func Fifo(t T, path string) (open func()) {
	t.Helper()
	if err := unix.Mkfifo(path, 0o666); err != nil {
		t.Fatalf("cannot make the FIFO %s: %v", path, err)
	}
	return func() {
		t.Helper()
		Feed(t, path)
	}
}

// Feed writes lines, or an empty one, to a FIFO that somebody reads, or is about to. Who
// reads it next should not take the end of the file for that: this writer may be slow
// to close it.
func Feed(t T, path string, lines ...string) {
	t.Helper()
	// Without O_NONBLOCK it would wait for a reader that may have failed.
	var w *os.File
	var err error
	if !Eventually(func() bool {
		w, err = os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
		return err == nil
	}) {
		t.Fatalf("nobody reads the FIFO %s: %v", path, err)
	}
	defer w.Close()
	if _, err := w.WriteString(strings.Join(lines, "\n") + "\n"); err != nil && !errors.Is(err, unix.EPIPE) { // to open it was enough
		t.Fatalf("cannot write to the FIFO %s: %v", path, err)
	}
}
