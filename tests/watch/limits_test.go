package watch

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// The limits of inotify in a user namespace (namespaces(7), /proc/sys/user),
// which count what is in it beside the machine's own: nobody else notices.
const (
	instances = "max_inotify_instances"
	watches   = "max_inotify_watches"
)

// limited starts hotinit with release v1 in a user namespace of its own, in
// which one limit is low.
func limited(t *testing.T, limit string, n int, flags ...string) *watched {
	t.Helper()
	site.Need(t, "nsenter")
	site.Need(t, "sh")
	box.NeedNamespace(t)
	dir := directory(t)
	s := &watched{Site: &site.Site{T: t, Dir: dir, Path: filepath.Join(dir, "server"), Address: box.Address()}}
	box.Install(t, s.Path, "v1")
	sh, _ := exec.LookPath("sh")
	start := fmt.Sprintf(`echo %d >/proc/sys/user/%s || exit 77; exec "$0" "$@"`, n, limit)
	s.Box = box.Start(t, box.Options{
		Binary: sh, Name: "sh",
		Args: append(append([]string{"-c", start, box.Hotinit}, flags...), "--", s.Path),
		Env:  box.Environment("HOTINIT_PORTS=" + s.Address),
		Dir:  dir,
		Attr: func(a *syscall.SysProcAttr) {
			if a.Cloneflags&unix.CLONE_NEWUSER == 0 {
				a.Cloneflags |= unix.CLONE_NEWUSER
				a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
				a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
			}
		},
	})
	if !box.Eventually(func() bool {
		select {
		case <-s.Ended():
			return true
		default:
			_, err := box.Get(s.Address, "/")
			return err == nil
		}
	}) {
		t.Fatalf("neither an answer nor an end:\n%s", s.Output)
	}
	select {
	case <-s.Ended():
		if status := s.Wait(); status == 77 || strings.Contains(s.Output.Text(), "pidone:") {
			t.Skipf("needs a user namespace with limits of its own:\n%s", s.Output)
		}
	default:
	}
	s.next("v1")
	return s
}

// allow sets a limit of the namespace that hotinit is in.
func (s *watched) allow(limit string, n int) {
	s.T.Helper()
	// A file in /proc/sys/user is of whoever opens it.
	c := exec.Command("nsenter", "-U", "--preserve-credentials", "-t", fmt.Sprint(s.PID()), "sh", "-c", `echo "$0" >"$1"`, fmt.Sprint(n), "/proc/sys/user/"+limit)
	if out, err := c.CombinedOutput(); err != nil {
		s.T.Fatalf("%v: %v\n%s", c, err, out)
	}
}

// watched tells of how many files and directories inotify tells the handoff.
func (s *watched) watched() int {
	s.T.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", s.Handoff().PID))
	if err != nil {
		s.T.Fatal(err)
	}
	n := 0
	for _, file := range files {
		text, _ := os.ReadFile(file)
		n += strings.Count(string(text), "inotify wd:")
	}
	return n
}

func TestWhereInotifyHasReachedALimit(t *testing.T) {
	machine := func() (all []string) {
		for _, file := range []string{"fs/inotify/max_user_instances", "fs/inotify/max_user_watches", "user/" + instances, "user/" + watches} {
			text, _ := os.ReadFile("/proc/sys/" + file)
			all = append(all, string(text))
		}
		return all
	}
	before := fmt.Sprint(machine())
	for _, c := range []struct {
		name, limit string
		low         int
		said        string
	}{
		{"no instance", instances, 0, `inotify limit: fs.inotify.max_user_instances or the limit of open files is used up`},
		{"no watch", watches, 0, `inotify limit: fs.inotify.max_user_watches is used up`},
		{"too few watches", watches, 2, `inotify limit: fs.inotify.max_user_watches is used up`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			// Looks enough to say more than once what is to be said once.
			s := limited(t, c.limit, c.low, "--poll", "50ms", "--settle", "20ms", "--watch", "more")
			s.Line(`cannot watch .*` + c.said + `; looking every 50ms instead`)
			if n := s.watched(); n > c.low {
				t.Errorf("%d watches, the limit is %d", n, c.low)
			}
			s.only("v2")
			s.only("v3")
			s.sh(`mkdir more; echo text >more/file`)
			s.next("v3")
			s.allow(c.limit, 1000)
			s.Line(`inotify works again`)
			// "/", the directory, the program at least.
			if n := s.watched(); n < 3 {
				t.Errorf("%d watches since the limit was raised", n)
			}
			s.only("v4")
			s.sh(`echo more >more/file`)
			s.next("v4")
			if n := s.Output.Count(regexp.MustCompile(`cannot watch|inotify works`)); n != 2 {
				t.Errorf("said %d times, not once that it polls and once that it need not:\n%s", n, s.Output)
			}
			// Reached once more, it is said once more.
			s.allow(c.limit, 0)
			if c.limit == watches {
				s.sh(`mkdir more/deep; echo text >more/deep/file`)
				s.next("v4")
				s.Line(`cannot watch .*` + c.said)
				s.allow(c.limit, 1000)
				s.Line(`inotify works again`)
				s.only("v5")
			}
		})
	}
	t.Cleanup(func() {
		if after := fmt.Sprint(machine()); after != before {
			t.Errorf("the machine's limits are %q, were %q", after, before)
		}
	})
}

// As it is by default, where nothing but the limit is a reason to poll.
func TestPollingEndsWhenTheLimitIsRaised(t *testing.T) {
	for _, c := range []struct {
		limit string
		low   int
	}{{instances, 0}, {watches, 1}} {
		t.Run(c.limit, func(t *testing.T) {
			t.Parallel()
			s := limited(t, c.limit, c.low)
			s.Line(`cannot watch .*; looking every 2s instead`)
			s.only("v2")
			s.allow(c.limit, 1000)
			s.Line(`inotify works again; polling no more than before`)
			s.only("v3")
			s.sh(`cp server copy; mv copy server`)
			s.only("v4")
		})
	}
}
