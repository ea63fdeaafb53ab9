package adopt

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/port"
)

func TestInstancesShareASocket(t *testing.T) {
	for kind, address := range map[string]string{
		"tcp": "127.0.0.1:%d", "tcp6": "[::1]:%d", "unix": "@hotinit-test-%d",
	} {
		t.Run(kind, func(t *testing.T) {
			bothWays(t, func(t *testing.T, r *rig) {
				address := fmt.Sprintf(address, port.Free(t))
				first := ""
				for instance := range 3 {
					p := r.startOf(instance, 1)
					fd := p.serve(kind, address)
					if inode := p.do("inode %s", fd); first == "" {
						first = inode
					} else if inode != first {
						t.Errorf("instance %d has the socket %s, instance 0 %s", instance, inode, first)
					}
					p.must("EADDRINUSE", "bind %s %s", p.do("socket %s", kind), address)
				}
				if n := r.heldSockets(); n != 1 {
					t.Errorf("%d sockets are held, want one", n)
				}
			})
		})
	}
}

// Instances start at the same time.
func TestABindWaitsForTheListenOfAnotherInstance(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		one, a, two, b := r.aBindWaits()
		// The others get their answers meanwhile.
		one.serve("tcp", port.Address(t))
		one.must("ok", "listen %s", a)
		if got := two.result(); got != "ok" {
			t.Fatalf("bind: %s, want ok", got)
		}
		two.must(one.do("inode %s", a), "inode %s", b)
		two.must("ok", "listen %s", b)
	})
}

// aBindWaits has instance 0 bind its socket a, and instance 1 wait to bind b to the same
// address.
func (r *rig) aBindWaits() (one *testApp, a string, two *testApp, b string) {
	r.t.Helper()
	address := port.Address(r.t)
	one, two = r.startOf(0, 1), r.startOf(1, 1)
	a = one.do("socket tcp")
	one.must("ok", "bind %s %s", a, address)
	b = two.do("socket tcp")
	waits := r.waits()
	two.send("bind %s %s", b, address)
	<-waits
	return one, a, two, b
}

// waits returns a channel that gets something each time a bind waits.
func (r *rig) waits() <-chan struct{} {
	waits := make(chan struct{}, 1)
	r.at(func(moment string) {
		if moment == "waits" {
			select {
			case waits <- struct{}{}:
			default:
			}
		}
	})
	return waits
}

func TestABindDoesNotWaitForWhatWillNotListen(t *testing.T) {
	for name, give := range map[string]func(p *testApp, fd string){
		"it is closed": func(p *testApp, fd string) { p.must("ok", "close %s", fd) },
		"it has ended": func(p *testApp, fd string) { p.end() },
	} {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, r *rig) {
				one, a, two, b := r.aBindWaits()
				give(one, a)
				if got := two.result(); got != "ok" {
					t.Errorf("bind: %s, want ok", got)
				}
				two.must("ok", "listen %s", b)
			})
		})
	}
	t.Run("it never listens", func(t *testing.T) {
		bothWays(t, func(t *testing.T, r *rig) {
			address := port.Address(t)
			one, two := r.startOf(0, 1), r.startOf(1, 1)
			one.must("ok", "bind %s %s", one.do("socket tcp"), address)
			began := time.Now()
			two.must("EADDRINUSE", "bind %s %s", two.do("socket tcp"), address)
			if took := time.Since(began); took < listenWithin || took > 10*listenWithin {
				t.Errorf("the answer took %v, want about %v", took, listenWithin)
			}
		})
	})
}

func TestAHandoffThatDiesWhileABindWaitsLosesNothing(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		address := port.Address(t)
		one := r.startOf(0, 1)
		two, listener := r.spawn(Gen{1, 1})
		r.a.Join(1)
		a, b := one.do("socket tcp"), ""
		one.must("ok", "bind %s %s", a, address)
		dead := r.die("waits")
		r.a.Add(Gen{1, 1}, two.pid, listener)
		b = two.do("socket tcp")
		two.send("bind %s %s", b, address)
		<-dead
		r.resume(Gen{0, 1}, Gen{1, 1})
		<-r.waits()
		one.must("ok", "listen %s", a)
		if got := two.result(); got != "ok" {
			t.Fatalf("bind: %s, want ok", got)
		}
		two.must(one.do("inode %s", a), "inode %s", b)
	})
}

func TestTheNextHandoffKnowsWhichInstancesHaveASocket(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		both, second := port.Address(t), port.Address(t)
		r.startOf(0, 4).serve("tcp", both)
		two := r.startOf(1, 4)
		two.serve("tcp", both)
		two.serve("tcp", second)
		r.resume(Gen{0, 4}, Gen{1, 4})
		for _, s := range r.a.Sockets() {
			want := "[{0 4} {1 4}]"
			if s.Name == second {
				want = "[{1 4}]"
			}
			if got := fmt.Sprint(s.By); got != want {
				t.Errorf("%s is listened on by %s, want %s", s.Name, got, want)
			}
		}
		three := r.startOf(1, 5)
		three.serve("tcp", both)
		three.serve("tcp", second)
		if !r.a.Listening(Gen{1, 5}, Gen{1, 4}) {
			t.Error("instance 1 does not count as listening on all that it did")
		}
	})
}

func TestASocketIsClosedWithTheLastInstanceThatHasIt(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		both, second := port.Address(t), port.Address(t)
		one, two := r.startOf(0, 1), r.startOf(1, 1)
		one.serve("tcp", both)
		two.serve("tcp", both)
		two.serve("tcp", second)
		r.a.Generations(0, []int{1}, 1)
		r.a.Generations(1, []int{1}, 1)
		want := func(n int, when string) {
			t.Helper()
			if got := r.heldSockets(); got != n {
				t.Errorf("%d sockets are held %s, want %d", got, when, n)
			}
		}
		// It dies, and nobody but its next generation binds the second one.
		two.end()
		r.a.Generations(1, nil, 0)
		r.a.Generations(0, []int{1}, 1)
		r.a.LetGo()
		want(2, "while an instance is started again")
		two = r.startOf(1, 2)
		two.serve("tcp", both)
		r.a.Generations(1, []int{2}, 2)
		want(1, "once it serves again, and has given up one")
		r.a.Stop(0)
		want(1, "when the first one is told to stop")
		// That one ends the socket, as some servers do; it would end it for both.
		fd := two.do("socket tcp")
		one.must("EADDRINUSE", "bind %s %s", one.do("socket tcp"), both)
		two.must("EADDRINUSE", "bind %s %s", fd, both)
		one.end()
		r.a.Join(0)
		r.startOf(0, 2).serve("tcp", both)
		want(1, "when it is started again")
		r.a.Stop(1)
		want(1, "when the second one is told to stop")
		r.a.Stop(0)
		want(0, "when all are told to stop")
	})
}

func TestAStoppingInstanceDoesNotShutASocketDownForTheOthers(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		address := port.Address(t)
		one, two := r.startOf(0, 1), r.startOf(1, 1)
		a, b := one.serve("tcp", address), two.serve("tcp", address)
		r.a.Stop(0)
		one.must("ok", "shutdown %s 2", a)
		two.must("1", "get %s %d %d", b, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	})
}

func TestInstancesThatShareAPortByThemselves(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		for _, kind := range []string{"tcp", "udp"} {
			address := port.Address(t)
			socket := func(p *testApp) string {
				fd := p.do("socket %s", kind)
				p.must("ok", "set %s %d %d 1", fd, unix.SOL_SOCKET, unix.SO_REUSEPORT)
				p.must("ok", "bind %s %s", fd, address)
				if kind == "tcp" {
					p.must("ok", "listen %s", fd)
				}
				return p.do("inode %s", fd)
			}
			var first, next []string
			for instance := range 2 {
				first = append(first, socket(r.startOf(instance, 1)))
			}
			for instance := range 2 {
				next = append(next, socket(r.startOf(instance, 2)))
			}
			// With one queue nothing of a stream is cut off when an instance ends; of UDP
			// each instance reads what the kernel has chosen it for.
			if shared := first[0] == first[1]; shared != (kind == "tcp") || fmt.Sprint(first) != fmt.Sprint(next) {
				t.Errorf("%s: the instances had the sockets %v, and have %v", kind, first, next)
			}
		}
	})
}

func TestInstancesShareAUDPSocketThatTheyDoNotShareThemselves(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		address, first := port.Address(t), ""
		for instance := range 3 {
			p := r.startOf(instance, 1)
			fd := p.do("socket udp")
			p.must("ok", "bind %s %s", fd, address)
			if inode := p.do("inode %s", fd); first == "" {
				first = inode
			} else if inode != first {
				t.Errorf("instance %d has the socket %s, instance 0 %s", instance, inode, first)
			}
		}
	})
}

func TestTheNamesOfNotificationDescriptorsSayWhose(t *testing.T) {
	for _, n := range []Gen{{0, 7}, {2, 7}, {11, 1}} {
		if got, ok := ListenerOf(ListenerName(n)); !ok || got != n {
			t.Errorf("%s is that of %v", ListenerName(n), got)
		}
	}
	if name := ListenerName(Gen{0, 7}); name != "notifications/7" {
		t.Errorf("that of a program without instances is %s", name)
	}
}
