package box

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/pidone"
)

// The box itself is tried on a shell that stands in for hotinit.
func TestMain(m *testing.M) {
	pidone.Enter()
	os.Exit(m.Run())
}

func shell(t *testing.T, sub bool, script string) *Box {
	t.Helper()
	if !sub {
		NeedNamespace(t)
	}
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip(err)
	}
	return Start(t, Options{Binary: sh, Args: []string{"-c", script}, Sub: sub})
}

func both(t *testing.T, test func(t *testing.T, sub bool)) {
	t.Run("PID 1", func(t *testing.T) { test(t, false) })
	t.Run("not PID 1", func(t *testing.T) { test(t, true) })
}

func TestOutputAndStatus(t *testing.T) {
	both(t, func(t *testing.T, sub bool) {
		b := shell(t, sub, "echo PID $$; echo to stderr >&2; exit 3")
		pid := b.Line(`^PID (\d+)$`)[1]
		b.Line(`to stderr`)
		if status := b.Wait(); status != 3 {
			t.Errorf("status %d, want 3", status)
		}
		if !sub && pid != "1" {
			t.Errorf("its PID is %s, want 1", pid)
		}
	})
}

func TestASignalThatEndsItIsInTheStatus(t *testing.T) {
	b := shell(t, true, "echo up; exec sleep 1000")
	b.Line("up")
	b.Signal(unix.SIGTERM)
	if status := b.Wait(); status != 128+15 {
		t.Errorf("status %d, want 143", status)
	}
}

func TestZombiesAreSeen(t *testing.T) {
	both(t, func(t *testing.T, sub bool) {
		// A shell that became sleep collects no child.
		b := shell(t, sub, "sh -c 'exit 0' & exec sleep 1000")
		b.Until("its child is a zombie", func() bool {
			return slices.ContainsFunc(b.Processes(), Process.Zombie)
		})
	})
}

func TestACleanedBoxIsEmpty(t *testing.T) {
	both(t, func(t *testing.T, sub bool) {
		var b *Box
		t.Run("run", func(t *testing.T) {
			b = shell(t, sub, "sleep 1000 & sleep 1000 & echo up; wait")
			b.Line("up")
		})
		for _, p := range b.Processes() {
			if !p.Zombie() {
				t.Errorf("%v is left", p)
			}
		}
	})
}

func TestLinesAreFoundInTheirOrder(t *testing.T) {
	l := NewLines()
	l.Write([]byte("one\ntwo\nth"))
	l.Write([]byte("ree\none\n"))
	for _, want := range []string{"one", "three", "one"} {
		if _, err := l.Next(regexp.MustCompile("^" + want + "$")); err != nil {
			t.Fatal(err)
		}
	}
	l.End()
	if found, err := l.Next(regexp.MustCompile("one")); err == nil {
		t.Errorf("found %q behind the last line", found)
	}
}

func TestAReleaseCarriesItsVersionAndFlags(t *testing.T) {
	path := t.TempDir() + "/app"
	App = path
	if err := os.WriteFile(path, []byte("binary"), 0o755); err != nil {
		t.Fatal(err)
	}
	content, err := Release("v7", "-exit", "3")
	if err != nil || string(content) != "binary\n#app v7 -exit 3" {
		t.Errorf("%q, %v", content, err)
	}
}
