package swap

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/site"
)

// freeze puts a file system that never answers in the place of a directory, as
// hotinit sees it, until the test ends.
func freeze(t *testing.T, s *site.Site, dir string) {
	t.Helper()
	fuse, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("there is no FUSE:", err)
	}
	t.Cleanup(func() { unix.Close(fuse) }) // whoever waits gets an error
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", s.PID()))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS)
		}
		if err == nil {
			err = unix.Mount("frozen", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse))
		}
		result <- err
	}()
	if err := <-result; err != nil {
		t.Skip("nothing can be mounted for hotinit:", err)
	}
}

// The file system of a path stops to answer while hotinit runs: swaps, status and
// the end go on without.
func TestAFileSystemThatDoesNotAnswerKeepsNothingUp(t *testing.T) {
	for flag, why := range map[string]string{
		"--status-file": "cannot write --status-file .*: the file system does not answer; hotinit goes on without",
		"--log-file":    "generation 2 is started",
		"--pid-file":    "generation 2 is started",
	} {
		t.Run(flag, func(t *testing.T) {
			s := site.Serving(t, site.Options{
				Flags:   []string{flag, "frozen/file"},
				Prepare: func(s *site.Site) { s.Write("frozen/other", "") },
			})
			freeze(t, s, s.File("frozen"))
			handoff := s.Handoff().PID
			s.Signal(unix.SIGHUP)
			s.Answers("v1 generation 2 ")
			if flag != "--log-file" {
				s.Line(why)
			}
			s.Becomes(2, "current")
			if now := s.Handoff().PID; now != handoff {
				t.Errorf("the handoff was killed:\n%s", s.Output)
			}
			began := time.Now()
			s.Stop(0)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("the end took %v", took)
			}
		})
	}
}
