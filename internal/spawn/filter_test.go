package spawn

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/passwd"
)

// allow is a filter that lets every system call pass.
func allow() []unix.SockFilter {
	return []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}}
}

func TestTheChildHasItsFilterAndForkedItsListener(t *testing.T) {
	for _, shared := range []bool{true, false} {
		s := spec(t, "report")
		s.Filter, s.FilterFlags, s.FilterPrivs = allow(), unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, true
		if !shared { // a change of user takes a copy of the memory
			needRoot(t)
			s.Credential = &passwd.Credential{}
		}
		listener := -1
		s.Forked = func(c Child) { listener = c.Listener }
		st := report(t, s)
		if listener < 0 {
			t.Fatalf("shared memory %v: Forked got no listener", shared)
		}
		if name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(listener)); err != nil || name != "anon_inode:seccomp notify" {
			t.Errorf("the listener is %q, %v", name, err)
		}
		if flags, err := unix.FcntlInt(uintptr(listener), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("the listener's flags are %x, %v; want close-on-exec", flags, err)
		}
		_ = unix.Close(listener)
		if st.Status["Seccomp"] != "2" || st.Status["NoNewPrivs"] != "1" {
			t.Errorf("Seccomp is %s, NoNewPrivs %s; want 2, 1", st.Status["Seccomp"], st.Status["NoNewPrivs"])
		}
	}
}

func TestWithoutAFilterThereIsNoListener(t *testing.T) {
	s := spec(t, "exit")
	s.Argv = append(s.Argv, "0")
	c := start(t, s)
	if c.Listener != -1 {
		t.Errorf("the listener is %d, want -1", c.Listener)
	}
	wait(t, c)
}

func TestAFilterThatTheKernelRefusesIs125(t *testing.T) {
	s := spec(t, "exit")
	s.Filter, s.FilterPrivs = []unix.SockFilter{{Code: 0xffff}}, true
	_, err := Start(s)
	var e *Error
	if !errors.As(err, &e) || e.Op != "seccomp" || e.Err != unix.EINVAL || e.ExitCode() != 125 {
		t.Errorf("Start: %v", err)
	}
}

func TestTheProgramDoesNotInheritItsListener(t *testing.T) {
	s := spec(t, "")
	s.Path, s.Argv, s.Env = "/bin/ls", []string{"ls", "-l", "/proc/self/fd"}, os.Environ()
	s.Filter, s.FilterFlags, s.FilterPrivs = allow(), unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, true
	out, child := output(t, s)
	_ = unix.Close(child.Listener)
	if strings.Contains(out, "seccomp") || strings.Contains(out, "socket:") {
		t.Errorf("the program has the descriptors\n%s", out)
	}
}
