package adopt

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/passwd"
)

// serveAt is what a server does that binds a path.
func (p *testApp) serveAt(path string) (fd string) {
	p.r.t.Helper()
	_ = p.do("unlink %s", path)
	fd = p.do("socket unix")
	p.must("ok", "bind %s %s", fd, path)
	p.must("ok", "listen %s", fd)
	return fd
}

// leadsTo waits until a connection to a path can be accepted from a socket.
func (p *testApp) leadsTo(path, fd string) {
	p.r.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		client, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			p.r.t.Fatal(err)
		}
		err = unix.Connect(client, &unix.SockaddrUnix{Name: path})
		if err == nil {
			p.do("accept %s", fd)
			unix.Close(client)
			return
		}
		unix.Close(client)
		if time.Now().After(deadline) {
			p.r.t.Fatalf("connect to %s: %v", path, err)
		}
		_, _ = unix.Poll(nil, 1) // nothing tells when the file is there
	}
}

// only reports what else than the socket is in its directory, once nothing is, or
// it is late.
func only(t *testing.T, path string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; _, _ = unix.Poll(nil, 1) {
		entries, err := os.ReadDir(filepath.Dir(path))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if slices.Equal(names, []string{filepath.Base(path)}) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the directory has %q, want the socket alone", names)
		}
	}
}

func TestAnOldGenerationThatRemovesItsPathDoesNotTakeTheNewOnesAlong(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		path := filepath.Join(t.TempDir(), "app.sock")
		one := r.start(1)
		one.serveAt(path)
		r.a.Swapping(0)
		two := r.start(2)
		fd := two.serveAt(path)
		one.must("ok", "unlink %s", path) // as it ends
		two.leadsTo(path, fd)
		one.end()
		only(t, path)
		two.leadsTo(path, fd)
	})
}

func TestACandidateThatFailsLeavesThePathToTheCurrentGeneration(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		path := filepath.Join(t.TempDir(), "app.sock")
		one := r.start(1)
		fd := one.serveAt(path)
		r.a.Swapping(0)
		two := r.start(2)
		two.serveAt(path)
		two.end()
		one.leadsTo(path, fd)
		only(t, path)
		// One that fails before it listens has removed the path as well.
		r.a.Swapping(0)
		three := r.start(3)
		three.must("ok", "unlink %s", path)
		three.must("ok", "bind %s %s", three.do("socket unix"), path)
		three.end()
		one.leadsTo(path, fd)
		only(t, path)
	})
}

func TestThePathOfAnotherUsersSocketIsKeptByItsOwnRights(t *testing.T) {
	if !without(t, unix.CAP_SYS_PTRACE, "sys_ptrace") {
		return
	}
	dir := t.TempDir()
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		_ = os.Chmod(d, 0o755)
	}
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Skip(err)
	}
	r := newRig(t, false)
	r.cred = &passwd.Credential{UID: 65534, GID: 65534}
	path := filepath.Join(dir, "app.sock")
	one := r.start(1)
	one.serveAt(path)
	r.a.Swapping(0)
	second := secondName(path, Gen{0, 1})
	if err := unix.Access(second, unix.F_OK); err != nil {
		t.Fatalf("%s: %v", second, err)
	}
	two := r.start(2)
	fd := two.serveAt(path)
	one.must("ok", "unlink %s", path)
	two.leadsTo(path, fd)
	r.a.Stop(0)
	only(t, path)
}

func TestPathsOfProcNetUnix(t *testing.T) {
	const text = `Num       RefCount Protocol Flags    Type St Inode Path
000000000d2bbf5d: 00000002 00000000 00010000 0001 01 12345 /run/a b.sock
00000000a2bbf5d0: 00000003 00000000 00000000 0001 03 12346 /run/a b.sock
00000000b2bbf5d0: 00000002 00000000 00010000 0001 01 12347 @/abstract
00000000c2bbf5d0: 00000002 00000000 00010000 0001 01 12348 relative
00000000d2bbf5d0: 00000002 00000000 00010000 0001 01 12349
`
	got := boundPaths(text)
	if want := []boundPath{{12345, "/run/a b.sock"}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
