package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const warning = "built with a Go whose signal table is not known: a signal in the first instant can be lost"

// builds is where TestMain has the tests' builds.
var builds string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if builds, err = os.MkdirTemp("", "hotinit"); err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(builds) }()
		return m.Run()
	}())
}

// build returns an official build of hotinit, made at the first call; with
// unknownTable one whose entry point does not recognise Go's table of signals.
func build(t *testing.T, unknownTable bool) string {
	t.Helper()
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("there is no entry point for", runtime.GOARCH)
	}
	args, file := []string{"build", "-ldflags=-E hotinit_entry", "-o"}, filepath.Join(builds, "official", "hotinit")
	if unknownTable {
		args = slices.Insert(args, 1, "-asmflags=github.com/hotinit/hotinit/internal/entry=-D=UNKNOWN_TABLE")
		file = filepath.Join(builds, "unknown", "hotinit")
	}
	if _, err := os.Stat(file); err == nil {
		return file
	}
	cmd := exec.Command("go", append(args, file, ".")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return file
}

// under returns a path that leads to file under another tool's name.
func under(t *testing.T, name, file string) string {
	t.Helper()
	link := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	return link
}

// forks runs a command and counts the processes, but not the threads, that it and
// its threads start.
func forks(t *testing.T, file string, args ...string) int {
	t.Helper()
	runtime.LockOSThread() // all ptrace(2) requests come from one thread
	defer runtime.UnlockOSThread()
	cmd := exec.Command(file, args...)
	cmd.SysProcAttr = &unix.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		t.Skip("processes cannot be traced here:", err)
	}
	pid := cmd.Process.Pid
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, 0, nil); err != nil || !ws.Stopped() {
		t.Fatal("it did not stop at its execve:", err, ws)
	}
	const options = unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_EXITKILL
	if err := unix.PtraceSetOptions(pid, options); err != nil {
		t.Fatal(err)
	}
	n := 0
	for who := pid; ; {
		sig := 0
		if ws.Stopped() {
			switch {
			case ws.TrapCause() == unix.PTRACE_EVENT_FORK, ws.TrapCause() == unix.PTRACE_EVENT_VFORK:
				n++
			case ws.StopSignal() != unix.SIGTRAP && ws.StopSignal() != unix.SIGSTOP:
				sig = int(ws.StopSignal())
			}
			_ = unix.PtraceCont(who, sig) // it may have been killed meanwhile
		} else if who == pid {
			if !ws.Exited() || ws.ExitStatus() != 0 {
				t.Errorf("%s %q: %v", file, args, ws)
			}
			return n
		}
		var err error
		if who, err = unix.Wait4(-1, &ws, unix.WALL, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestATextIsPrintedWithoutASecondProcess(t *testing.T) {
	file := build(t, false)
	tini, startServer := under(t, "tini", file), under(t, "start_server", file)
	for _, argv := range [][]string{
		{file, "--help"}, {file, "-h"}, {file, "--version"}, {file, "-V"}, {file, "version"},
		{file, "--port", "8080", "--help"}, {file, "-l"},
		{tini, "-h"}, {tini, "--version"}, {tini, "-l"},
		{startServer, "--help"}, {startServer, "-version"}, {startServer, "--ver"},
		{file, "-vh"}, // the entry point does not see the h, and main ends what it started
	} {
		n := forks(t, argv[0], argv[1:]...)
		if argv[1] == "-vh" && runtime.GOARCH == "amd64" {
			n--
		}
		if n != 0 {
			t.Errorf("%q started %d processes", argv[1:], n)
		}
	}
	if n := forks(t, file, "--", "/bin/true"); n < 2 {
		t.Errorf("a command was run with %d processes beside init: this test sees none", n)
	}
}

func TestAnErrorInTheEnvironmentIsReportedBesideHelpToo(t *testing.T) {
	file := build(t, false)
	for _, args := range [][]string{{"--help"}, {"--", "/bin/true"}} {
		cmd := exec.Command(file, args...)
		cmd.Env = append(os.Environ(), "HOTINIT_INTERVAL=never")
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "HOTINIT_INTERVAL") {
			t.Errorf("%q: %v: %s", args, err, out)
		}
	}
}

func TestABuildWithAnUnknownTableOfSignalsSaysSo(t *testing.T) {
	file := build(t, true)
	for _, arg := range []string{"version", "--version"} {
		out, err := exec.Command(file, arg).Output()
		if err != nil || !strings.HasSuffix(string(out), "\n"+warning+"\n") {
			t.Errorf("%s: %v: %q", arg, err, out)
		}
	}
	start := exec.Command(file, "--", "/bin/true")
	start.Env = []string{"PATH=" + os.Getenv("PATH")} // without what the tests themselves are told
	out, err := start.CombinedOutput()
	if err != nil || string(out) != "hotinit: "+warning+"\n" {
		t.Errorf("at a start: %v: %q, which is not the warning once", err, out)
	}

	known := build(t, false)
	for _, args := range [][]string{{"version"}, {"--", "/bin/true"}} {
		out, err := exec.Command(known, args...).CombinedOutput()
		if err != nil || strings.Contains(string(out), warning) {
			t.Errorf("an official build: %q: %v: %s", args, err, out)
		}
	}
}

// Programs read the version under another tool's name.
func TestTheVersionUnderAPeersNameIsOneLine(t *testing.T) {
	out, err := exec.Command(under(t, "tini", build(t, true)), "--version").CombinedOutput()
	if err != nil || strings.Count(string(out), "\n") != 1 || !strings.HasPrefix(string(out), "tini version ") {
		t.Errorf("%v: %q", err, out)
	}
}

func TestTheVersionIsTheOneThatWasLinkedOrDevel(t *testing.T) {
	const variables = " -X github.com/hotinit/hotinit/internal/version.Number=1.2.3 -X github.com/hotinit/hotinit/internal/version.commit=0123456789abcdef"
	for flags, want := range map[string]string{
		"-ldflags=-s -w" + variables: "hotinit version 1.2.3 - git.0123456",
		"-ldflags=-s -w":             "hotinit version devel - git.devel",
	} {
		file := filepath.Join(t.TempDir(), "hotinit")
		if out, err := exec.Command("go", "build", "-buildvcs=false", flags, "-o", file, ".").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		out, err := exec.Command(file, "--version").Output()
		if err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("built with %s: %v: %q, want %q", flags, err, out, want)
		}
	}
}
