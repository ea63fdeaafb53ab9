package listener_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/listener"
)

// patience is how long a test waits for something that must happen. Nothing is
// asserted about how long it takes.
const patience = time.Minute

// TestMain lets the test binary play the server: started with PLAY=role it does
// what the role says instead of running tests.
func TestMain(m *testing.M) {
	role := os.Getenv("PLAY")
	if role == "" {
		os.Exit(m.Run())
	}
	play, ok := roles[role]
	if !ok {
		panic("no role " + role)
	}
	if err := play(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var roles = map[string]func() error{
	"serve":     playServe,
	"serve-ctx": playServeContext,
	"describe":  playDescribe,
	"open":      playOpen,
	"names":     playNames,
}

func playServe() error {
	ls, err := listener.ListenAll()
	if err != nil {
		return err
	}
	return listener.Serve(&http.Server{Handler: echo()}, ls...)
}

// playServeContext drains when its standard input ends.
func playServeContext() error {
	ls, err := listener.ListenAll()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return listener.Drain{}.Serve(ctx, &http.Server{Handler: echo()}, ls...)
}

// echo answers with the generation and the request's body.
func echo() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%d %s", listener.Generation(), body)
	})
}

// playDescribe prints what ListenAll and Ports make of the environment.
func playDescribe() error {
	ports, err := listener.Ports()
	if err != nil {
		return err
	}
	fmt.Println(listener.List(ports))
	ls, err := listener.ListenAll()
	if err != nil {
		return err
	}
	for _, l := range ls {
		fmt.Println(l.Addr().Network(), l.Addr())
	}
	conns, err := listener.PacketConns()
	if err != nil {
		return err
	}
	for _, c := range conns {
		fmt.Println(c.LocalAddr().Network(), c.LocalAddr())
	}
	for _, p := range ports {
		flags, err := unix.FcntlInt(p.Fd(), unix.F_GETFL, 0)
		if err != nil {
			return err
		}
		if flags&unix.O_NONBLOCK == 0 {
			fmt.Println("blocking", p)
		}
	}
	return nil
}

// playOpen starts another program after ListenAll, which lists its sockets.
func playOpen() error {
	if _, err := listener.ListenAll(); err != nil {
		return err
	}
	out, err := exec.Command("sh", "-c", "for f in /proc/$$/fd/*; do readlink $f; done; :").Output()
	fmt.Print(string(out))
	return err
}

func playNames() error {
	for _, name := range []string{"web", "dns", "nobody"} {
		ls, err := listener.Named(name)
		fmt.Println(name, len(ls), err)
	}
	conns, err := listener.PacketConns("dns")
	fmt.Println("packets", len(conns), err)
	return nil
}

// socket makes a socket the way a supervisor does: by system calls, so that no
// os.File is there whose Fd method would turn it blocking.
func socket(t *testing.T, kind int) (fd, port int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if kind == unix.SOCK_STREAM {
		if err := unix.Listen(fd, 1024); err != nil {
			t.Fatal(err)
		}
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, address.(*unix.SockaddrInet4).Port
}

func unixSocket(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 16); err != nil {
		t.Fatal(err)
	}
	return fd
}

// program is this test binary in a role, with sockets from descriptor 3 on. The
// shell in front of it knows its own PID and stays the same process.
func program(t *testing.T, role string, env []string, fds ...int) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `[ -z "$OWN" ] || export LISTEN_PID=$$; exec "$0"`, self)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "LISTEN_") && !strings.HasPrefix(v, "SERVER_STARTER") && !strings.HasPrefix(v, "NOTIFY_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(append(cmd.Env, "PLAY="+role), env...)
	for _, fd := range fds {
		// A duplicate, since the os.File closes its own; made of a bare number
		// it leaves O_NONBLOCK alone.
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			t.Fatal(err)
		}
		file := os.NewFile(uintptr(dup), "socket")
		t.Cleanup(func() { file.Close() })
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
	}
	return cmd
}

func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	return string(out)
}

// notices is where servers say that they are ready.
func notices(t *testing.T) (path string, next func() string) {
	t.Helper()
	path = t.TempDir() + "/notify"
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return path, func() string {
		t.Helper()
		conn.SetReadDeadline(time.Now().Add(patience))
		buffer := make([]byte, 4096)
		n, err := conn.Read(buffer)
		if err != nil {
			t.Fatalf("no notice came: %v", err)
		}
		return string(buffer[:n])
	}
}

// start starts a server and waits until it is ready.
func start(t *testing.T, role string, generation int, fd, port int, notify string, next func() string) *exec.Cmd {
	t.Helper()
	cmd := program(t, role, []string{
		"SERVER_STARTER_PORT=127.0.0.1:" + strconv.Itoa(port) + "=3",
		"HOTINIT_GENERATION=" + strconv.Itoa(generation),
		"NOTIFY_SOCKET=" + notify,
	}, fd)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	for next() != "READY=1" {
		// STOPPING=1 of the generation before.
	}
	return cmd
}

// client is an HTTP/1.1 connection that shows what really happens on it:
// net/http's own client hides closed connections by sending again.
type client struct {
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return &client{conn, bufio.NewReader(conn)}
}

func (c *client) send(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// answer reads one answer.
func (c *client) answer(t *testing.T) (body string, closes bool) {
	t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("half an answer: %v", err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", resp.Status, text)
	}
	return string(text), resp.Close
}

// end reads until the server's end, which must be an orderly one.
func (c *client) end(t *testing.T) {
	t.Helper()
	if rest, err := io.ReadAll(c.r); err != nil || len(rest) > 0 {
		t.Fatalf("want the end of the connection, got %q, %v", rest, err)
	}
}

const get = "GET / HTTP/1.1\r\nHost: test\r\n\r\n"
