package swap

import (
	"encoding/json"
	"fmt"
	"github.com/hotinit/hotinit/internal/testkit/site"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// given starts hotinit with an application that prints what it was given, and
// returns that. In flags, {} stands for the test's directory.
func given(t *testing.T, flags ...string) (box.Given, *site.Site) {
	t.Helper()
	for i := range flags {
		flags[i] = strings.ReplaceAll(flags[i], "{}", "sockets")
	}
	s := site.Open(t, site.Options{NoPort: true, Flags: flags, App: []string{"-given"},
		Prepare: func(s *site.Site) { s.Write("sockets/here", "") }})
	s.Ends(0)
	text := s.Output.Text()
	var g box.Given
	if err := json.NewDecoder(strings.NewReader(text[strings.Index(text, "{"):])).Decode(&g); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	return g, s
}

// variables compares what the application was told of its sockets.
func variables(t *testing.T, g box.Given, ports, count, names string) {
	t.Helper()
	for name, want := range map[string]string{"SERVER_STARTER_PORT": ports, "LISTEN_FDS": count, "LISTEN_FDNAMES": names} {
		if got := g.Env[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestPortsOfEveryForm(t *testing.T) {
	host := box.Host()
	g, _ := given(t, "--port", host+":18081", "--port", host+":18082=7", "--port", "[::1]:18083", "--port", "localhost:18084", "--port", host+":u18085")
	variables(t, g, fmt.Sprintf("%[1]s:18081=3;%[1]s:18082=7;[::1]:18083=4;localhost:18084=5;%[1]s:18085=6", host), "5", "18081:18083:18084:u18085:18082")
}

func TestTCPAndUDPOnOnePortHaveKeysThatDiffer(t *testing.T) {
	host := box.Host()
	g, _ := given(t, "--port", host+":18080", "--port", host+":u18080")
	variables(t, g, fmt.Sprintf("%[1]s:18080=3;%[1]s:u18080=4", host), "2", "18080:u18080")
}

func TestPort0IsPrintedAndPassedOn(t *testing.T) {
	host := box.Host()
	g, s := given(t, "--port", host+":0")
	port := s.Line(`listening on ` + host + `:(\d+)$`)[1]
	variables(t, g, host+":"+port+"=3", "1", port)
}

func TestUnixSockets(t *testing.T) {
	g, s := given(t, "--path", "{}/stream", "--listen", "unix:{}/dgram,type=dgram", "--listen", "unix:{}/packet,type=seqpacket,name=mine", "--listen", "unix:@hotinit-test-"+t.Name())
	variables(t, g, "sockets/stream=3;sockets/dgram=4;sockets/packet=5;@hotinit-test-"+t.Name()+"=6", "4", "stream:dgram:mine:hotinit-test-"+t.Name())
	entries, _ := os.ReadDir(s.File("sockets"))
	if len(entries) != 1 {
		t.Errorf("socket files are left: %v", entries)
	}
}

func TestVariableAndFlagTakeTheSame(t *testing.T) {
	host := box.Host()
	s := site.Serving(t, site.Options{NoPort: true, Env: []string{"HOTINIT_PORTS=" + host + ":18080," + host + ":u18081"}, Prepare: func(s *site.Site) { s.Address = host + ":18080" }})
	g := s.Given(s.Address)
	variables(t, g, fmt.Sprintf("%[1]s:18080=3;%[1]s:18081=4", host), "2", "18080:u18081")
}

func TestSocketModeOwnerAndGroup(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to give a file away")
	}
	s := site.Serving(t, site.Options{Flags: []string{"--listen", "unix:socket,mode=0640,user=1234,group=4321"}})
	info, err := os.Stat(s.File("socket"))
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	if info.Mode().Perm() != 0o640 || st.Uid != 1234 || st.Gid != 4321 {
		t.Errorf("mode %v, owner %d:%d", info.Mode(), st.Uid, st.Gid)
	}
}

// option returns a socket option of what the application has as a descriptor.
func option(s *site.Site, number, level, name int) int {
	s.T.Helper()
	g := s.Given(s.Address)
	p, ok := s.Find(g.PID)
	if !ok {
		s.T.Fatalf("process %d is gone", g.PID)
	}
	pidfd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		s.T.Fatal(err)
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, number, 0)
	if err != nil {
		s.T.Skipf("cannot look into another process: %v", err)
	}
	defer unix.Close(fd)
	v, err := unix.GetsockoptInt(fd, level, name)
	if err != nil {
		s.T.Fatal(err)
	}
	return v
}

func TestSocketOptions(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--listen", "tcp:[::1]:0,reuseport", "--listen", "tcp:[::]:0,v6only=no", "--listen", "tcp:[::]:0"}})
	for _, o := range []struct{ number, level, name, want int }{
		{3, unix.SOL_SOCKET, unix.SO_REUSEPORT, 0},
		{4, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1},
		{5, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0},
		{6, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1},
	} {
		if got := option(s, o.number, o.level, o.name); got != o.want {
			t.Errorf("descriptor %d: option %d is %d, want %d", o.number, o.name, got, o.want)
		}
	}
}

// Of a listening unix socket the kernel tells, to whoever may wait no more,
// with EAGAIN: connect(2) of a socket that does not block.
func TestBacklog(t *testing.T) {
	s := site.Open(t, site.Options{NoPort: true, Flags: []string{"--backlog", "3", "--path", "socket"}, Script: "echo begun; exec sleep 1000"})
	s.Line("^begun$")
	waiting := 0
	for ; waiting < 20; waiting++ {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: s.File("socket")})
		if err == unix.EAGAIN {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// The kernel takes one more than the backlog.
	if waiting != 4 {
		t.Errorf("%d connections wait, want 4", waiting)
	}
}

func TestAStaleSocketFileIsReplaced(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--path", "socket"}, Prepare: func(s *site.Site) {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrUnix{Name: s.File("socket")})
			unix.Close(fd)
		}
		if err != nil {
			t.Fatal(err)
		}
	}})
	c, err := net.Dial("unix", s.File("socket"))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	s.Stop(0)
}

func TestASocketFileThatIsServedIsRefusedWithItsServer(t *testing.T) {
	s := site.Serving(t, site.Options{Sub: true, Flags: []string{"--path", "socket"}})
	for _, next := range []bool{false, true} {
		if next {
			s.KillHandoff()
			s.Status()
		}
		status, text := s.Hotinit("hotinit", "--path", "socket", "--", s.Path)
		if status != 125 || !strings.Contains(text, "serves it (stop it, or choose another path)") || !strings.Contains(text, "hotinit") {
			t.Errorf("next handoff %v: status %d: %s", next, status, text)
		}
		c, err := net.Dial("unix", s.File("socket"))
		if err != nil {
			t.Fatalf("next handoff %v: %v", next, err)
		}
		c.Close()
	}
}

// The next handoff gets the socket from init. A second one would not show in
// an answer, but in the file's inode and in the socket's.
func TestANextHandoffBindsNothingAgain(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--path", "socket"}})
	before, err := os.Stat(s.File("socket"))
	if err != nil {
		t.Fatal(err)
	}
	sockets := func(generation int) (targets []string) {
		for _, d := range s.GivenTo(s.Address, generation).Descriptors {
			if d.Number >= 3 {
				targets = append(targets, d.Target)
			}
		}
		return targets
	}
	first := sockets(1)
	s.KillHandoff()
	s.Status()
	s.Signal(unix.SIGHUP)
	s.Answers("v1 generation 2 ")
	if after, err := os.Stat(s.File("socket")); err != nil || !os.SameFile(before, after) {
		t.Errorf("the file is another one: %v", err)
	}
	if second := sockets(2); len(first) < 2 || fmt.Sprint(second) != fmt.Sprint(first) {
		t.Errorf("generation 2 has %v, generation 1 had %v", second, first)
	}
	s.Stop(0)
	if _, err := os.Stat(s.File("socket")); err == nil {
		t.Error("the socket file is left")
	}
}

func TestAPortThatIsInUseIsRefused(t *testing.T) {
	s := site.Serving(t, site.Options{})
	for _, port := range []string{s.Address} {
		if status, text := s.Hotinit("hotinit", "--port", port, "--", s.Path); status != 125 || !strings.Contains(text, "cannot listen on "+port) && !strings.Contains(text, "cannot bind "+port) {
			t.Errorf("status %d: %s", status, text)
		}
	}
}

func TestAPortBelow1024IsBoundBeforePrivilegesAreDropped(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	host := box.Host()
	s := site.Serving(t, site.Options{NoPort: true, Flags: []string{"--port", host + ":80", "--user", "65534:65534"}, Prepare: func(s *site.Site) {
		s.Address = host + ":80"
		s.Enter()
	}})
	if g := s.Given(s.Address); g.UID != 65534 {
		t.Errorf("it runs as %d", g.UID)
	}
	s.Stop(0)
}

// A datagram that comes while no generation reads waits in the socket.
func TestUDPSurvivesASwap(t *testing.T) {
	site.Need(t, "perl")
	host := box.Host()
	s := site.Open(t, site.Options{NoPort: true, Flags: []string{"--port", host + ":u9000", "--interval", "0", "--no-watch"}, Command: []string{"perl", "-e", `
		use Socket; $| = 1; open(my $s, "+<&=3") or die; print "begun $ENV{HOTINIT_GENERATION}\n";
		while (my $from = recv($s, my $b, 100, 0)) { send($s, "$ENV{HOTINIT_GENERATION}", 0, $from); }`}})
	s.Line("^begun 1$")
	c, err := net.Dial("udp", host+":9000")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	asks := func(want string) {
		t.Helper()
		b := make([]byte, 16)
		if _, err := c.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(b); err != nil || string(b[:n]) != want {
			t.Errorf("generation %q answers, %v, want %s", b[:n], err, want)
		}
	}
	asks("1")
	s.Signal(unix.SIGHUP)
	s.Line("^begun 2$")
	s.Until("generation 1 is gone", func() bool { return s.Generation(1) == nil })
	asks("2")
}

// A port without an address listens on both families where the kernel has both, and
// what the application is told of it is the port alone, as before.
func TestAPortAloneListensOnIPv4AndIPv6(t *testing.T) {
	if l, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		t.Skip("no IPv6 here:", err)
	} else {
		l.Close()
	}
	s := site.Open(t, site.Options{NoPort: true, Flags: []string{"--port", "0"}})
	port := s.Line(`listening on \[::\]:(\d+)$`)[1]
	s.Box.Answers("127.0.0.1:"+port, "v1 generation 1 ")
	s.Box.Answers("[::1]:"+port, "v1 generation 1 ")
	variables(t, s.Given("[::1]:"+port), port+"=3", "1", port)
	s.Swap("v2")
	s.Box.Answers("[::1]:"+port, "v2 generation 2 ")
	s.Box.Answers("127.0.0.1:"+port, "v2 generation 2 ")
	s.Becomes(2, "current")
	if got := s.Status().Sockets; len(got) != 1 || got[0] != "[::]:"+port {
		t.Errorf("status names %q", got)
	}
	s.Stop(0)
}

func TestStartServerListensOnIPv4Alone(t *testing.T) {
	s := site.Open(t, site.Options{Name: name, NoPort: true, Flags: []string{"--port", "0", "--interval", "0"}})
	port := s.Line(`listening on 0\.0\.0\.0:(\d+)$`)[1]
	s.Box.Answers("127.0.0.1:"+port, "v1 generation 1 ")
	s.Stop(0)
}
