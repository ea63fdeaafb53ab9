package box

import (
	"os"

	"golang.org/x/sys/unix"
)

// Fifo makes a FIFO. The returned function opens it for writing, and so lets
// go whoever waits to read it.
func Fifo(t T, path string) (open func()) {
	t.Helper()
	if err := unix.Mkfifo(path, 0o666); err != nil {
		t.Fatalf("cannot make the FIFO %s: %v", path, err)
	}
	return func() {
		t.Helper()
		Feed(t, path, "")
	}
}

// Feed writes to a FIFO that somebody reads, or is about to.
func Feed(t T, path, text string) {
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
	if _, err := w.WriteString(text); err != nil {
		t.Fatalf("cannot write to the FIFO %s: %v", path, err)
	}
}
