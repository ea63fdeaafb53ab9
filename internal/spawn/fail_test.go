package spawn

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/passwd"
)

// fails starts what must fail, and checks that it leaves no process.
func fails(t *testing.T, s *Spec, op string, errno unix.Errno, code int) string {
	t.Helper()
	_, err := Start(s)
	var e *Error
	if !errors.As(err, &e) || e.Op != op || e.Err != errno || e.ExitCode() != code {
		t.Fatalf("got %v, want %s: %v, exit code %d", err, op, errno, code)
	}
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("a child is left: %d, %v", pid, err)
	}
	return err.Error()
}

func TestNoSuchFileIs127(t *testing.T) {
	s := spec(t, "")
	s.Path = filepath.Join(t.TempDir(), "none")
	if msg := fails(t, s, "exec", unix.ENOENT, 127); !strings.Contains(msg, `cannot execute "`+s.Path+`": no such file`) {
		t.Error(msg)
	}
}

func TestAFileInsteadOfAFolderIs127(t *testing.T) {
	s := spec(t, "")
	s.Path += "/x"
	fails(t, s, "exec", unix.ENOTDIR, 127)
}

func TestAMissingInterpreterIsNamed(t *testing.T) {
	s := spec(t, "")
	s.Path = script(t, "#!/nonexistent/interpreter\n")
	if msg := fails(t, s, "exec", unix.ENOENT, 127); !strings.Contains(msg, "its interpreter") {
		t.Error(msg)
	}
}

func TestNotExecutableIs126(t *testing.T) {
	s := spec(t, "")
	s.Path = script(t, "x")
	if err := os.Chmod(s.Path, 0o644); err != nil {
		t.Fatal(err)
	}
	if msg := fails(t, s, "exec", unix.EACCES, 126); !strings.Contains(msg, "x bit") {
		t.Error(msg)
	}
}

func TestAFolderIs126(t *testing.T) {
	s := spec(t, "")
	s.Path = t.TempDir()
	fails(t, s, "exec", unix.EACCES, 126)
}

func TestAFileBeingWrittenIs126(t *testing.T) {
	s := spec(t, "")
	s.Path = script(t, "#!/bin/sh\n")
	fd, err := unix.Open(s.Path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if _, err := Start(s); err == nil {
		t.Skip("this kernel lets files be executed that are written to")
	}
	fails(t, s, "exec", unix.ETXTBSY, 126)
}

func TestNoSuchFolderIs125(t *testing.T) {
	s := spec(t, "")
	s.Dir = filepath.Join(t.TempDir(), "none")
	if msg := fails(t, s, "chdir", unix.ENOENT, 125); !strings.Contains(msg, s.Dir) {
		t.Error(msg)
	}
}

func TestAForbiddenUserIs125(t *testing.T) {
	needRoot(t)
	s := spec(t, "")
	s.Path, s.Argv = "/bin/true", []string{"true"}
	s.Credential = &passwd.Credential{UID: ^uint32(0), GID: 1}
	fails(t, s, "setuid", unix.EINVAL, 125)
}

func TestABadDescriptorIs125(t *testing.T) {
	s := spec(t, "")
	s.Files = []int{0, 1, 2, 9999}
	fails(t, s, "files", unix.EBADF, 125)
}

func TestATerminalThatIsNoneIs125(t *testing.T) {
	s := spec(t, "")
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	conn, err := null.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	s.Setpgid, s.Foreground = true, 3
	if err := conn.Control(func(fd uintptr) {
		s.Files = append(s.Files, int(fd))
		fails(t, s, "tcsetpgrp", unix.ENOTTY, 125)
	}); err != nil {
		t.Fatal(err)
	}
}

func TestANULInAnArgumentIsRefused(t *testing.T) {
	s := spec(t, "")
	s.Argv = []string{"a\x00b"}
	fails(t, s, "exec", unix.EINVAL, 126)
}

func TestAForkThatFailsSaysSo(t *testing.T) {
	e := &Error{Op: "fork", Path: "/app", Err: unix.EAGAIN}
	if got := e.Error(); !strings.HasPrefix(got, `cannot start a process for "/app": resource temporarily unavailable (the limit of processes`) {
		t.Error(got)
	}
	if e.ExitCode() != 125 {
		t.Error(e.ExitCode())
	}
}

func TestConcurrentStartsGetTheirOwnStatus(t *testing.T) {
	const starts, atOnce = 500, 20
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i := range starts {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			s := spec(t, "")
			s.Path, s.Argv = "/bin/sh", []string{"sh", "-c", "exit " + strconv.Itoa(i%200)}
			if i%10 == 0 {
				s.Path = "/nonexistent"
				if _, err := Start(s); err == nil {
					t.Error("it started")
				}
				return
			}
			c, err := Start(s)
			if err != nil {
				t.Error(err)
				return
			}
			if ws := wait(t, c); ws.ExitStatus() != i%200 || !ws.Exited() {
				t.Errorf("start %d ended with %#x", i, ws)
			}
		})
	}
	wg.Wait()
	if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		t.Error("children are left")
	}
}

// Somebody stops the child before it has executed anything: the start ends at its limit.
func TestAChildThatIsStoppedIsKilledAtTheLimit(t *testing.T) {
	s := spec(t, "")
	s.Limit = 100 * time.Millisecond
	s.Forked = func(c Child) { _ = unix.Kill(c.PID, unix.SIGSTOP) }
	_, err := Start(s)
	var e *Error
	if !errors.As(err, &e) || e.Op != "exec" || e.Err != unix.ETIMEDOUT {
		t.Errorf("got %v", err)
	}
	for { // it is waited for beside Start
		if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err == unix.ECHILD {
			return
		}
		runtime.Gosched()
	}
}

// This process may be given no time: that is not the child's fault, which has executed
// its program meanwhile, or waits for what Forked does.
func TestAChildIsNotKilledForTheTimeOfItsParent(t *testing.T) {
	pause := func() { time.Sleep(500 * time.Millisecond) }
	for name, slow := range map[string]func(s *Spec){
		"before it may execute": func(s *Spec) { s.Forked = func(Child) { pause() } },
		"while it executes":     func(s *Spec) { s.Meanwhile = pause },
	} {
		t.Run(name, func(t *testing.T) {
			s := spec(t, "")
			s.Limit = 250 * time.Millisecond
			s.Path, s.Argv = "/bin/sh", []string{"sh", "-c", "exit 7"}
			slow(s)
			c, err := Start(s)
			if err != nil {
				t.Fatal(err)
			}
			if ws := wait(t, c); ws.ExitStatus() != 7 {
				t.Errorf("it ended with %#x", ws)
			}
		})
	}
}
