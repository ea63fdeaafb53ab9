package spawn

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary plays the programs that are started: role is the variable
// that says which.
const role = "SPAWN_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "report":
		tell()
	case "exit":
		n, _ := strconv.Atoi(os.Args[1])
		os.Exit(n)
	}
}

// state is what a started program reports of itself.
type state struct {
	PID, PPID, PGID, SID int
	Args, Env            []string
	Dir                  string
	Status               map[string]string // of /proc/self/status
	Files                map[int]int       // number: file status flags
	Cgroup               string
}

// tell writes the report to descriptor 1.
func tell() {
	s := state{
		PID: os.Getpid(), PPID: os.Getppid(), PGID: unix.Getpgrp(), Args: os.Args, Env: os.Environ(),
		Status: map[string]string{}, Files: map[int]int{},
	}
	for fd := range 10 {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err == nil {
			s.Files[fd] = flags
		}
	}
	s.SID, _ = unix.Getsid(0)
	s.Dir, _ = unix.Getwd()
	for line := range strings.Lines(read("/proc/self/status")) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), ":")
		s.Status[k] = strings.TrimSpace(v)
	}
	s.Cgroup = read("/proc/self/cgroup")
	out, _ := json.Marshal(s)
	_, _ = unix.Write(1, append(out, '\n'))
}

func read(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// spec is one that leaves everything as it is.
func spec(t *testing.T, as string) *Spec {
	t.Helper()
	return &Spec{
		Path: self(t), FD: -1, Argv: []string{"child"}, Env: append(os.Environ(), role+"="+as),
		Files: []int{0, 1, 2}, Umask: -1, Foreground: -1, Cgroup: -1,
	}
}

// report starts the program with its descriptor 1 as a pipe, and reads what it
// tells.
func report(t *testing.T, s *Spec) state {
	t.Helper()
	out, child := output(t, s)
	var st state
	if err := json.Unmarshal([]byte(out), &st); err != nil {
		t.Fatalf("the child wrote %q: %v", out, err)
	}
	if st.PID != child.PID {
		t.Errorf("the child is %d, Start says %d", st.PID, child.PID)
	}
	return st
}

// output is what the program writes to descriptor 1 until it ends, with 0.
func output(t *testing.T, s *Spec) (string, Child) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r := os.NewFile(uintptr(p[0]), "pipe")
	defer func() { _ = r.Close() }()
	s.Files[1] = p[1]
	child, err := Start(s)
	_ = unix.Close(p[1])
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if ws := wait(t, child); ws != 0 {
		t.Fatalf("the child ended with %#x after %q", ws, out)
	}
	return string(out), child
}

func wait(t *testing.T, c Child) unix.WaitStatus {
	t.Helper()
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(c.PID, &ws, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Error(err)
		}
		if c.PIDFD >= 0 {
			_ = unix.Close(c.PIDFD)
		}
		return ws
	}
}

// start starts a program that must start.
func start(t *testing.T, s *Spec) Child {
	t.Helper()
	c, err := Start(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may do this")
	}
}

// script makes an executable file.
func script(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "script")
	// A process that another test starts at this moment would hold the file
	// open for writing (ETXTBSY): so it is written by one that ends.
	s := spec(t, "")
	s.Path, s.Argv = "/bin/sh", []string{"sh", "-c", `printf %s "$1" >"$0" && chmod 755 "$0"`, file, text}
	s.Env = os.Environ()
	if ws := wait(t, start(t, s)); ws != 0 {
		t.Fatal("cannot write a script")
	}
	return file
}
