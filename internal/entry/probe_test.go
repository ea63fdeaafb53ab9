package entry_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/spawn"
)

// build is a way to build testdata/probe.
type build struct {
	name string
	args []string
}

var (
	exact = build{"exact", []string{"-ldflags=-E hotinit_entry"}}
	pie   = build{"pie", []string{"-buildmode=pie", "-ldflags=-E hotinit_entry"}}
	plain = build{"plain", nil}
	// unknown has the entry point and does not recognise Go's table of signals.
	unknown = build{"unknown", []string{"-ldflags=-E hotinit_entry",
		"-asmflags=github.com/hotinit/hotinit/internal/entry=-D=UNKNOWN_TABLE"}}
)

// emulated is true where .ci/run runs the tests of another architecture with
// qemu-user.
var emulated = os.Getenv("HOTINIT_TEST_EMULATED") != ""

var (
	builtIn string
	builtMu sync.Mutex
)

func TestMain(m *testing.M) {
	// Under nohup(1) SIGHUP is ignored, also in the programs that the tests start.
	// A signal that is caught has its default action again after execve(2).
	if signal.Ignored(unix.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), unix.SIGHUP)
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "entry")
		if err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		builtIn = dir
		return m.Run()
	}())
}

// path returns the probe's file, and builds it at its first use.
func (b build) path(t *testing.T) string {
	t.Helper()
	if len(b.args) > 0 && runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("there is no entry point for", runtime.GOARCH)
	}
	if b.name == pie.name && emulated {
		t.Skip("an emulator has no ld.so of its architecture")
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("the go tool is needed to build a helper:", err)
	}
	builtMu.Lock()
	defer builtMu.Unlock()
	file := filepath.Join(builtIn, b.name)
	if _, err := os.Stat(file); err == nil {
		return file
	}
	cmd := exec.Command(goTool, append(append([]string{"build", "-o", file}, b.args...), "./testdata/probe")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+runtime.GOARCH)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot build the %s probe: %v\n%s", b.name, err, out)
	}
	return file
}

type report struct {
	Exact      bool
	Fallback   bool
	Table      uintptr
	Inherited  entry.Signals
	Threads    []uint64
	Pending    uint64
	Limit, Now unix.Rlimit
	Known      bool
	Leaked     bool
	Args       []string
}

// run executes the probe with the given signal state, and reads its report.
func (b build) run(t *testing.T, s spawn.Spec, args ...string) report {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	raw, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	s.Path, s.FD = b.path(t), -1
	s.Argv = append([]string{"probe"}, args...)
	s.Umask, s.Foreground, s.Cgroup = -1, -1, -1
	if s.Env == nil {
		s.Env = os.Environ()
	}
	var child spawn.Child
	if e := raw.Control(func(fd uintptr) {
		s.Files = []int{0, int(fd), 2}
		child, err = spawn.Start(&s)
	}); e != nil || err != nil {
		t.Fatal(e, err)
	}
	_ = w.Close()
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(child.PID, &ws, 0, nil); err != nil || ws != 0 {
		t.Fatal("the probe failed:", err, ws)
	}
	_ = unix.Close(child.PIDFD)
	return parse(t, out)
}

func parse(t *testing.T, out []byte) report {
	t.Helper()
	var rep report
	if err := json.NewDecoder(bytes.NewReader(out)).Decode(&rep); err != nil {
		t.Fatalf("the probe wrote %q: %v", out, err)
	}
	return rep
}

// set makes a signal set.
func set(sigs ...unix.Signal) uint64 {
	var s uint64
	for _, n := range sigs {
		s |= 1 << (n - 1)
	}
	return s
}

var (
	// insisted are the signals that Go's runtime unblocks in every thread. kept are
	// those that it unblocks unless the entry point prevents it.
	insisted = set(unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGCHLD, unix.SIGURG)
	kept     = set(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGABRT, unix.SIGTERM, unix.SIGSYS,
		unix.SIGILL, unix.SIGTRAP, unix.SIGSTKFLT, unix.SIGPROF, 32, 33, 34)
	unblockable = set(unix.SIGKILL, unix.SIGSTOP)
)
