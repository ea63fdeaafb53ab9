package adopt

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/passwd"
	"github.com/hotinit/hotinit/internal/testkit/port"
)

// die has the adopter end, as if by SIGKILL, when it reaches a moment. The
// channel is closed then.
func (r *rig) die(moment string) <-chan struct{} {
	dead := make(chan struct{})
	r.at(func(name string) {
		if name == moment {
			close(dead)
			select {}
		}
	})
	return dead
}

func TestNoMomentOfAHandoffsDeathLosesABind(t *testing.T) {
	for _, moment := range []string{"received", "kept", "replaced", "decided"} {
		t.Run(moment, func(t *testing.T) {
			bothWays(t, func(t *testing.T, r *rig) {
				if moment == "kept" && r.take {
					t.Skip("nothing is kept at bind where the app's socket can be taken")
				}
				address := port.Address(t)
				one, inode := r.start(1), ""
				if moment != "kept" {
					inode = one.do("inode %s", one.serve("tcp", address))
				}
				// The adopter of generation 1 alone goes on: the one of 2 dies.
				two, listener := r.spawn(Gen{0, 2})
				dead := r.die(moment)
				r.a.Add(Gen{0, 2}, two.pid, listener)
				fd := ""
				if r.take {
					fd = two.do("socket tcp")
				} else {
					// Its options are notified: none of them may be the moment.
					r.a.reached.Store(nil)
					fd = two.do("socket tcp")
					two.must("ok", "set %s %d %d 1", fd, unix.SOL_SOCKET, unix.SO_REUSEADDR)
					dead = r.die(moment)
				}
				two.send("bind %s %s", fd, address)
				<-dead
				r.resume(Gen{0, 1}, Gen{0, 2})
				if got := two.result(); got != "ok" {
					t.Fatalf("bind: %s, want ok", got)
				}
				two.must("ok", "listen %s", fd)
				two.must("EINVAL", "bind %s %s", fd, address)
				if got := two.do("inode %s", fd); inode != "" && got != inode {
					t.Errorf("generation 2 has the socket %s, want %s", got, inode)
				}
				three := r.start(3)
				three.must(two.do("inode %s", fd), "inode %s", three.serve("tcp", address))
			})
		})
	}
}

func TestTheNextHandoffKnowsWhichGenerationsHaveASocket(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		both, old := port.Address(t), port.Address(t)
		one := r.start(1)
		one.serve("tcp", both)
		one.serve("tcp", old)
		r.start(2).serve("tcp", both)
		r.resume(Gen{0, 1}, Gen{0, 2})
		for _, s := range r.a.Sockets() {
			want := "[{0 1} {0 2}]"
			if s.Name == old {
				want = "[{0 1}]"
			}
			if got := fmt.Sprint(s.By); got != want {
				t.Errorf("%s is listened on by %s, want %s", s.Name, got, want)
			}
		}
		if r.a.Listening(Gen{0, 2}, Gen{0, 1}) {
			t.Error("generation 2 counts as listening on all that generation 1 does")
		}
	})
}

func TestOptionsSetBeforeAHandoffsDeathAreCarried(t *testing.T) {
	r := newRig(t, false)
	one := r.start(1)
	fd := one.do("socket tcp6")
	one.must("ok", "set %s %d %d 1", fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
	r.resume(Gen{0, 1})
	port := port.Free(t)
	one.must("ok", "bind %s [::]:%d", fd, port)
	one.must("1", "get %s %d %d", fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
	one.must("ok", "listen %s", fd)
	one.serve("tcp", fmt.Sprintf("0.0.0.0:%d", port))
}

func TestAnAppThatDiesInItsBindHarmsNobody(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		address := port.Address(t)
		one, listener := r.spawn(Gen{0, 1})
		in, out := make(chan struct{}), make(chan struct{})
		first := true
		r.at(func(name string) {
			if name == "received" && first {
				first = false
				close(in)
				<-out
			}
		})
		r.a.Add(Gen{0, 1}, one.pid, listener)
		fd := one.do("socket tcp")
		one.send("bind %s %s", fd, address)
		<-in
		one.end()
		close(out)
		two := r.start(2)
		two.serve("tcp", address)
		if n := r.heldSockets(); n != 1 {
			t.Errorf("%d sockets are held, want the one of generation 2", n)
		}
	})
}

// without runs this test once more as root without a capability, as in a
// container; it reports whether this is that run.
func without(t *testing.T, capability uint, name string) bool {
	t.Helper()
	if !HasCap(capability) {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can change users")
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skip("needs setpriv (util-linux)")
	}
	cmd := exec.Command(setpriv, "--bounding-set=-"+name, "--inh-caps=-"+name, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("without %s: %v\n%s", name, err, out)
	}
	return false
}

func TestAnAppOfAnotherUserIsReadWithoutCAP_SYS_PTRACE(t *testing.T) {
	if !without(t, unix.CAP_SYS_PTRACE, "sys_ptrace") {
		return
	}
	if CanTake(true) {
		t.Error("the sockets of another user count as to be taken")
	}
	r := newRig(t, false)
	r.cred = &passwd.Credential{UID: 65534, GID: 65534}
	address := port.Address(t)
	one := r.start(1)
	inode := one.do("inode %s", one.serve("tcp", address))
	two := r.start(2)
	two.must(inode, "inode %s", two.serve("tcp", address))
	// What it may not bind, hotinit does not bind for it.
	if unprivilegedPorts() > 80 {
		two.must("EACCES", "bind %s 127.0.0.1:80", two.do("socket tcp"))
	}
	if len(r.lines()) > 0 {
		t.Errorf("said %q", r.lines())
	}
	// This process is as it was.
	if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || dumpable != 1 {
		t.Errorf("PR_GET_DUMPABLE is %d, %v; want 1", dumpable, err)
	}
}

func TestAnAppThatMayNotBeLookedAtBindsByItself(t *testing.T) {
	if !without(t, unix.CAP_SYS_PTRACE, "sys_ptrace") {
		return
	}
	r := newRig(t, false)
	one := r.start(1)
	// It changes its user without executing anything: so nobody may look at it.
	one.must("ok", "seteuid 65534")
	one.serve("tcp", port.Address(t))
	if n := r.heldSockets(); n != 0 {
		t.Errorf("%d sockets are held, want none", n)
	}
	if len(r.lines()) != 1 {
		t.Errorf("said %q, want one line", r.lines())
	}
}
