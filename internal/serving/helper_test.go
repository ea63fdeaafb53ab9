package serving

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what has to come.
const patience = time.Minute

// The test binary plays the servers: TestMain runs a role in place of the tests.
func TestMain(m *testing.M) {
	if role := os.Getenv("SERVING_TEST_ROLE"); role != "" {
		play(role)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// play is a server with its listening socket as descriptor 3.
func play(role string) {
	// What blocks does so in a thread that nothing else of Go's runtime uses.
	switch role {
	case "accept":
		ready()
		fd, _, _ := unix.Accept(3)
		hold(fd)
	case "poll", "poll other":
		fd := 3
		if role != "poll" {
			fd = pipe()
		}
		ready()
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(pipe()), Events: unix.POLLIN}, {Fd: int32(fd), Events: unix.POLLIN}}, -1)
		accept()
	case "short polls":
		ready()
		for {
			if n, _ := unix.Poll([]unix.PollFd{{Fd: 3, Events: unix.POLLIN}}, 20); n > 0 {
				accept()
			}
		}
	case "select", "select other":
		fd := 3
		if role != "select" {
			fd = pipe()
		}
		var set unix.FdSet
		set.Set(fd)
		ready()
		_, _ = unix.Select(fd+1, &set, nil, nil, nil)
		accept()
	case "epoll", "nested epoll", "epoll, not waited for":
		ep, _ := unix.EpollCreate1(0)
		_ = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, 3, &unix.EpollEvent{Events: unix.EPOLLIN})
		if role == "nested epoll" {
			outer, _ := unix.EpollCreate1(0)
			_ = unix.EpollCtl(outer, unix.EPOLL_CTL_ADD, ep, &unix.EpollEvent{Events: unix.EPOLLIN})
			ep = outer
		}
		ready()
		if role == "epoll, not waited for" {
			hold(0)
		}
		_, _ = unix.EpollWait(ep, make([]unix.EpollEvent, 1), -1)
		accept()
	case "Go, never accepts":
		l, _ := net.FileListener(os.NewFile(3, "listener"))
		// Go's runtime waits on its epoll set only while something is waited for,
		// as here for an answer on a connection to a database.
		var pair [2]int
		pair, _ = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		go os.NewFile(uintptr(pair[0]), "database").Read(make([]byte, 1))
		kept = l
		ready()
		hold(0)
	case "Go, short connections":
		l, _ := net.FileListener(os.NewFile(3, "listener"))
		ready()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			// A fast app on the loopback: 0.3 ms for an answer.
			buf := make([]byte, 64)
			c.Read(buf)
			for end := time.Now().Add(300 * time.Microsecond); time.Now().Before(end); {
			}
			c.Write([]byte("hello\n"))
			c.Close()
		}
	case "outgoing":
		c, _ := net.Dial("tcp", os.Getenv("SERVING_TEST_PEER"))
		kept = c
		ready()
		hold(0)
	case "io_uring":
		ringAccept(3)
	case "io_uring poll":
		ringPoll(3)
	case "datagram":
		ready()
		_, _, _ = unix.Recvfrom(3, make([]byte, 64), 0)
	case "no descriptors":
		ready()
		_ = unix.CloseRange(0, 1<<20, 0)
		_ = unix.Pause() // Go's runtime has lost its own, too
	case "user":
		// A process that changed its user, and did not execute anything since.
		_ = syscall.Setgroups(nil)
		_ = syscall.Setgid(65534)
		_ = syscall.Setuid(65534)
		ready()
		fd, _, _ := unix.Accept(3)
		hold(fd)
	}
}

func ready() { fmt.Println("ready") }

// hold never returns.
func hold(int) { select {} }

// kept is open as long as the process: nothing collects it.
var kept any

// accept takes a connection and keeps it.
func accept() {
	fd, _, _ := unix.Accept(3)
	hold(fd)
}

// pipe returns a pipe on which nothing ever comes.
func pipe() int {
	var p [2]int
	_ = unix.Pipe2(p[:], 0)
	return p[0]
}

// ringAccept has the kernel accept by io_uring(7), and ringPoll wait for a
// connection so. Both wait in io_uring_enter(2).
func ringAccept(fd int) { ring(ioringOpAccept, fd, 0) }
func ringPoll(fd int)   { ring(ioringOpPollAdd, fd, unix.POLLIN) }

func ring(op byte, fd int, events uint32) {
	params := make([]byte, 120)
	r, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 4, uintptr(unsafe.Pointer(&params[0])), 0)
	if errno != 0 {
		fmt.Println("no io_uring:", errno)
		return
	}
	at := func(i int) uint32 { return *(*uint32)(unsafe.Pointer(&params[i])) }
	rings, err := unix.Mmap(int(r), 0, int(at(40+24)+at(0)*4)+4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		fmt.Println("no io_uring:", err)
		return
	}
	sqes, err := unix.Mmap(int(r), 0x10000000, 64*4, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		fmt.Println("no io_uring:", err)
		return
	}
	sqes[0] = op
	*(*int32)(unsafe.Pointer(&sqes[4])) = int32(fd)
	*(*uint32)(unsafe.Pointer(&sqes[28])) = events
	tail, array := at(40+4), at(40+24)
	*(*uint32)(unsafe.Pointer(&rings[array])) = 0
	*(*uint32)(unsafe.Pointer(&rings[tail]))++
	ready()
	unix.Syscall6(unix.SYS_IO_URING_ENTER, r, 1, 1, 1, 0, 0)
	hold(0)
}

// server is a process that plays a role.
type server struct {
	pid     int
	address string
	fd      int // the listening socket, here
}

// start starts a process with a listening socket, and waits until it is where
// its role leads it, or just about to be.
func start(t *testing.T, role string, env ...string) server {
	t.Helper()
	return startOn(t, listen(t, "tcp", "127.0.0.1:0"), role, env...)
}

func listen(t *testing.T, network, address string) *os.File {
	t.Helper()
	var f *os.File
	var err error
	if network == "udp" {
		c, err2 := net.ListenPacket(network, address)
		if err2 != nil {
			t.Fatal(err2)
		}
		f, err = c.(*net.UDPConn).File()
		c.Close()
	} else {
		l, err2 := net.Listen(network, address)
		if err2 != nil {
			t.Fatal(err2)
		}
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
		f, err = l.(interface{ File() (*os.File, error) }).File()
		l.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Fd() // blocking mode, as hotinit's sockets are in
	t.Cleanup(func() { f.Close() })
	return f
}

func startOn(t *testing.T, f *os.File, role string, env ...string) server {
	t.Helper()
	s := server{fd: int(f.Fd())}
	if sa, err := unix.Getsockname(s.fd); err == nil {
		if in, ok := sa.(*unix.SockaddrInet4); ok {
			s.address = fmt.Sprintf("127.0.0.1:%d", in.Port)
		}
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), "SERVING_TEST_ROLE="+role), env...)
	cmd.ExtraFiles = []*os.File{f}
	cmd.Stderr = os.Stderr
	for _, v := range env {
		if v == "SERVING_TEST_USER=65534" {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, _ := bufio.NewReader(out).ReadString('\n')
	if strings.HasPrefix(line, "no io_uring") {
		t.Skip(line)
	}
	if line != "ready\n" {
		t.Fatalf("%s said %q", role, line)
	}
	s.pid = cmd.Process.Pid
	return s
}

func (s server) candidate() Candidate {
	return Candidate{
		Processes: func() []int { return []int{s.pid} },
		Others:    func() []int { return nil },
		Sockets:   func() []int { return []int{s.fd} },
	}
}

// facts are what an observation reports.
type facts struct {
	t    *testing.T
	c    chan Fact
	over chan struct{} // it has ended
}

func observe(t *testing.T, c Candidate) *facts {
	f := &facts{t: t, c: make(chan Fact, 1000), over: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(f.over)
		c.Observe(done, func(fact Fact) { f.c <- fact })
	}()
	t.Cleanup(func() { close(done); <-f.over })
	return f
}

// next waits for a fact of this kind, and fails at one of the forbidden kinds.
func (f *facts) next(kind Kind, forbidden ...Kind) Fact {
	f.t.Helper()
	late := time.After(patience)
	for {
		select {
		case fact := <-f.c:
			if fact.Kind == kind {
				return fact
			}
			for _, k := range forbidden {
				if fact.Kind == k {
					f.t.Fatalf("reported %+v", fact)
				}
			}
		case <-late:
			f.t.Fatalf("kind %d is not reported", kind)
		}
	}
}

// sockets describes a server's.
func (s server) sockets(t *testing.T) []Socket {
	t.Helper()
	socket, err := Describe(s.fd)
	if err != nil {
		t.Fatal(err)
	}
	return []Socket{socket}
}

// state waits until all threads of the process sleep.
func (s server) settled(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", s.pid))
		running := 0
		for _, task := range tasks {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/syscall", s.pid, task.Name()))
			if err == nil && strings.HasPrefix(string(b), "running") {
				running++
			}
		}
		if len(tasks) > 0 && running == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the process does not settle")
		}
	}
}
