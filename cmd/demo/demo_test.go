package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"io"
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
	svg := filepath.Join(t.TempDir(), "demo.svg")
	c.Args = append(c.Args, "-svg", svg)
	if err := c.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"v1 generation 1 ", "v2 generation 2 ", "v2 generation 3 ", "v1 generation 4 ", "No request was lost."} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	swept(t, files)
	drawn, err := os.ReadFile(svg)
	if err != nil {
		t.Fatal(err)
	}
	wellFormed(t, drawn)
	for _, want := range []string{" answered, 0 lost", "mv v2 server", "kill -HUP 1", "generation 1, v1", "generation 4, v1"} {
		if !strings.Contains(string(drawn), want) {
			t.Errorf("the picture does not have %q", want)
		}
	}
}

// wellFormed checks that a picture is XML, and that it needs nothing else.
func wellFormed(t *testing.T, svg []byte) {
	t.Helper()
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := d.Token()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatalf("the picture is no XML: %v\n%s", err, svg)
		}
		if e, ok := token.(xml.StartElement); ok {
			for _, a := range e.Attr {
				if a.Name.Local == "href" || strings.Contains(a.Value, "url(") || strings.Contains(a.Value, "NaN") {
					t.Errorf("<%s> has %s=%q", e.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
}

func TestThePictureShowsGenerationsAndLosses(t *testing.T) {
	samples := []sample{
		{at: 200 * time.Millisecond, by: map[string]int{"v1 generation 1": 100}},
		{at: 400 * time.Millisecond, by: map[string]int{"v1 generation 1": 50, "v2 generation 2": 60}, lost: 3},
		{at: 600 * time.Millisecond, by: map[string]int{"v2 generation 2": 100}},
	}
	svg := picture(samples, []event{{250 * time.Millisecond, "mv <v2> server"}}, 3, "310 answered, 3 lost")
	wellFormed(t, []byte(svg))
	for want, times := range map[string]int{"generation 1, v1": 1, "generation 2, v2": 1, "mv &lt;v2&gt; server": 1, "<polygon": 2, `height="190.0" class="bad"`: 1, "prefers-color-scheme:dark": 1} {
		if n := strings.Count(svg, want); n != times {
			t.Errorf("%q is there %d times, want %d:\n%s", want, n, times, svg)
		}
	}
	wellFormed(t, []byte(picture(nil, nil, 0, "nothing")))
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
