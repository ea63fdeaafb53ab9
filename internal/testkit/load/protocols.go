package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hotinit/hotinit/internal/testkit/websocket"
)

// Protocols. What counts as lost is what docs/draining.md says of each: a server that
// ends may end a connection only in the way that tells its client to come again.
const (
	HTTP1 = "HTTP/1.1"
	// HTTP2 is without TLS. Its client sends again what came behind a GOAWAY, and
	// nothing else.
	HTTP2 = "HTTP/2"
	// WebSocket: each message has to be answered. After a close frame with code
	// 1001 an unanswered one is sent again, on a new connection.
	WebSocket = "WebSocket"
	// Events are sent by the server, with numbers: none may be left out. The stream
	// ends with an event that says so.
	Events = "server-sent events"
)

// An asker is one worker's side of at most one connection.
type asker interface {
	ask() (answer, loss string, err error)
	close()
}

func (o *Options) asker(keep bool) asker {
	switch o.Protocol {
	case HTTP2:
		return newHTTP2(o, keep)
	case WebSocket:
		return &socket{o: o, keep: keep}
	case Events:
		return &events{o: o, keep: keep}
	}
	return &client{o: o, keep: keep}
}

// dial opens a connection to an address, or to the socket file at a path.
func (o *Options) dial(deadline time.Time) (net.Conn, error) {
	network := "tcp"
	if strings.HasPrefix(o.Address, "/") {
		network = "unix"
	}
	return (&net.Dialer{Deadline: deadline}).Dial(network, o.Address)
}

// host is what requests call the server.
func (o *Options) host() string {
	if strings.HasPrefix(o.Address, "/") {
		return "localhost"
	}
	return o.Address
}

type http2 struct {
	o         *Options
	transport *http.Transport
	keep      bool
}

func newHTTP2(o *Options, keep bool) *http2 {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http2{o, &http.Transport{Protocols: protocols,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			c, err := o.dial(time.Now().Add(o.Timeout))
			if err != nil {
				return nil, dialError{err}
			}
			return c, nil
		}}, keep}
}

// A dialError is told from what happens on a connection.
type dialError struct{ error }

func (e dialError) Unwrap() error { return e.error }

func (c *http2) close() { c.transport.CloseIdleConnections() }

func (c *http2) ask() (answer, loss string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.o.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.o.host()+c.o.Path, nil)
	if err != nil {
		return "", Status, err
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		kind := Reset
		if e := (dialError{}); errors.As(err, &e) {
			kind = Refused
		}
		if ctx.Err() != nil {
			kind = Timeout
		}
		return "", classify(err, kind), err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", classify(err, Short), err
	}
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
		return "", Status, fmt.Errorf("answered %s by %s", resp.Status, resp.Proto)
	}
	if !c.keep {
		c.close()
	}
	return strings.TrimSpace(string(body)), "", nil
}

type socket struct {
	o    *Options
	keep bool
	conn *websocket.Conn
}

func (c *socket) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (c *socket) ask() (answer, loss string, err error) {
	return askAgain(c.o, c.keep, c.exchange, c.close)
}

// askAgain asks, on another connection where the server has said that it goes before it
// could answer.
func askAgain(o *Options, keep bool, once func(time.Time) (answer string, away bool, loss string, err error), end func()) (answer, loss string, err error) {
	deadline := time.Now().Add(o.Timeout)
	for {
		away := false
		answer, away, loss, err = once(deadline)
		if err != nil || away || !keep {
			end()
		}
		if !away {
			return answer, loss, err
		}
	}
}

func (c *socket) exchange(deadline time.Time) (answer string, away bool, loss string, err error) {
	if c.conn == nil {
		inner, err := c.o.dial(deadline)
		if err != nil {
			return "", false, classify(err, Refused), err
		}
		inner.SetDeadline(deadline)
		if c.conn, err = websocket.Dial(inner, c.o.host(), c.o.Path); err != nil {
			inner.Close()
			return "", false, classify(err, Reset), fmt.Errorf("a new WebSocket: %w", err)
		}
	}
	c.conn.SetDeadline(deadline)
	// The server may have said that it goes before this: then it reads it no more,
	// and what it said is still there to be read.
	sent := c.conn.Write(websocket.Text, []byte("ping"))
	kind, payload, err := c.conn.Read()
	switch {
	case err != nil:
		return "", false, classify(err, Reset), fmt.Errorf("a WebSocket: %w", errors.Join(err, sent))
	case kind == websocket.Close && websocket.Code(payload) == websocket.GoingAway:
		_ = c.conn.Write(websocket.Close, payload)
		return "", true, "", nil
	case kind != websocket.Text:
		return "", false, Status, fmt.Errorf("a WebSocket: frame %d: %q", kind, payload)
	}
	return strings.TrimSpace(string(payload)), false, "", nil
}

type events struct {
	o    *Options
	keep bool
	last int // the number of the event that came last
	conn net.Conn
	in   *bufio.Reader // the lines of the answer
}

func (c *events) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (c *events) ask() (answer, loss string, err error) {
	return askAgain(c.o, c.keep, c.next, c.close)
}

// next waits for an event, or for the one that says that the stream is over.
func (c *events) next(deadline time.Time) (answer string, over bool, loss string, err error) {
	if c.conn == nil {
		if loss, err := c.open(deadline); err != nil {
			return "", false, loss, err
		}
	}
	c.conn.SetDeadline(deadline)
	event := map[string]string{}
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return "", false, classify(err, Short), fmt.Errorf("a stream of events: %w", err)
		}
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if name == "" {
			break
		}
		event[name] = value
	}
	if event["event"] == "end" {
		return "", true, "", nil
	}
	if c.last++; event["id"] != strconv.Itoa(c.last) {
		return "", false, Short, fmt.Errorf("event %s came, want %d", event["id"], c.last)
	}
	return event["data"], false, "", nil
}

func (c *events) open(deadline time.Time) (loss string, err error) {
	if c.conn, err = c.o.dial(deadline); err != nil {
		c.conn = nil
		return classify(err, Refused), err
	}
	c.conn.SetDeadline(deadline)
	if _, err := fmt.Fprintf(c.conn, "GET %s HTTP/1.1\r\nHost: %s\r\nLast-Event-ID: %d\r\n\r\n", c.o.Path, c.o.host(), c.last); err != nil {
		return classify(err, Reset), err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c.conn), nil)
	if err != nil {
		return classify(err, Reset), err
	}
	if resp.StatusCode != http.StatusOK {
		return Status, fmt.Errorf("answered %s", resp.Status)
	}
	c.in = bufio.NewReader(resp.Body)
	return "", nil
}
