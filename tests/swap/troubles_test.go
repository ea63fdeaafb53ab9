package swap

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/load"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// A trial is a hotinit under load that something befalls.
type trial struct {
	*site.Site
	t     *testing.T
	l     *load.Load
	n     int    // the generation that serves
	next  int    // the number that the next one gets
	fault string // the file that tells the handoff what to do where, see package fault
}

// serves waits until the next generation is current, and alone.
func (x *trial) serves() {
	x.t.Helper()
	x.Becomes(x.next, "current")
	if n := settled(x.Site); n != x.next {
		x.t.Fatalf("generation %d serves, want %d\noutput:\n%s", n, x.next, x.Output)
	}
	x.n, x.next = x.next, x.next+1
}

// swap puts another release in place.
func (x *trial) swap(flags ...string) {
	x.t.Helper()
	x.Swap(fmt.Sprintf("v%d", x.next), flags...)
	x.serves()
}

// inside runs a shell command in hotinit's namespaces.
func (x *trial) inside(command string) string {
	x.t.Helper()
	c := exec.Command("nsenter", "-t", strconv.Itoa(x.PID()), "-p", "-m", "sh", "-c", command)
	status, out := site.Finish(x.t, c)
	if status != 0 {
		x.t.Fatalf("%s: %s", command, out)
	}
	return out
}

// small mounts a file system of little space at a directory of the site.
func small(s *site.Site, name string) {
	s.T.Helper()
	dir := s.File(name)
	err := os.Mkdir(dir, 0o755)
	if err == nil {
		err = unix.Mount("none", dir, "tmpfs", 0, "size=256k")
	}
	if err != nil {
		s.T.Skip("nothing can be mounted:", err)
	}
	s.T.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// troubles are what befalls hotinit, an app, or the machine that both run on. Each
// leaves a hotinit at work: another swap follows, and no request is lost.
var troubles = []struct {
	name   string
	o      site.Options
	befall func(x *trial)
}{
	{"no process can be started", site.Options{}, func(x *trial) {
		c := box.NewController(x.t, "pids", "pids.max")
		c.Take(x.Handoff().PID)
		c.Write(strings.TrimSpace(c.Read("pids.current")), "pids.max")
		x.Signal(unix.SIGHUP)
		x.Line("cannot be started yet: .*limit of processes")
		c.Write("max", "pids.max")
		x.serves()
	}},
	{"no descriptor is left", site.Options{}, func(x *trial) {
		pid := x.Handoff().PID
		var before unix.Rlimit
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err == nil {
			err = unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &before)
		}
		if err == nil {
			err = unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(len(open)), Max: before.Max}, nil)
		}
		if err != nil {
			x.t.Fatal(err)
		}
		x.Swap("v2")
		x.Line("generation 2 cannot be started yet: .*too many open files")
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &before, nil); err != nil && err != unix.ESRCH {
			x.t.Fatal(err)
		}
		x.serves()
	}},
	{"no memory is left for the handoff", site.Options{}, func(x *trial) {
		c := box.NewController(x.t, "memory", "memory.max", "memory.limit_in_bytes")
		c.Take(x.Handoff().PID)
		c.Write("4096", "memory.max", "memory.limit_in_bytes")
		x.Signal(unix.SIGHUP)
		x.Line("the handoff was lost")
		x.serves()
	}},
	{"the disk is full", site.Options{
		Flags:   []string{"--state-dir", "disk/state", "--status-file", "disk/status", "--log-file", "disk/log"},
		App:     []string{"-quiet"},
		Prepare: func(s *site.Site) { small(s, "disk") },
	}, func(x *trial) {
		x.inside("dd if=/dev/zero of=" + x.File("disk/fill") + " bs=4k 2>/dev/null; true")
		x.Signal(unix.SIGHUP)
		x.serves()
		x.inside("rm " + x.File("disk/fill"))
	}},
	{"the disk becomes read-only", site.Options{
		Flags:   []string{"--state-dir", "disk/state", "--status-file", "disk/status"},
		Prepare: func(s *site.Site) { small(s, "disk") },
	}, func(x *trial) {
		x.inside("mount -o remount,bind,ro " + x.File("disk"))
		x.Signal(unix.SIGHUP)
		x.Line("read-only")
		x.serves()
		x.inside("mount -o remount,bind,rw " + x.File("disk"))
	}},
	{"the PID of a generation is another process's", site.Options{Flags: []string{"--on-exit", "restart"}}, func(x *trial) {
		g := x.Generation(1)
		p, _ := x.Find(g.PID)
		tell(x.t, x.fault, "1.0.0 handoff.start wait")
		x.KillHandoff()
		x.Until("the next handoff waits", func() bool { _, err := os.Stat(x.fault); return err != nil })
		x.SignalTo(p.PID, unix.SIGTERM)
		x.Until("generation 1 is reaped", func() bool { _, ok := x.Find(g.PID); return !ok })
		// A process gets the number after the last one that was given.
		c := exec.Command("nsenter", "-t", strconv.Itoa(x.PID()), "-p", "-m", "sh", "-c",
			fmt.Sprintf(`while [ "$(cat taken 2>/dev/null)" != %d ]; do echo %d >/proc/sys/kernel/ns_last_pid; sh -c 'echo $$ >taken; [ $$ != %[1]d ] || exec sleep 1000' & wait_for=$!; [ "$wait_for" = %[1]d ] && break; wait "$wait_for"; done; wait`, g.PID, g.PID-1))
		c.Dir = x.t.TempDir()
		if err := c.Start(); err != nil {
			x.t.Fatal(err)
		}
		x.t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
		stranger := func() bool {
			p, ok := x.Find(g.PID)
			return ok && len(p.Args) > 0 && p.Args[0] == "sleep"
		}
		x.Until("another process has its PID", stranger)
		tell(x.t, x.fault, "0 none none")
		x.serves()
		if !stranger() {
			x.t.Errorf("process %d was no generation, and is gone:\n%s", g.PID, x.Output)
		}
	}},
	{"all is paused and goes on", site.Options{}, func(x *trial) {
		c := box.NewController(x.t, "freezer", "freezer.state", "cgroup.freeze")
		for _, p := range x.Processes() {
			c.Take(p.PID)
		}
		freeze, thaw := "1", "0"
		if strings.Contains(c.Dir, "freezer/") {
			freeze, thaw = "FROZEN", "THAWED"
		}
		c.Write(freeze, "freezer.state", "cgroup.freeze")
		x.t.Cleanup(func() { c.Write(thaw, "freezer.state", "cgroup.freeze") })
		x.Signal(unix.SIGHUP)
		// Longer than init waits for a handoff that does not act on a signal.
		time.Sleep(6 * time.Second)
		c.Write(thaw, "freezer.state", "cgroup.freeze")
		x.serves()
	}},
	{"more changes than inotify keeps", site.Options{Flags: []string{"--watch", "data"},
		Prepare: func(s *site.Site) { s.Write("data/file", "text") }}, func(x *trial) {
		handoff := x.Handoff().PID
		x.SignalTo(handoff, unix.SIGSTOP)
		for i := range 6000 { // three reports each
			x.Write("data/"+strconv.Itoa(i), "")
			_ = os.Remove(x.File("data/" + strconv.Itoa(i)))
		}
		x.Swap("v2")
		x.SignalTo(handoff, unix.SIGCONT)
		x.serves()
	}},
	{"a volume is mounted over the app, and unmounted", site.Options{}, func(x *trial) {
		x.inside(fmt.Sprintf("cp %[1]s/server %[1]s/../other && mount -t tmpfs none %[1]s && mv %[1]s/../other %[1]s/server.new && printf x >>%[1]s/server.new && mv %[1]s/server.new %[1]s/server", x.Dir))
		x.serves()
		x.inside("umount -l " + x.Dir)
		x.serves()
	}},
	{"a thousand HUPs a second", site.Options{}, func(x *trial) {
		for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
			x.Signal(unix.SIGHUP)
			if st := x.Output.Count(regexp.MustCompile("^hotinit: generation 4 is ready")); st > 0 {
				break
			}
		}
		x.Until("no swap is under way", func() bool {
			st := x.Status()
			return len(st.Generations) == 1 && st.Generations[0].Phase == "current"
		})
		x.n = settled(x.Site)
		x.next = x.n + 1
	}},
	{"a generation has 500 children", site.Options{App: []string{"-children", "500"}}, func(x *trial) {
		x.Running(501)
		x.swap()
		x.Running(1)
	}},
	{"a generation does not end", site.Options{Flags: []string{"--drain-timeout", "1s"}, App: []string{"-term", "hang"}}, func(x *trial) {
		x.swap()
		x.Line("generation 1 .*(killed|SIGKILL)")
	}},
	{"a generation makes itself a daemon", site.Options{}, func(x *trial) {
		x.Swap("daemon", "-lasting", "-exit", "0")
		x.Line("generation 2 .*(rejected|exited with status 0)")
		x.Until("generation 2 is gone", func() bool { return x.Generation(2) == nil })
		x.next++
		x.Running(1)
	}},
	{"a generation shuts its socket down", site.Options{App: []string{"-term", "shutdown"}}, func(x *trial) {
		x.swap("-term", "shutdown")
		x.Line("shut down its socket: <nil>")
	}},
	{"a generation prints without end", site.Options{Flags: []string{"--log-file", "|cat >/dev/null"}}, func(x *trial) {
		x.swap("-flood")
		x.swap("-flood")
	}},
}

func TestNothingIsLostWhateverBefallsIt(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount, freeze and set limits")
	}
	for _, trouble := range troubles {
		t.Run(trouble.name, func(t *testing.T) {
			s, file := faulty(t, trouble.o)
			x := &trial{Site: s, t: t, n: 1, next: 2, fault: file, l: load.Start(load.Options{Address: s.Address})}
			settled(s)
			trouble.befall(x)
			x.swap() // it is at work
			if n := x.Status().Generations[0].N; n != x.n {
				t.Errorf("generation %d serves, want %d", n, x.n)
			}
			lossless(t, s.Box, x.l)
			s.Stop(0)
		})
	}
}
