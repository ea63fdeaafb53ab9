package listener_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tally counts what became of requests, by class.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
	done   atomic.Int64
}

func (c *tally) add(err error) {
	c.done.Add(1)
	var netErr net.Error
	class := "answered"
	switch {
	case err == nil:
	case errors.Is(err, syscall.ECONNREFUSED):
		class = "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		class = "reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		class = "ended early"
	case errors.As(err, &netErr) && netErr.Timeout():
		class = "timed out"
	default:
		class = err.Error()
	}
	c.mu.Lock()
	c.counts[class]++
	c.mu.Unlock()
}

func (c *tally) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprint(c.counts)
}

// exchange sends one request and reads its answer. Every third one has a body.
func exchange(conn net.Conn, r *bufio.Reader, n int) (closes bool, err error) {
	conn.SetDeadline(time.Now().Add(patience))
	body := ""
	method := "GET"
	if n%3 == 0 {
		method, body = "POST", strings.Repeat("x", n%4096)
	}
	if _, err := fmt.Fprintf(conn, "%s / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%s", method, len(body), body); err != nil {
		return true, err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return true, err
	}
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return true, err
	case resp.StatusCode != http.StatusOK:
		return true, errors.New("answered by " + resp.Status)
	case !strings.HasSuffix(string(text), " "+body):
		return true, errors.New("answered with another body")
	}
	return resp.Close, nil
}

// fresh makes a connection for each request.
func fresh(addr string, n int) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = exchange(conn, bufio.NewReader(conn), n)
	return err
}

// kept uses connections again until the server says that it closes them. It
// holds several and takes them in turn, so that most of them are idle at any
// time.
type kept struct {
	addr  string
	conns [8]net.Conn
	bufs  [8]*bufio.Reader
}

func (k *kept) request(n int) error {
	i := n % len(k.conns)
	if k.conns[i] == nil {
		conn, err := net.Dial("tcp", k.addr)
		if err != nil {
			return err
		}
		k.conns[i], k.bufs[i] = conn, bufio.NewReader(conn)
	}
	closes, err := exchange(k.conns[i], k.bufs[i], n)
	if closes {
		k.conns[i].Close()
		k.conns[i] = nil
	}
	return err
}

func (k *kept) close() {
	for _, c := range k.conns {
		if c != nil {
			c.Close()
		}
	}
}

// A supervisor's socket is served by one process after the other, each started
// before the last is told to go.
func TestSwapsOfRealProcessesLoseNoRequest(t *testing.T) {
	swaps := 20
	if testing.Short() {
		swaps = 3
	}
	// Each swap happens among this many requests, and no client sends more than
	// that allows for.
	const between, clients = 80, 3

	fd, port := socket(t, unix.SOCK_STREAM)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	notify, next := notices(t)
	current := start(t, "serve", 1, fd, port, notify, next)

	tallies := map[string]*tally{"new connections": {counts: map[string]int{}}, "kept connections": {counts: map[string]int{}}}
	stop := make(chan struct{})
	progress := make(chan struct{}, 1)
	var running sync.WaitGroup
	run := func(tl *tally, request func(n int) error, close func()) {
		running.Go(func() {
			defer close()
			for n := 1; n < 1_000_000; n++ {
				select {
				case <-stop:
					return
				default:
				}
				tl.add(request(n))
				select {
				case progress <- struct{}{}:
				default:
				}
			}
		})
	}
	for range clients {
		run(tallies["new connections"], func(n int) error { return fresh(addr, n) }, func() {})
		k := &kept{addr: addr}
		run(tallies["kept connections"], k.request, k.close)
	}
	more := func() {
		t.Helper()
		deadline := time.After(patience)
		for _, tl := range tallies {
			for want := tl.done.Load() + between; tl.done.Load() < want; {
				select {
				case <-progress:
				case <-deadline:
					t.Fatalf("the clients got stuck: %v", tl)
				}
			}
		}
	}

	more()
	for generation := 2; generation <= swaps+1; generation++ {
		successor := start(t, "serve", generation, fd, port, notify, next)
		if err := current.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		more()
		if err := current.Wait(); err != nil {
			t.Errorf("generation %d: %v", generation-1, err)
		}
		current = successor
	}
	close(stop)
	running.Wait()
	current.Process.Signal(syscall.SIGTERM)
	if err := current.Wait(); err != nil {
		t.Error(err)
	}
	for kind, tl := range tallies {
		t.Logf("%s: %v", kind, tl.counts)
		if got := tl.counts["answered"]; int64(got) != tl.done.Load() {
			t.Errorf("%s: %d of %d requests answered: %v", kind, got, tl.done.Load(), tl.counts)
		}
	}
}

func TestSIGTERMWhileDrainingDropsNothing(t *testing.T) {
	fd, port := socket(t, unix.SOCK_STREAM)
	notify, next := notices(t)
	cmd := start(t, "serve", 1, fd, port, notify, next)

	c := dial(t, fmt.Sprintf("127.0.0.1:%d", port))
	c.send(t, get)
	c.answer(t)
	cmd.Process.Signal(syscall.SIGTERM)
	if notice := next(); notice != "STOPPING=1" {
		t.Fatalf("told %q", notice)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	c.send(t, get)
	if _, closes := c.answer(t); !closes {
		t.Error("the answer does not say that the connection ends")
	}
	c.end(t)
	c.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestSecondSIGINTEndsAtOnce(t *testing.T) {
	fd, port := socket(t, unix.SOCK_STREAM)
	notify, next := notices(t)
	cmd := start(t, "serve", 1, fd, port, notify, next)

	dial(t, fmt.Sprintf("127.0.0.1:%d", port)).send(t, "GET / HT")
	cmd.Process.Signal(syscall.SIGINT)
	if notice := next(); notice != "STOPPING=1" {
		t.Fatalf("told %q", notice)
	}
	cmd.Process.Signal(syscall.SIGINT)
	cmd.Wait()
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !status.Signaled() || status.Signal() != syscall.SIGINT {
		t.Errorf("ended by %v", cmd.ProcessState)
	}
}

func TestEndOfContextDrains(t *testing.T) {
	fd, port := socket(t, unix.SOCK_STREAM)
	notify, next := notices(t)
	input, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := program(t, "serve-ctx", []string{fmt.Sprintf("SERVER_STARTER_PORT=127.0.0.1:%d=3", port), "NOTIFY_SOCKET=" + notify}, fd)
	cmd.Stdin = input
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	input.Close()
	if notice := next(); notice != "READY=1" {
		t.Fatalf("told %q", notice)
	}
	hold.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
