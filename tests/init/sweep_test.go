package inits

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// Where hotinit is not PID 1, the machine's other processes are none of its
// business: each may be read once at most, and none where the kernel lists the
// children of a process.
func TestTheProcessesOfTheMachineAreNotRead(t *testing.T) {
	strace := command(t, "strace")
	limit := 1
	if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid())); err == nil {
		limit = 0
	}
	strangers := []int{os.Getpid()}
	for range 5 {
		c := exec.Command(command(t, "sleep"), "1000")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Process.Kill(); c.Wait() })
		strangers = append(strangers, c.Process.Pid)
	}
	for name, words := range map[string][]string{
		"an app that ends":            {"--", probe(t), "state"},
		"an app that leaves somebody": {"--", probe(t), "leave"},
		"an app that is stopped":      {"-g", "--", probe(t), "children"},
		"a session that is killed":    {"--stop-timeout", "200ms", "--", probe(t), "deaf"},
	} {
		t.Run(name, func(t *testing.T) {
			trace := filepath.Join(t.TempDir(), "trace")
			b := run(t, box.Options{Sub: true, Binary: strace,
				Args: append([]string{"-f", "-qq", "-o", trace, "-e", "trace=open,openat,openat2", box.Hotinit}, words...)})
			if name == "an app that is stopped" {
				b.Line("^main ready$")
				// strace passes no signal on.
				for _, p := range b.Processes() {
					if p.Parent == b.PID() {
						b.SignalTo(p.PID, unix.SIGTERM)
					}
				}
			}
			b.Wait()
			text, err := os.ReadFile(trace)
			if err != nil || !strings.Contains(string(text), "/proc/") {
				t.Skipf("hotinit cannot be traced here: %v\n%s", err, b.Output)
			}
			for _, pid := range strangers {
				if n := strings.Count(string(text), fmt.Sprintf(`"/proc/%d/stat"`, pid)); n > limit {
					t.Errorf("process %d, of the machine, was read %d times", pid, n)
				}
			}
		})
	}
}
