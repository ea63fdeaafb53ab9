package listener

import (
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// connected returns both ends of a connection that a draining server accepted.
func connected(t *testing.T) (server *conn, client *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := &drainer{idle: time.Hour, conns: map[*conn]struct{}{}, empty: make(chan struct{}, 1)}
	d.draining.Store(true)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s, err := accepting{l, d}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s.(*conn), c.(*net.TCPConn)
}

// arrived waits until what the client sent can be read.
func arrived(t *testing.T, c *conn) {
	t.Helper()
	raw := c.raw()
	if raw == nil {
		t.Fatal("no descriptor")
	}
	peek := make([]byte, 1)
	if err := raw.Read(func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), peek, syscall.MSG_PEEK)
		return err != syscall.EAGAIN
	}); err != nil {
		t.Fatal(err)
	}
}

// later is after everything that has happened so far.
func later() time.Time { return time.Now().Add(time.Hour) }

func TestExpiredConnectionWithNothingInItEnds(t *testing.T) {
	s, _ := connected(t)
	s.expire(later())
	if n, err := s.Read(make([]byte, 10)); n != 0 || err != io.EOF {
		t.Errorf("read %d, %v", n, err)
	}
}

func TestPendingReadOfExpiredConnectionEnds(t *testing.T) {
	s, _ := connected(t)
	ended := make(chan error)
	go func() {
		_, err := s.Read(make([]byte, 10))
		ended <- err
	}()
	s.expire(later())
	if err := <-ended; err != io.EOF {
		t.Error(err)
	}
}

func TestRequestThatArrivedBeforeExpiryIsRead(t *testing.T) {
	s, c := connected(t)
	io.WriteString(c, "GET")
	arrived(t, s)
	s.expire(later())
	buffer := make([]byte, 10)
	n, err := s.Read(buffer)
	if string(buffer[:n]) != "GET" || err != nil {
		t.Errorf("read %q, %v", buffer[:n], err)
	}
}

func TestRequestThatArrivedAfterExpiryIsRead(t *testing.T) {
	s, c := connected(t)
	s.expire(later())
	io.WriteString(c, "GET")
	// arrived would fail at the deadline in the past, so poll(2) it is.
	ready := []unix.PollFd{{Fd: int32(descriptor(t, s)), Events: unix.POLLIN}}
	if n, err := unix.Poll(ready, 60_000); n != 1 {
		t.Fatal(n, err)
	}
	buffer := make([]byte, 10)
	n, err := s.Read(buffer)
	if string(buffer[:n]) != "GET" || err != nil {
		t.Errorf("read %q, %v", buffer[:n], err)
	}
}

func TestConnectionIsAliveAgainAfterLateRequest(t *testing.T) {
	s, c := connected(t)
	io.WriteString(c, "GET")
	arrived(t, s)
	s.expire(later())
	buffer := make([]byte, 10)
	s.Read(buffer)
	s.changed(http.StateActive)
	go io.WriteString(c, " / HTTP/1.1")
	n, err := s.Read(buffer)
	if n == 0 || err != nil {
		t.Errorf("read %d, %v: the deadline of the expiry is still there", n, err)
	}
}

func TestConnectionWithRequestInHandDoesNotExpire(t *testing.T) {
	s, _ := connected(t)
	s.changed(http.StateActive)
	s.expire(later())
	if _, waits := s.since(); waits || s.expired {
		t.Error("expired")
	}
}

func TestHTTP2ConnectionDoesNotExpire(t *testing.T) {
	s, _ := connected(t)
	s.speaks(true, true)
	s.changed(http.StateIdle)
	s.expire(later())
	if s.expired {
		t.Error("expired")
	}
}

func TestConnectionThatJustReadSomethingDoesNotExpire(t *testing.T) {
	s, c := connected(t)
	before := time.Now()
	io.WriteString(c, "G")
	s.Read(make([]byte, 1))
	s.expire(before)
	if s.expired {
		t.Error("expired")
	}
}

func TestServersOwnDeadlineStillWorks(t *testing.T) {
	s, _ := connected(t)
	s.SetReadDeadline(time.Unix(1, 0))
	var timeout net.Error
	if _, err := s.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("want a timeout, got %v", err)
	}
}

// The answer must survive that the client has sent more than the server read.
func TestCloseWithSomethingUnreadSendsNoReset(t *testing.T) {
	s, c := connected(t)
	io.WriteString(c, "more than anybody reads")
	arrived(t, s)
	io.WriteString(s, "answer")
	s.Close()
	got, err := io.ReadAll(c)
	if string(got) != "answer" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestRequestThatCrossesTheEndIsCounted(t *testing.T) {
	s, c := connected(t)
	s.expire(later())
	s.Read(make([]byte, 1))
	s.Close()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Fatal(err)
	}
	io.WriteString(c, "GET")
	c.Close()
	<-s.drainer.empty // removed, so its end was read
	if n := s.drainer.crossed.Load(); n != 1 {
		t.Errorf("%d counted", n)
	}
}

func TestDoubleCloseSaysSo(t *testing.T) {
	s, _ := connected(t)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func descriptor(t *testing.T, c *conn) int {
	t.Helper()
	fd := -1
	if err := c.raw().Control(func(f uintptr) { fd = int(f) }); err != nil {
		t.Fatal(err)
	}
	return fd
}
