package adopt

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/port"
)

func TestTheNextGenerationGetsTheSocketThatTheFirstListensOn(t *testing.T) {
	for kind, address := range map[string]string{
		"tcp": "127.0.0.1:%d", "tcp6": "[::1]:%d", "unix": "@hotinit-test-%d", "udp": "127.0.0.1:%d",
	} {
		t.Run(kind, func(t *testing.T) {
			bothWays(t, func(t *testing.T, r *rig) {
				address := fmt.Sprintf(address, port.Free(t))
				one := r.start(1)
				a := one.serve(kind, address)
				two := r.start(2)
				b := two.serve(kind, address)
				if x, y := one.do("inode %s", a), two.do("inode %s", b); x != y {
					t.Errorf("generation 1 has the socket %s, generation 2 %s", x, y)
				}
			})
		})
	}
}

// While another program is started, a child of this process has the socket open, too.
func TestAChildOfTheHandoffHasNoSocketOfAGeneration(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		address := port.Address(t)
		p := r.start(1)
		fd := p.serve("tcp", address)
		own, err := unix.FcntlInt(uintptr(r.a.Descriptors(Gen{N: 1})[0]), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		child := exec.Command("cat")
		child.ExtraFiles = []*os.File{os.NewFile(uintptr(own), "socket")}
		end, err := child.StdinPipe()
		if err == nil {
			err = child.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		p.must("ok", "close %s", fd)
		p.serve("tcp", address)
		end.Close()
		_ = child.Wait()
		child.ExtraFiles[0].Close()
	})
}

func TestAddressesThatDifferAreDifferentSockets(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		port := port.Free(t)
		one, two := r.start(1), r.start(2)
		var inodes [2][]string
		for i, p := range []*testApp{one, two} {
			for _, a := range []string{"127.0.0.1", "127.0.0.2"} {
				inodes[i] = append(inodes[i], p.do("inode %s", p.serve("tcp", fmt.Sprintf("%s:%d", a, port))))
			}
			fd := p.do("socket tcp6")
			p.must("ok", "set %s %d %d 1", fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
			p.must("ok", "bind %s [::]:%d", fd, port)
			p.must("ok", "listen %s", fd)
			p.must("1", "get %s %d %d", fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
			inodes[i] = append(inodes[i], p.do("inode %s", fd))
		}
		if fmt.Sprint(inodes[0]) != fmt.Sprint(inodes[1]) {
			t.Errorf("the sockets are %v and %v", inodes[0], inodes[1])
		}
	})
}

func TestWithinAGenerationASecondBindIsRefusedWhileTheFirstIsOpen(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		address := port.Address(t)
		for n := 1; n <= 2; n++ {
			p := r.start(n)
			fd := p.serve("tcp", address)
			other := p.do("socket tcp")
			p.must("EADDRINUSE", "bind %s %s", other, address)
			p.must("EINVAL", "bind %s %s", fd, address)
			// Closed, it can be bound again.
			p.must("ok", "close %s", fd)
			p.must("ok", "bind %s %s", other, address)
			p.must("ok", "listen %s", other)
		}
	})
}

func TestAProbedPortCanBeBoundAgain(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		address := port.Address(t)
		for n := 1; n <= 2; n++ {
			p := r.start(n)
			fd := p.do("socket tcp")
			p.must("ok", "bind %s %s", fd, address)
			p.must("ok", "close %s", fd)
			p.serve("tcp", address)
		}
	})
}

// Programs that look for a free port try one address after the other.
func TestAnAddressThatOverlapsWithAClosedOneCanBeBound(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		for _, kind := range []string{"tcp", "udp"} {
			port := port.Free(t)
			p := r.start(1)
			for i, address := range []string{"127.0.0.1", "0.0.0.0", "[::]", "[::1]", "0.0.0.0", "127.0.0.1"} {
				k := kind
				if address[0] == '[' {
					k += "6"
				}
				fd := p.serve(k, fmt.Sprintf("%s:%d", address, port))
				if i == 1 { // while it is open, the kernel refuses another one
					other := p.do("socket %s", k)
					p.must("EADDRINUSE", "bind %s 127.0.0.1:%d", other, port)
				}
				p.must("ok", "close %s", fd)
			}
			p.end()
		}
	})
}

// Each call that is dealt with closes what it has opened, also where the kernel
// refuses it.
func TestACallLeavesNoDescriptorBehind(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		p := r.start(1)
		port := port.Free(t)
		fd := p.do("socket tcp") // the journal is made for the first call
		p.must("EADDRNOTAVAIL", "bind %s 192.0.2.1:%d", fd, port)
		p.must("ok", "close %s", fd)
		before := descriptors(t)
		for range 10 {
			fd := p.do("socket udp")
			p.must("ok", "bind %s 127.0.0.1:%d", fd, port)
			p.must("ENOTSUP", "listen %s", fd)
			p.must("ok", "close %s", fd)
			fd = p.do("socket tcp")
			p.must("EADDRNOTAVAIL", "bind %s 192.0.2.1:%d", fd, port)
			p.must("ok", "close %s", fd)
		}
		// Of the one address one socket may be held, here and in init.
		if after := descriptors(t); after > before+2 {
			t.Errorf("%d descriptors are open, and %d were", after, before)
		}
	})
}

// TestAGenerationThatBindsNothingHasNoJournal: of 1,000 programs few are servers.
func TestAGenerationThatBindsNothingHasNoJournal(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		p := r.start(1)
		r.mu.Lock()
		_, kept := r.kept[Journal]
		r.mu.Unlock()
		if kept {
			t.Error("there is a journal")
		}
		p.serve("tcp", port.Address(t))
		r.mu.Lock()
		defer r.mu.Unlock()
		if _, kept := r.kept[Journal]; !kept {
			t.Error("there is no journal")
		}
	})
}

func descriptors(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

func TestASocketThatNobodyHasOpenIsLetGo(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		p := r.start(1)
		stays := p.serve("tcp", port.Address(t))
		port := port.Free(t)
		fd := p.serve("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if r.a.LetGo() {
			t.Error("a socket that is open was let go")
		}
		p.must("ok", "close %s", fd)
		if !r.a.LetGo() || r.heldSockets() != 1 {
			t.Errorf("%d sockets are held, want the one that is open", r.heldSockets())
		}
		p.must("EINVAL", "bind %s 127.0.0.1:%d", stays, port)
	})
}

func TestFlagsAndOptionsAreThoseOfTheApp(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		address := port.Address(t)
		for n := 1; n <= 2; n++ {
			p := r.start(n)
			fd := p.do("socket tcp")
			p.must("ok", "keep %s", fd)
			if n == 2 {
				p.must("ok", "block %s", fd)
			}
			p.must("ok", "set %s %d %d %d", fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 3*n)
			p.must("ok", "set %s %d %d %d", fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 20000*n)
			p.must("ok", "bind %s %s", fd, address)
			p.must("ok", "listen %s", fd)
			p.must(fmt.Sprint(false, n == 1), "flags %s", fd)
			p.must(fmt.Sprint(40000*n), "get %s %d %d", fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
			if got := num(p.do("get %s %d %d", fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT)); got < 3*n {
				t.Errorf("generation %d: TCP_DEFER_ACCEPT is %d s, want %d or a little more", n, got, 3*n)
			}
		}
	})
}

func TestAClientsPortIsNoListener(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		server, client := port.Address(t), port.Address(t)
		one := r.start(1)
		listener := one.serve("tcp", server)
		fd := one.do("socket tcp")
		one.must("ok", "bind %s %s", fd, client)
		one.must("ok", "connect %s %s", fd, server)
		conn := one.do("accept %s", listener)
		// When the client closes its end, that reaches the server: nobody else has
		// a copy.
		one.must("ok", "close %s", fd)
		poll := one.do("accept %s", conn) // waits until there is something to read
		if poll != "EINVAL" {
			t.Errorf("accept on a connection: %s", poll)
		}
		two := r.start(2)
		two.serve("tcp", server)
		fd = two.do("socket tcp")
		if got := two.do("bind %s %s", fd, client); got == "ok" {
			two.must("ok", "connect %s %s", fd, server)
		} // else the port is in TIME_WAIT
	})
}

func TestErrorsAreTheKernels(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		port := port.Free(t)
		address := fmt.Sprintf("127.0.0.1:%d", port)
		r.start(1).serve("tcp", address)
		p := r.start(2)
		fd := p.do("socket tcp")
		p.must("EFAULT", "raw %s 0x10 16", fd)
		p.must("EFAULT", "raw %s 0 16", fd)
		p.must("EFAULT", "raw %s 0xffffffffffffff00 16", fd)
		p.must("EINVAL", "raw %s here 129", fd)
		p.must("EINVAL", "raw %s here -1", fd)
		p.must("EINVAL", "raw %s here 8", fd)
		p.must("EFAULT", "raw %s guarded 16 %d", fd, port)
		p.must("EADDRNOTAVAIL", "bind %s 192.0.2.1:80", fd)
		p.must("EBADF", "bind 999 %s", address)
		p.must("ENOTSOCK", "bind 0 %s", address)
		six := p.do("socket tcp6")
		p.must("EINVAL", "bind %s %s", six, address)
		p.must("ok", "bind %s %s", fd, address)
		p.must("EINVAL", "bind %s %s", fd, address)
		p.must("ok", "listen %s", fd)
	})
}

func TestALongerAddressIsTheSameOne(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		one := r.start(1)
		a := one.do("socket tcp")
		port := port.Free(t)
		one.must("ok", "raw %s here 16 %d", a, port)
		one.must("ok", "listen %s", a)
		two := r.start(2)
		b := two.do("socket tcp")
		two.must("ok", "raw %s here 100 %d", b, port)
		two.must(one.do("inode %s", a), "inode %s", b)
	})
}

func TestPortZeroIsLeftToTheKernel(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		for n := 1; n <= 2; n++ {
			p := r.start(n)
			p.serve("tcp", "127.0.0.1:0")
			p.serve("udp", "127.0.0.1:0")
		}
		if n := r.heldSockets(); n != 0 {
			t.Errorf("%d sockets are held, want none: %v", n, r.names())
		}
	})
}

func TestAnotherNetworkNamespaceIsLeftAlone(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		p := r.start(1)
		if got := p.do("unshare"); got != "ok" {
			t.Skipf("unshare(CLONE_NEWNET): %s", got)
		}
		p.serve("tcp", "0.0.0.0:80")
		if n := r.heldSockets(); n != 0 {
			t.Errorf("%d sockets are held, want none", n)
		}
	})
}

func TestAGroupSharesOneSocket(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		address := port.Address(t)
		first := ""
		// It grows, and shrinks.
		for n, members := range []int{2, 4, 1} {
			p := r.start(n + 1)
			var fds []string
			for range members {
				fd := p.do("socket tcp")
				p.must("ok", "set %s %d %d 1", fd, unix.SOL_SOCKET, unix.SO_REUSEPORT)
				p.must("ok", "bind %s %s", fd, address)
				fds = append(fds, fd)
			}
			for _, fd := range fds { // all are bound before the first one listens
				p.must("ok", "listen %s", fd)
			}
			for _, fd := range fds {
				inode := p.do("inode %s", fd)
				if first == "" {
					first = inode
				}
				if r.take && inode != first || !r.take && n > 0 && inode != first {
					t.Errorf("generation %d has the socket %s, the first one is %s", n+1, inode, first)
				}
			}
		}
	})
}

func TestShutdownDoesNotEndASharedSocket(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		address := port.Address(t)
		one := r.start(1)
		a := one.serve("tcp", address)
		two := r.start(2)
		b := two.serve("tcp", address)
		one.must("ok", "shutdown %s 2", a)
		one.must("ok", "shutdown %s 0", a)
		one.must("EINVAL", "shutdown %s 7", a)
		client := two.do("socket tcp")
		two.must("ENOTCONN", "shutdown %s 2", client)
		two.must("ok", "connect %s %s", client, address)
		conn := two.do("accept %s", b)
		two.must("ok", "shutdown %s 2", conn)
	})
}

func TestAPassedSocketIsNotShutDown(t *testing.T) {
	r := newRig(t, true)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	r.a.Passed(fd)
	var st unix.Stat_t
	_ = unix.Fstat(fd, &st)
	one := r.start(1)
	// It gets the socket as it gets any: here by its pidfd, in the other direction.
	got := one.do("socket tcp")
	pidfd, err := unix.PidfdOpen(one.pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	own, err := unix.PidfdGetfd(pidfd, num(got), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(own)
	r.a.Passed(own)
	one.must("ok", "listen %s", got)
	one.must("ok", "shutdown %s 2", got)
	if !listening(own) {
		t.Error("the socket does not listen any more")
	}
}

func TestManyThreadsBindAtOnce(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		free := port.Free(t)
		for n := 1; n <= 2; n++ {
			r.start(n).must("ok", "threads 100 %d", free)
		}
		if n := r.heldSockets(); n != 100 {
			t.Errorf("%d sockets are held, want 100", n)
		}
	})
}

func TestAGrandchildsSocketIsAdopted(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		address := port.Address(t)
		inodes := ""
		for n := 1; n <= 2; n++ {
			p := r.start(n)
			fd := p.do("socket tcp")
			p.must("ok", "set %s %d %d 1", fd, unix.SOL_SOCKET, unix.SO_REUSEADDR)
			got := strings.Fields(p.do("below bind %s %s ; listen %s ; inode %s", fd, address, fd, fd))
			if len(got) != 3 || got[0] != "ok" || got[1] != "ok" || n == 2 && got[2] != inodes {
				t.Errorf("generation %d: %v, before it was %s", n, got, inodes)
				return
			}
			inodes = got[2]
		}
	})
}

func TestASignalDoesNotDisturbABind(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		p := r.start(1)
		p.must("ok", "signals")
		for i := range 50 {
			address := fmt.Sprintf("127.0.0.1:%d", 21500+i)
			p.serve("tcp", address)
		}
	})
}

func TestASocketThatTheNewGenerationDoesNotClaimIsClosed(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		before, after := port.Free(t), port.Free(t)
		one := r.start(1)
		one.serve("tcp", fmt.Sprintf("127.0.0.1:%d", before))
		two := r.start(2)
		two.serve("tcp", fmt.Sprintf("127.0.0.1:%d", after))
		r.a.Generations(0, []int{1, 2}, 2)
		if n := r.heldSockets(); n != 2 {
			t.Errorf("%d sockets are held while both live, want 2", n)
		}
		one.end()
		r.a.Generations(0, []int{2}, 2)
		client := two.do("socket tcp")
		two.must("ok", "connect %s 127.0.0.1:%d", client, after)
		client = two.do("socket tcp")
		two.must("ok", "block %s", client)
		two.must("ECONNREFUSED", "connect %s 127.0.0.1:%d", client, before)
		// Where none serves, the next one shall have it.
		two.end()
		r.a.Generations(0, nil, 0)
		if n := r.heldSockets(); n != 1 {
			t.Errorf("%d sockets are held while none serves, want 1", n)
		}
		r.start(3).serve("tcp", fmt.Sprintf("127.0.0.1:%d", after))
	})
}

func TestAnAppThatFloodsBindIsBounded(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		p := r.start(1)
		if got := p.do("threads %d %d", mostHeld+50, port.Free(t)); got != "ok" {
			t.Fatal(got)
		}
		if n := r.heldSockets(); n != mostHeld {
			t.Errorf("%d sockets are held, want %d", n, mostHeld)
		}
		if len(r.lines()) != 1 {
			t.Errorf("said %q, want one line", r.lines())
		}
		if want := r.a.Sockets(); len(want) != mostHeld {
			t.Errorf("%d sockets are shown, want %d", len(want), mostHeld)
		}
	})
}

func TestACallThatHotinitFailsOfIsTheKernels(t *testing.T) {
	r := newRig(t, true)
	r.at(func(moment string) {
		if moment == "kept" {
			panic("a fault")
		}
	})
	p := r.start(1)
	p.serve("tcp", port.Address(t))
	if len(r.lines()) != 1 {
		t.Errorf("said %q, want one line", r.lines())
	}
}

func TestAGenerationThatGivesUpAnAddressListensOnAllItWants(t *testing.T) {
	bothWays(t, func(t *testing.T, r *rig) {
		r.heard = make(chan Gen, 10)
		kept := port.Address(t)
		one := r.start(1)
		one.serve("tcp", kept)
		one.serve("tcp", port.Address(t))
		two := r.start(2)
		two.serve("tcp", kept)
		if r.a.Listening(Gen{0, 2}, Gen{0, 1}) {
			t.Error("generation 2 counts as listening on all, and has one of two")
		}
		for count := 0; count < 2; { // as it listens, and when nothing more follows
			if n := <-r.heard; n.N == 2 {
				count++
			}
		}
		if !r.a.Listening(Gen{0, 2}, Gen{0, 1}) {
			t.Error("generation 2 does not count as listening on all that it wants")
		}
		three := r.start(3)
		three.serve("tcp", port.Address(t))
		if r.a.Listening(Gen{0, 3}, Gen{0, 2}) {
			t.Error("generation 3 listens on another address at once, and counts as listening on that of 2")
		}
	})
}
