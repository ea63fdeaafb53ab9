package adopt

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/passwd"
	"github.com/hotinit/hotinit/internal/poller"
	"github.com/hotinit/hotinit/internal/spawn"
)

// rig is the handoff and init of a test.
type rig struct {
	t       *testing.T
	a       *Adopter
	take    bool
	mu      sync.Mutex
	kept    map[string]int // what init would hold
	news    []string
	heard   chan Gen // gets the generations of the news, where it is not nil
	said    []string
	pids    map[Gen]int
	dropped int
	foreign int // the main process of another program
	cred    *passwd.Credential
}

// bothWays runs a test where the app's sockets can be taken, and where they
// cannot.
func bothWays(t *testing.T, f func(t *testing.T, r *rig)) {
	for _, take := range []bool{true, false} {
		name := "taken"
		if !take {
			name = "made"
		}
		t.Run(name, func(t *testing.T) { f(t, newRig(t, take)) })
	}
}

func newRig(t *testing.T, take bool) *rig {
	t.Helper()
	if err := Supported(); err != nil {
		t.Skip(err)
	}
	if take && !CanTake(false) {
		t.Skip("pidfd_getfd(2) is forbidden here")
	}
	r := &rig{t: t, take: take, kept: map[string]int{}, pids: map[Gen]int{}}
	r.a = New(r, new(poller.Set), take, map[string]int{})
	r.a.Join(0)
	t.Cleanup(func() {
		for n := range 3 {
			r.a.Stop(n)
		}
		for _, name := range r.names() {
			r.Drop(name)
		}
	})
	return r
}

func (r *rig) Keep(name string, fd int) error {
	copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept[name] = copied
	return nil
}

func (r *rig) Drop(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if fd, ok := r.kept[name]; ok {
		unix.Close(fd)
		delete(r.kept, name)
		r.dropped++
	}
}

func (r *rig) Listens(n Gen, socket string, adopted bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.news = append(r.news, fmt.Sprintf("%d %s %v", n.N, socket, adopted))
	if r.heard != nil {
		r.heard <- n
	}
}

// Foreign: the tests have one program, and what they say otherwise.
func (r *rig) Foreign(pid int) bool { return pid == r.foreign }

func (r *rig) Say(n Gen, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

// generation is an app of the test.
type testApp struct {
	r   *rig
	pid int
	in  *os.File
	out *bufio.Scanner
}

// start starts generation n.
func (r *rig) start(n int) *testApp {
	r.t.Helper()
	return r.startOf(0, n)
}

// startOf starts generation n of an instance, which takes part from then on.
func (r *rig) startOf(instance, n int) *testApp {
	r.t.Helper()
	app, listener := r.spawn(Gen{instance, n})
	if _, joined := r.a.serves[instance]; !joined {
		r.a.Join(instance)
	}
	r.a.Add(Gen{instance, n}, app.pid, listener)
	return app
}

func (r *rig) spawn(n Gen) (*testApp, int) {
	r.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	var in, out [2]int
	_ = unix.Pipe2(in[:], unix.O_CLOEXEC)
	_ = unix.Pipe2(out[:], unix.O_CLOEXEC)
	calls := Bind | Shutdown
	if !r.take {
		calls |= Options
	}
	// Another user could not reach its directory.
	file, err := unix.Open(exe, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	defer unix.Close(file)
	child, err := spawn.Start(&spawn.Spec{
		Path: exe, FD: file, Argv: []string{"app"}, Env: append(os.Environ(), role+"=app"),
		Files: []int{in[0], out[1], 2}, Umask: -1, Foreground: -1, Cgroup: -1, Setpgid: true,
		Signals: entry.Inherited(), Credential: r.cred,
		Filter: Program(calls), FilterFlags: Flags(), FilterPrivs: NeedsPrivs(),
		Forked: func(c spawn.Child) { _ = r.Keep(ListenerName(n), c.Listener) },
	})
	if err != nil {
		r.t.Fatal(err)
	}
	unix.Close(in[0])
	unix.Close(out[1])
	app := &testApp{r, child.PID, os.NewFile(uintptr(in[1]), "in"), bufio.NewScanner(os.NewFile(uintptr(out[0]), "out"))}
	r.pids[n] = child.PID
	r.t.Cleanup(func() { app.end() })
	return app, child.Listener
}

// do does a command and returns what it wrote.
func (p *testApp) do(format string, args ...any) string {
	p.r.t.Helper()
	p.send(format, args...)
	return p.result()
}

func (p *testApp) send(format string, args ...any) {
	p.r.t.Helper()
	if _, err := io.WriteString(p.in, fmt.Sprintf(format, args...)+"\n"); err != nil {
		p.r.t.Fatal(err)
	}
}

func (p *testApp) result() string {
	p.r.t.Helper()
	if !p.out.Scan() {
		p.r.t.Fatal("the app has ended")
	}
	return p.out.Text()
}

// must is do that has to return something.
func (p *testApp) must(want, format string, args ...any) {
	p.r.t.Helper()
	if got := p.do(format, args...); got != want {
		p.r.t.Errorf("%s: %s, want %s", fmt.Sprintf(format, args...), got, want)
	}
}

// serve makes a socket that listens on an address.
func (p *testApp) serve(kind, address string) (fd string) {
	p.r.t.Helper()
	fd = p.do("socket %s", kind)
	p.must("ok", "set %s %d %d 1", fd, unix.SOL_SOCKET, unix.SO_REUSEADDR)
	p.must("ok", "bind %s %s", fd, address)
	if !strings.HasPrefix(kind, "udp") {
		p.must("ok", "listen %s", fd)
	}
	return fd
}

// end ends the app and returns once it is reaped.
func (p *testApp) end() {
	if p.in == nil {
		return
	}
	p.in.Close()
	p.in = nil
	_ = unix.Kill(p.pid, unix.SIGKILL)
	var ws unix.WaitStatus
	_, _ = unix.Wait4(p.pid, &ws, 0, nil)
}

// resume is a SIGKILL of the handoff: another adopter goes on with what init has.
// The one before does not answer any more; what it had open is closed.
func (r *rig) resume(gens ...Gen) {
	r.t.Helper()
	r.mu.Lock()
	kept := map[string]int{}
	for name, fd := range r.kept {
		kept[name], _ = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	}
	r.mu.Unlock()
	fds := map[Gen]int{}
	for _, n := range gens {
		fds[n] = kept[ListenerName(n)]
		delete(kept, ListenerName(n))
	}
	// No call is for the one before any more. What it polls must be no end either.
	var idle [2]int
	_ = unix.Pipe2(idle[:], unix.O_CLOEXEC)
	for _, g := range r.a.gens {
		_ = unix.Dup3(idle[0], g.fd, unix.O_CLOEXEC)
	}
	r.a = New(r, new(poller.Set), r.take, kept)
	for _, n := range gens {
		r.a.Join(n.Instance)
	}
	r.a.Resume(r.pids, fds, Below)
}

func (r *rig) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.kept))
}

func (r *rig) heldSockets() int {
	n := 0
	for _, name := range r.names() {
		if strings.HasPrefix(name, Held) {
			n++
		}
	}
	return n
}

// at calls f at the moments at which a test may end the adopter.
func (r *rig) at(f func(moment string)) { r.a.reached.Store(&f) }

// lines is what the adopter said.
func (r *rig) lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.said)
}
