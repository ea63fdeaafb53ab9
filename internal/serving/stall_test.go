package serving

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// each runs a test on a listening socket of each family.
func each(t *testing.T, f func(t *testing.T, l *os.File, dial func() net.Conn)) {
	for _, c := range []struct{ name, network, address string }{
		{"IPv4", "tcp4", "127.0.0.1:0"},
		{"IPv6", "tcp6", "[::1]:0"},
		{"both", "tcp", "[::]:0"},
		{"unix", "unix", "app.sock"},
		{"abstract", "unix", "@hotinit-serving-test"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "unix" {
				c.address = filepath.Join(t.TempDir(), c.address)
			}
			l := listen(t, c.network, c.address)
			fl, err := net.FileListener(l)
			if err != nil {
				t.Fatal(err)
			}
			at := fl.Addr()
			if u, ok := fl.(*net.UnixListener); ok {
				u.SetUnlinkOnClose(false)
			}
			fl.Close()
			_ = l.Fd()
			f(t, l, func() net.Conn {
				t.Helper()
				network, address := at.Network(), at.String()
				if c.name == "both" { // to which IPv4 clients come, too
					_, port, _ := net.SplitHostPort(address)
					network, address = "tcp4", "127.0.0.1:"+port
				}
				conn, err := net.Dial(network, address)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
				return conn
			})
		})
	}
}

func acceptOn(t *testing.T, l *os.File) (inode uint64) {
	t.Helper()
	fd, _, err := unix.Accept4(int(l.Fd()), unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestAQueueIsCounted(t *testing.T) {
	each(t, func(t *testing.T, l *os.File, dial func() net.Conn) {
		s, err := Describe(int(l.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		queue := func(want int) []uint64 {
			t.Helper()
			n, err := s.Queue()
			names, err2 := s.Waiting()
			if err != nil || err2 != nil || n != want || len(names) != want {
				t.Errorf("%d wait (%v), named %v (%v), want %d", n, err, names, err2, want)
			}
			return names
		}
		queue(0)
		dial()
		first := queue(1)
		dial()
		dial()
		if three := queue(3); !all(first, three) {
			t.Errorf("%v is not among %v", first, three)
		}
		inode := acceptOn(t, l)
		if two := queue(2); slices.Contains(two, first[0]) {
			t.Errorf("%v is accepted, and waits: %v", first, two)
		}
		// The one that was accepted is known by its inode.
		for _, list := range []func(uint32) ([]connection, error){s.connections, func(states uint32) ([]connection, error) {
			return procConnections(s.Family, states)
		}} {
			c, err := list(heldStates)
			if err != nil || !slices.ContainsFunc(c, func(c connection) bool { return c.inode == inode && s.accepts(&c) }) {
				t.Errorf("inode %d is not in %+v (%v)", inode, c, err)
			}
		}
	})
}

func TestConnectionsThatNobodyAccepts(t *testing.T) {
	each(t, func(t *testing.T, l *os.File, dial func() net.Conn) {
		const timeout = 50 * time.Millisecond
		stalls, over := make(chan Stall, 10), make(chan bool, 10)
		began := time.Now()
		q, err := WatchQueues(func() []int { return []int{int(l.Fd())} }, timeout, func(s Stall) { stalls <- s }, func() { over <- true })
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		for range 3 {
			dial()
		}
		s := await(t, stalls)
		if took := time.Since(began); s.Waiting < 1 || s.For < timeout || took < timeout {
			t.Errorf("%+v after %v", s, took)
		}
		if now := q.Now(); now.Waiting < 1 || now.For < s.For {
			t.Errorf("%+v, then %+v", s, now)
		}
		for range 3 {
			acceptOn(t, l)
		}
		await(t, over)
		if now := q.Now(); now != (Stall{}) {
			t.Errorf("%+v", now)
		}
		dial()
		await(t, stalls)
		if len(over) > 0 {
			t.Error("over twice")
		}
	})
}

func await[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatal("it does not come")
	}
	return v
}

// An app that is slower than its clients accepts one after the other: that its
// queue is never empty is no stall.
func TestAQueueThatIsNeverEmptyIsNoStall(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	s := server{fd: int(l.Fd())}
	socket := s.sockets(t)[0]
	stalls := make(chan Stall, 10)
	q, err := WatchQueues(func() []int { return []int{s.fd} }, 50*time.Millisecond, func(s Stall) { stalls <- s }, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	address := net.JoinHostPort("127.0.0.1", itoa(int(socket.port)))
	dial := func() {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	dial()
	for range 50 {
		dial()
		time.Sleep(5 * time.Millisecond) // an app's work
		acceptOn(t, l)
	}
	if n, _ := socket.Queue(); n == 0 {
		t.Fatal("the queue was empty")
	}
	if len(stalls) > 0 {
		t.Errorf("%+v", <-stalls)
	}
}

// What another generation left waiting is not the new one's.
func TestChangedBeginsAnew(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	s := server{fd: int(l.Fd())}
	address := net.JoinHostPort("127.0.0.1", itoa(int(s.sockets(t)[0].port)))
	stalls, over := make(chan Stall, 10), make(chan bool, 10)
	const timeout = 50 * time.Millisecond
	q, err := WatchQueues(func() []int { return []int{s.fd} }, timeout, func(s Stall) { stalls <- s }, func() { over <- true })
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	await(t, stalls)
	began := time.Now()
	q.Changed()
	await(t, over)
	if await(t, stalls); time.Since(began) < timeout {
		t.Errorf("after %v", time.Since(began))
	}
}

// Nothing happens while no connection waits: neither a thread nor a timer.
func TestNobodyIsWokenUpWhileNoConnectionWaits(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	a, err := newArrivals(unix.EPOLLONESHOT)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	a.watch(server{fd: int(l.Fd())}.sockets(t))
	if n := len(a.wait(20)); n != 0 {
		t.Errorf("%d sockets", n)
	}
	address := net.JoinHostPort("127.0.0.1", itoa(int(server{fd: int(l.Fd())}.sockets(t)[0].port)))
	for range 3 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if n := len(a.wait(1000)); n != 1 {
		t.Errorf("%d sockets, want the one", n)
	}
	if n := len(a.wait(20)); n != 0 {
		t.Error("it comes again, and was not rearmed")
	}
}
