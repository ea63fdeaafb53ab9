package inits

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// forGo are variables of the app's that would govern hotinit itself: traces on
// standard error, an end at once for too little memory.
var forGo = []string{"GODEBUG=schedtrace=1,gctrace=1", "GOMEMLIMIT=nonsense", "GOGC=1", "GOTRACEBACK=crash", "GOMAXPROCS=7"}

// environOf waits for a process of sleep, the newest, and reads its environment.
func environOf(t *testing.T, b *box.Box, not int) (pid int, environ string) {
	t.Helper()
	b.Until("the app runs", func() bool {
		for _, p := range b.Processes() {
			if len(p.Args) == 2 && p.Args[0] == "sleep" && !p.Zombie() && p.PID != not {
				pid = p.PID
				return true
			}
		}
		return false
	})
	text, err := os.ReadFile("/proc/" + itoa(pid) + "/environ")
	if err != nil {
		t.Fatal(err)
	}
	return pid, string(text)
}

// Every build hands the environment on byte for byte, whichever handoff starts
// the app.
func TestTheEnvironmentIsPassedOnAsItCame(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "hotinit")
	build := exec.Command("go", "build", "-o", plain, "github.com/hotinit/hotinit/cmd/hotinit")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, hotinit := range map[string]string{"exact": box.Hotinit, "plain": plain} {
		t.Run(name, func(t *testing.T) {
			more := forGo
			if name == "plain" { // the first instant is Go's
				more = []string{"GODEBUG=madvdontneed=1", "GOMEMLIMIT=100MiB", "GOMAXPROCS=7"}
			}
			// By env(1), for Go starts the box.
			env := append(box.Environment(), more...)
			args := append(append([]string(nil), more...), probe(t), "twice", hotinit, "--", "sleep", "1000")
			b := run(t, box.Options{Binary: command(t, "env"), Name: "env", Args: args})
			pid, first := environOf(t, b, 0)
			want := strings.Join(append(env, "TWICE=1", "=nameless", "valueless", "TWICE=2", "TWICE=1"), "\x00") + "\x00"
			// The contract's variables come behind it.
			if got, _, _ := strings.Cut(first, "HOTINIT_GENERATION="); got != want {
				t.Errorf("the app has\n%q, want\n%q", got, want)
			}
			b.KillHandoff()
			b.Signal(unix.SIGHUP)
			_, second := environOf(t, b, pid)
			if got, _, _ := strings.Cut(second, "HOTINIT_GENERATION="); got != want {
				t.Errorf("from the next handoff the app has\n%q, want\n%q", got, want)
			}
			stop(t, b, 128+15)
			for _, trace := range []string{"SCHED ", "gc 1 @", "malformed GOMEMLIMIT"} {
				if bytes.Contains([]byte(b.Output.Text()), []byte(trace)) {
					t.Errorf("Go's runtime says %q:\n%s", trace, b.Output)
				}
			}
		})
	}
}

// Another init's environment is not even added to.
func TestUnderAnotherNameTheEnvironmentIsExactlyWhatCame(t *testing.T) {
	tini := filepath.Join(t.TempDir(), "tini")
	if err := os.Symlink(box.Hotinit, tini); err != nil {
		t.Fatal(err)
	}
	env := append(box.Environment(), forGo...)
	args := append(append([]string(nil), forGo...), tini, "--", "sleep", "1000")
	b := run(t, box.Options{Binary: command(t, "env"), Name: "env", Args: args})
	_, got := environOf(t, b, 0)
	if want := strings.Join(env, "\x00") + "\x00"; got != want {
		t.Errorf("the app has %q, want %q", got, want)
	}
	stop(t, b, 128+15)
}
