package listener

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
)

// lingerTime bounds how long a connection that was shut for writing waits for
// the client's end.
const lingerTime = time.Second

// accepting is a listener whose connections the drainer knows.
type accepting struct {
	net.Listener
	drainer *drainer
}

func (a accepting) Accept() (net.Conn, error) {
	inner, err := a.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: inner, drainer: a.drainer, state: http.StateNew, last: time.Now()}
	a.drainer.add(c)
	return c, nil
}

// conn is a connection that can be closed when nothing has arrived on it, and
// not otherwise.
//
// Before the drain it only passes calls on. During the drain the time of the
// last thing that happened is kept, and expire ends the pending Read of a
// connection on which nothing happened for too long. The decision whether the
// connection ends is Read's: it looks into the socket once more, and a request
// that did come is served after all.
type conn struct {
	net.Conn
	drainer *drainer
	once    sync.Once

	mu       sync.Mutex
	state    http.ConnState
	http2    bool      // GOAWAY ends it, not expire
	secured  bool      // TLS: what comes after our end is mostly the client's alert
	last     time.Time // when something happened; exact only during the drain
	deadline time.Time // what the server asked for as its deadline for reading
	expired  bool      // the next Read that finds nothing ends the connection
}

// Read ends with io.EOF if the connection has expired and nothing is there.
func (c *conn) Read(p []byte) (int, error) {
	if !c.drainer.draining.Load() {
		n, err := c.Conn.Read(p)
		if c.drainer.draining.Load() {
			return c.settle(p, n, err)
		}
		return n, err
	}
	c.mu.Lock()
	expired := c.expired
	c.mu.Unlock()
	if expired {
		return c.settle(p, 0, os.ErrDeadlineExceeded)
	}
	n, err := c.Conn.Read(p)
	return c.settle(p, n, err)
}

// settle is what Read does after a read during the drain. All of it is under
// the mutex that expire takes, so either expire sees that something came, or
// this sees that the connection has expired.
func (c *conn) settle(p []byte, n int, err error) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n == 0 && c.expired && errors.Is(err, os.ErrDeadlineExceeded) {
		n = c.lastLook(p)
		if n == 0 {
			return 0, io.EOF
		}
		err = nil
	}
	if n > 0 {
		c.last = time.Now()
		if c.expired {
			c.expired = false
			if e := c.Conn.SetReadDeadline(c.deadline); e != nil && err == nil {
				err = e
			}
		}
	}
	return n, err
}

// lastLook reads without waiting. A deadline cannot do this: once it has
// passed, the net package does not even ask the kernel, and what arrived in the
// last instant would be lost.
func (c *conn) lastLook(p []byte) int {
	raw := c.raw()
	if raw == nil || c.Conn.SetReadDeadline(time.Time{}) != nil {
		return 0
	}
	n := 0
	if err := raw.Read(func(fd uintptr) bool {
		for {
			got, err := syscall.Read(int(fd), p)
			if err == syscall.EINTR {
				continue
			}
			n = max(got, 0)
			return true
		}
	}); err != nil {
		return 0
	}
	return n
}

func (c *conn) raw() syscall.RawConn {
	inner, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := inner.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// expire tells the connection to end if it has been waiting since before the
// given time. Else, or if it is not waiting for a request, it says so.
func (c *conn) expire(before time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.waiting() || c.expired || c.last.After(before) {
		return
	}
	c.expired = true
	// Wakes a pending Read; one that begins later sees expired. An error means
	// that the connection is closed already.
	_ = c.Conn.SetReadDeadline(time.Unix(1, 0))
}

// waiting: no request is being answered. The mutex is held.
func (c *conn) waiting() bool {
	return !c.http2 && (c.state == http.StateNew || c.state == http.StateIdle)
}

// since is when the connection began to wait, if it does.
func (c *conn) since() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last, c.waiting() && !c.expired
}

// changed records what the server says of the connection.
func (c *conn) changed(state http.ConnState) {
	c.mu.Lock()
	c.state = state
	c.last = time.Now()
	c.mu.Unlock()
}

func (c *conn) speaks(tls, http2 bool) {
	c.mu.Lock()
	c.secured = c.secured || tls
	c.http2 = c.http2 || http2
	c.mu.Unlock()
}

func (c *conn) isHTTP2() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.http2
}

// SetReadDeadline remembers the deadline for when expire's is taken back.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// Close closes the connection; during the drain in an orderly way. close(2) on
// a socket with something unread in it, or to which something comes afterwards,
// makes the kernel send a reset, and a reset destroys even the answer that the
// client has received and not yet read. So the connection is first shut for
// writing and then read until the client's end. RFC 9112, section 9.6.
func (c *conn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		if !c.drainer.draining.Load() || c.CloseWrite() != nil {
			err = c.Conn.Close()
			c.drainer.remove(c)
			return
		}
		err = nil
		go c.linger()
	})
	return err
}

func (c *conn) linger() {
	defer c.drainer.remove(c)
	defer c.Conn.Close()
	c.mu.Lock()
	crossing := c.expired && !c.secured
	c.mu.Unlock()
	if c.Conn.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	buffer := make([]byte, 4096)
	for {
		n, err := c.Conn.Read(buffer)
		if n > 0 && crossing {
			c.drainer.crossed.Add(1)
			crossing = false
		}
		if err != nil {
			return
		}
	}
}

// CloseWrite shuts the connection for writing, which the server itself does
// after a request that it did not read to its end.
func (c *conn) CloseWrite() error {
	inner, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return inner.CloseWrite()
}

// ReadFrom lets the server use sendfile(2) and splice(2) as it does with a
// connection of the net package.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	if inner, ok := c.Conn.(io.ReaderFrom); ok {
		return inner.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}

// NetConn is the connection as the listener accepted it, for handlers that
// hijack it and want more than net.Conn has.
func (c *conn) NetConn() net.Conn { return c.Conn }
