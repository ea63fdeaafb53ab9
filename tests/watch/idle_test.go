package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// TestNothingCostsNothing counts how often a thread of hotinit gets the
// processor while nothing happens for HOTINIT_TEST_IDLE, such as 60s. Go's
// runtime looks at each process once a minute or two; nothing else may.
func TestNothingCostsNothing(t *testing.T) {
	long, err := time.ParseDuration(os.Getenv("HOTINIT_TEST_IDLE"))
	if err != nil {
		t.Skip("takes as long as HOTINIT_TEST_IDLE says (60s)")
	}
	// Not below /tmp: the directories on the way are watched, and whatever else runs
	// on this machine makes files there.
	dir, err := os.MkdirTemp("/opt", "hotinit-test-")
	if err != nil {
		t.Skipf("needs a directory in which nothing happens: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Mkdir(filepath.Join(dir, "conf"), 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "server")
	box.Install(t, path, "v1")
	s := launch(t, dir, false, []string{"--watch", filepath.Join(dir, "conf"), "--probation", "1s"}, path)
	s.next("v1")
	pids := map[string]int{"init": s.PID(), "handoff": s.Handoff().PID}
	wait := func(d time.Duration) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		<-timer.C
	}
	wait(3 * time.Second) // the start, the probation, and what the runtime does after it
	before := map[string]int64{}
	for name, pid := range pids {
		before[name] = switches(t, pid)
	}
	wait(long)
	for name, pid := range pids {
		n := switches(t, pid) - before[name]
		t.Logf("%s: %d context switches in %v", name, n, long)
		if most := int64(long/time.Minute) + 2; n > most {
			t.Errorf("%s: %d context switches in %v, want at most %d", name, n, long, most)
		}
	}
}

// switches counts those of all threads of a process.
func switches(t *testing.T, pid int) int64 {
	t.Helper()
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, task := range tasks {
		file := "task/" + task.Name() + "/status"
		total += field(t, pid, file, "voluntary_ctxt_switches") + field(t, pid, file, "nonvoluntary_ctxt_switches")
	}
	return total
}
