package spawn

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/cgroup/cgrouptest"
	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/passwd"
)

func TestTheChildHasItsArgumentsAndEnvironment(t *testing.T) {
	s := spec(t, "report")
	s.Argv = []string{"name", "", "a b"}
	s.Env = []string{role + "=report", "A=1", "EMPTY="}
	st := report(t, s)
	if !slices.Equal(st.Args, s.Argv) || !slices.Equal(st.Env, s.Env) {
		t.Errorf("%q %q", st.Args, st.Env)
	}
}

func TestSelfPIDIsTheChildsOwn(t *testing.T) {
	s := spec(t, "report")
	s.Env = []string{"LISTEN_PID=1", role + "=report", "LISTEN_PIDS=2"}
	s.SelfPID = []string{"LISTEN_PID", "OTHER_PID"}
	st := report(t, s)
	pid := strconv.Itoa(st.PID)
	want := []string{role + "=report", "LISTEN_PIDS=2", "LISTEN_PID=" + pid, "OTHER_PID=" + pid}
	if !slices.Equal(st.Env, want) {
		t.Errorf("got  %q\nwant %q", st.Env, want)
	}
}

func TestTheChildHasTheMaskAndIgnoredSignalsGiven(t *testing.T) {
	s := spec(t, "report")
	const blocked, ignored = 1<<(unix.SIGUSR1-1) | 1<<63, 1<<(unix.SIGHUP-1) | 1<<(unix.SIGPIPE-1)
	// A shell leaves both alone, Go's runtime does not.
	s.Path, s.Argv = "/bin/cat", []string{"cat", "/proc/self/status"}
	s.Signals = entry.Signals{Blocked: blocked, Ignored: ignored}
	out, _ := output(t, s)
	for name, want := range map[string]uint64{"SigBlk": blocked, "SigIgn": ignored, "SigCgt": 0} {
		_, rest, _ := strings.Cut(out, name+":\t")
		hex, _, _ := strings.Cut(rest, "\n")
		if got, err := strconv.ParseUint(hex, 16, 64); got != want || err != nil {
			t.Errorf("%s is %s, not %x", name, hex, want)
		}
	}
}

func TestTheChildHasItsFolder(t *testing.T) {
	s := spec(t, "report")
	s.Dir = t.TempDir()
	if got := report(t, s).Dir; got != s.Dir {
		t.Error(got)
	}
}

func TestThePathIsRelativeToTheFolder(t *testing.T) {
	s := spec(t, "report")
	s.Dir, s.Path = filepath.Dir(s.Path), "./"+filepath.Base(s.Path)
	report(t, s)
}

func TestTheChildHasItsUmask(t *testing.T) {
	s := spec(t, "report")
	s.Umask = 0o0157
	if got := report(t, s).Status["Umask"]; got != "0157" {
		t.Error(got)
	}
}

func TestMinusOneLeavesTheUmask(t *testing.T) {
	_, rest, _ := strings.Cut(read("/proc/self/status"), "Umask:\t")
	mine, _, _ := strings.Cut(rest, "\n")
	if got := report(t, spec(t, "report")).Status["Umask"]; got != mine {
		t.Errorf("%s, not %s", got, mine)
	}
}

// limit starts a program that tells its soft limit of open files.
func limit(t *testing.T, l *unix.Rlimit) string {
	t.Helper()
	s := spec(t, "")
	s.Path, s.Argv, s.NoFile = "/bin/sh", []string{"sh", "-c", "ulimit -Sn"}, l
	out, _ := output(t, s)
	return strings.TrimSpace(out)
}

func TestTheChildHasTheLimitGiven(t *testing.T) {
	l, ok := entry.NoFile()
	if !ok {
		t.Skip("the limit is not known on this architecture")
	}
	if got := limit(t, &unix.Rlimit{Cur: 77, Max: l.Max}); got != "77" {
		t.Error(got)
	}
}

func TestTheChildHasTheLimitThatWeWereStartedWith(t *testing.T) {
	l, ok := entry.NoFile()
	if !ok {
		t.Skip("the limit is not known on this architecture")
	}
	if got := limit(t, nil); got != strconv.FormatUint(l.Cur, 10) {
		t.Errorf("%s, not %d", got, l.Cur)
	}
}

func TestTheChildStaysInOurGroupAndSession(t *testing.T) {
	st := report(t, spec(t, "report"))
	sid, _ := unix.Getsid(0)
	if st.PGID != unix.Getpgrp() || st.SID != sid || st.PPID != os.Getpid() {
		t.Errorf("%+v", st)
	}
}

func TestSetpgidMakesAGroup(t *testing.T) {
	s := spec(t, "report")
	s.Setpgid = true
	st := report(t, s)
	sid, _ := unix.Getsid(0)
	if st.PGID != st.PID || st.SID != sid {
		t.Errorf("%+v", st)
	}
}

func TestSetsidMakesASession(t *testing.T) {
	s := spec(t, "report")
	s.Setsid, s.Setpgid = true, true
	if st := report(t, s); st.PGID != st.PID || st.SID != st.PID {
		t.Errorf("%+v", st)
	}
}

func TestNoNewPrivs(t *testing.T) {
	s := spec(t, "report")
	s.NoNewPrivs = true
	if got := report(t, s).Status["NoNewPrivs"]; got != "1" {
		t.Error(got)
	}
}

func TestTheChildHasItsUserAndGroups(t *testing.T) {
	needRoot(t)
	for _, groups := range [][]uint32{{}, {70001, 70002}} {
		s := spec(t, "")
		s.Path, s.Argv = "/bin/cat", []string{"cat", "/proc/self/status"}
		s.Credential = &passwd.Credential{UID: 60001, GID: 60002, Groups: groups}
		out, _ := output(t, s)
		want := "\nGroups:\t"
		for _, g := range groups {
			want += strconv.Itoa(int(g)) + " "
		}
		for _, w := range []string{
			"\nUid:\t60001\t60001\t60001\t60001\n", "\nGid:\t60002\t60002\t60002\t60002\n", "\nCapEff:\t0000000000000000\n", want,
		} {
			if !strings.Contains(out, w) {
				t.Errorf("no %q in %s", w, out)
			}
		}
	}
}

func TestTheFolderIsEnteredAsTheUser(t *testing.T) {
	needRoot(t)
	s := spec(t, "report")
	s.Dir = t.TempDir()
	if err := os.Chmod(s.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s.Credential = &passwd.Credential{UID: 60001, GID: 60002}
	fails(t, s, "chdir", unix.EACCES, 125)
}

func TestTheChildIsStartedInItsCgroup(t *testing.T) {
	dir, name := newCgroup(t)
	// One that changes its user has memory of its own.
	for what, credential := range map[string]*passwd.Credential{"shared memory": nil, "a copy": {UID: 0, GID: 0}} {
		t.Run(what, func(t *testing.T) {
			s := spec(t, "report")
			s.Cgroup, s.Credential = dir, credential
			before, in := "", false
			s.Forked = func(c Child) {
				before, in = read("/proc/"+strconv.Itoa(c.PID)+"/cgroup"), c.InCgroup
			}
			got := report(t, s).Cgroup
			if !in {
				t.Skip("this kernel, or a filter, has no CLONE_INTO_CGROUP")
			}
			for _, text := range []string{before, got} {
				if !strings.Contains(text, "/"+name+"\n") {
					t.Error(text)
				}
			}
		})
	}
}

func TestAChildThatCannotBeInItsCgroupIsStartedAnyway(t *testing.T) {
	s := spec(t, "report")
	dir, err := unix.Open(t.TempDir(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(dir) }()
	s.Cgroup = dir
	in := true
	s.Forked = func(c Child) { in = c.InCgroup }
	if got := report(t, s).Cgroup; got != read("/proc/self/cgroup") || in {
		t.Error(got, in)
	}
}

// newCgroup makes a cgroup, and returns its directory and its name.
func newCgroup(t *testing.T) (int, string) {
	t.Helper()
	needRoot(t)
	hierarchy, err := cgrouptest.Hierarchy()
	if err != nil {
		t.Skip("there are no cgroups (v2):", err)
	}
	name := "hotinit-spawn-" + strconv.Itoa(os.Getpid())
	if err := unix.Mkdirat(hierarchy, name, 0o755); err != nil {
		t.Skip("cgroups cannot be made here:", err)
	}
	dir, err := unix.Openat(hierarchy, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Close(dir)
		if err := unix.Unlinkat(hierarchy, name, unix.AT_REMOVEDIR); err != nil {
			t.Error(err)
		}
		_ = unix.Close(hierarchy)
	})
	return dir, name
}

func TestThePIDFDIsTheChilds(t *testing.T) {
	s := spec(t, "exit")
	s.Argv = []string{"child", "3"}
	c := start(t, s)
	if c.PIDFD < 0 {
		t.Skip("this kernel has no pidfds")
	}
	flags, err := unix.FcntlInt(uintptr(c.PIDFD), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Error("it is not close-on-exec", err)
	}
	want := "\nPid:\t" + strconv.Itoa(c.PID) + "\n"
	if got := read("/proc/self/fdinfo/" + strconv.Itoa(c.PIDFD)); !strings.Contains(got, want) {
		t.Error(got)
	}
	if ws := wait(t, c); ws.ExitStatus() != 3 {
		t.Errorf("%#x", ws)
	}
}
