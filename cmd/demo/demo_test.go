package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/pidone"
)

// The test binary plays the demonstration.
func TestMain(m *testing.M) {
	pidone.Enter()
	if os.Getenv("HOTINIT_DEMO") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// run starts the demonstration with a directory for its files.
func run(t *testing.T) (c *exec.Cmd, out *bytes.Buffer, files string) {
	t.Helper()
	files, out = t.TempDir(), new(bytes.Buffer)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	c = exec.CommandContext(ctx, "/proc/self/exe")
	c.Env = append(os.Environ(), "HOTINIT_DEMO=1", "TMPDIR="+files)
	c.Stdout, c.Stderr = out, out
	c.WaitDelay = time.Minute // what is left behind would hold the output open
	return c, out, files
}

// swept checks that the demonstration left no file.
func swept(t *testing.T, files string) {
	t.Helper()
	left, err := filepath.Glob(files + "/*")
	if err != nil || len(left) > 0 {
		t.Errorf("it left %v (%v)", left, err)
	}
}

func TestTheDemonstrationLosesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes 20 s")
	}
	c, out, files := run(t)
	if err := c.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"v1 generation 1 ", "v2 generation 2 ", "v2 generation 3 ", "v1 generation 4 ", "No request was lost."} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	swept(t, files)
}

func TestAnInterruptedDemonstrationCleansUp(t *testing.T) {
	c, out, files := run(t)
	first := &lookout{word: "v1 generation 1 answers", seen: make(chan struct{})}
	c.Stdout = first
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	select {
	case <-first.seen:
	case err := <-ended:
		t.Fatalf("it ended early: %v\n%s%s", err, first.text.String(), out)
	}
	if err := c.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; c.ProcessState.ExitCode() != 1 {
		t.Errorf("%v, want status 1\n%s%s", err, first.text.String(), out)
	}
	if !strings.Contains(out.String(), "interrupted") {
		t.Errorf("it does not say that it was interrupted:\n%s", out)
	}
	swept(t, files)
}

// lookout tells when a word is written.
type lookout struct {
	word string
	text bytes.Buffer
	seen chan struct{}
	done bool
}

func (l *lookout) Write(p []byte) (int, error) {
	l.text.Write(p)
	if !l.done && strings.Contains(l.text.String(), l.word) {
		l.done = true
		close(l.seen)
	}
	return len(p), nil
}
