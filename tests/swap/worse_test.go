package swap

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/cgroup"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// What a handoff finds when it takes over may be less than what the one before had.
func TestAHandoffGoesOnWithoutWhatTheKernelHadForIt(t *testing.T) {
	t.Run("the address of its port is gone", func(t *testing.T) {
		site.Need(t, "ip")
		s := site.Open(t, site.Options{
			NoPort: true,
			Flags:  []string{"--port", "192.0.2.7:8080"},
			Before: "ip link set lo up && ip address add 192.0.2.7/32 dev lo",
			Attr:   func(a *syscall.SysProcAttr) { a.Cloneflags |= unix.CLONE_NEWNET },
		})
		s.User = []string{"-n"}
		s.Becomes(1, "current")
		socket := func(n int) string {
			t.Helper()
			g := s.Generation(n)
			if g == nil {
				t.Fatalf("generation %d is gone:\n%s", n, s.Output)
			}
			p, _ := s.Find(g.PID)
			link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/3", p.PID))
			if err != nil {
				t.Fatal(err)
			}
			return link
		}
		first := socket(1)
		remove := exec.Command("nsenter", "-t", strconv.Itoa(s.PID()), "-n", "ip", "address", "del", "192.0.2.7/32", "dev", "lo")
		if out, err := remove.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		s.KillHandoff()
		s.Line("the handoff was lost")
		s.Signal(unix.SIGHUP)
		s.Line("generation 2 is ready")
		s.Becomes(2, "current")
		if second := socket(2); second != first {
			t.Errorf("generation 2 has %s, and generation 1 had %s", second, first)
		}
		s.Never("cannot bind")
		s.Stop(0)
	})
	t.Run("its control socket cannot be bound", func(t *testing.T) {
		site.Need(t, "python3")
		s := site.Serving(t, site.Options{
			Before: `python3 -c '
import os, socket, time
s = socket.socket(socket.AF_UNIX)
s.bind("\0hotinit/control/" + os.readlink("/proc/self/ns/pid").strip("pid:[]") + "/1")
if os.fork() == 0: time.sleep(1000)
'`,
		})
		s.Line("cannot bind the control socket .*will not find this hotinit$")
		s.KillHandoff()
		s.Line("cannot bind the control socket .*will not find this hotinit$")
		s.Swap("v2")
		s.Answers("v2 generation 2 ")
		for _, p := range s.Processes() {
			if len(p.Args) > 0 && strings.HasSuffix(p.Args[0], "python3") {
				s.SignalTo(p.PID, unix.SIGKILL)
			}
		}
		s.Line("generation 1 ended")
		s.Until("nobody has the socket", func() bool {
			for _, p := range s.Processes() {
				if len(p.Args) > 0 && strings.HasSuffix(p.Args[0], "python3") {
					return false
				}
			}
			return true
		})
		s.KillHandoff()
		s.Becomes(2, "current")
		s.Stop(0)
	})
	t.Run("the cgroup of a generation is gone", func(t *testing.T) {
		const way = "docker run --privileged"
		c := newCage(t)
		s := c.open(way, site.Options{})
		s.Answers("v1 generation 1 ")
		s.Becomes(1, "current")
		names := c.cgroups()
		if len(names) != 1 || !strings.HasSuffix(names[0], "-1") {
			t.Fatalf("the cgroups are %q", names)
		}
		for _, pid := range cgroup.Members(c.dir, names[0]) {
			if err := cgroup.Enter(c.dir, pid); err != nil {
				t.Fatal(err)
			}
		}
		if err := cgroup.Remove(c.dir, names[0]); err != nil {
			t.Fatal(err)
		}
		s.KillHandoff()
		s.Line("the handoff was lost")
		s.Answers("v1 generation 1 ")
		s.Swap("v2")
		s.Answers("v2 generation 2 ")
		s.Line("generation 1 ended")
		s.Stop(0)
		if got := c.cgroups(); len(got) != 0 {
			t.Errorf("left: %q", got)
		}
	})
}
