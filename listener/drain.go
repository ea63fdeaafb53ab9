package listener

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// DefaultIdle is [Drain.Idle] where that is zero. With the second for the
// client's end after it, and with short requests, a server has drained well
// inside of hotinit's --stop-timeout (9 s, which is below the 10 s of docker
// stop) and of its --drain-timeout (60 s).
const DefaultIdle = 5 * time.Second

// Serve serves HTTP on the listeners until SIGTERM or SIGINT, tells hotinit
// that the server is ready, and then drains as the package's documentation says.
// It returns nil after a complete drain. SIGTERM again changes nothing; SIGINT
// again ends the process at once, as one expects of Ctrl-C.
//
// The server is Serve's from then on: its Handler, ConnState and ConnContext
// are wrapped. As with [net/http.Server.Shutdown], hijacked connections
// (WebSockets) are not waited for. For TLS use [Drain.ServeTLS], not a listener
// of the package tls: in that, nobody can see whether something has arrived.
func Serve(srv *http.Server, listeners ...net.Listener) error {
	return Drain{}.Serve(context.Background(), srv, listeners...)
}

// Drain says how to drain, where [Serve] does not fit.
type Drain struct {
	// Idle is for how long nothing must have happened on a connection before
	// the draining server closes it. Zero is DefaultIdle. The longer it is, the
	// more clients get to learn by an answer that the connection ends; it must
	// be a good deal shorter than hotinit's --stop-timeout.
	Idle time.Duration

	// OnDrain, if set, is called when the drain begins: the place to end what
	// would go on for ever, such as event streams and WebSockets. The drain
	// does not wait for it.
	OnDrain func()
}

// Serve is like the function [Serve]; the drain begins with SIGTERM, SIGINT or
// the end of the context.
func (d Drain) Serve(ctx context.Context, srv *http.Server, listeners ...net.Listener) error {
	return d.run(ctx, srv, srv.Serve, listeners)
}

// ServeTLS is like Serve, with TLS as srv.TLSConfig has it (which must have a
// certificate), and so with HTTP/2.
func (d Drain) ServeTLS(ctx context.Context, srv *http.Server, listeners ...net.Listener) error {
	return d.run(ctx, srv, func(l net.Listener) error { return srv.ServeTLS(l, "", "") }, listeners)
}

func (d Drain) run(ctx context.Context, srv *http.Server, serve func(net.Listener) error, listeners []net.Listener) error {
	if len(listeners) == 0 {
		return fmt.Errorf("cannot serve: %w", ErrNoListeningTarget)
	}
	dr := &drainer{idle: d.Idle, conns: map[*conn]struct{}{}, empty: make(chan struct{}, 1)}
	if dr.idle <= 0 {
		dr.idle = DefaultIdle
	}
	dr.wrap(srv)

	stop, forget := asked(ctx)

	ended := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { ended <- serve(accepting{l, dr}) }()
	}
	logf := log.Printf
	if srv.ErrorLog != nil {
		logf = srv.ErrorLog.Printf
	}
	if err := Ready(); err != nil {
		// Not fatal: whether a silent server counts as ready is hotinit's
		// decision (--ready).
		logf("listener: %v", err)
	}

	select {
	case err := <-ended:
		forget()
		if errors.Is(err, http.ErrServerClosed) {
			return err // somebody called Shutdown or Close, and waits for it
		}
		srv.Close()
		return fmt.Errorf("cannot go on serving: %w", err)
	case <-stop:
	}

	dr.begin()
	if err := Stopping(); err != nil {
		logf("listener: %v", err)
	}
	if d.OnDrain != nil {
		go d.OnDrain()
	}
	for _, l := range listeners {
		l.Close()
	}
	// A connection may have been accepted just before its listener was closed.
	// Once the loops have ended, all of them are known.
	for range listeners {
		<-ended
	}
	dr.wait()
	// What is left is HTTP/2, for which Shutdown does the right thing: GOAWAY,
	// then it waits. Before this point it would drop requests of HTTP/1.
	if err := srv.Shutdown(context.Background()); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("cannot end the server in order: %w", err)
	}
	if n := dr.crossed.Load(); n > 0 {
		logf("listener: %d idle connections were closed while a request was on its way; it was not read, and the client can send it again", n)
	}
	return nil
}

// asked returns a channel that is closed when the server is asked to end, and
// a function that gives the signals back. After a drain they are not given
// back: what the program still does before it ends is safe from a second
// SIGTERM too.
func asked(ctx context.Context) (<-chan struct{}, func()) {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	interrupt := make(chan os.Signal, 1)
	// A shell starts background jobs with SIGINT ignored; that should stay.
	if !signal.Ignored(syscall.SIGINT) {
		signal.Notify(interrupt, syscall.SIGINT)
	}
	stop := make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(stop)
		// From the first one on, SIGINT has its own effect again. SIGTERM has
		// not: hotinit tells all generations to go when it ends, also those
		// that are draining already, and they must not drop what they hold.
		defer signal.Stop(interrupt)
		select {
		case <-ctx.Done():
		case <-term:
		case <-interrupt:
		case <-over:
		}
	}()
	return stop, func() { close(over); signal.Stop(term) }
}

// drainer knows the connections of one server.
type drainer struct {
	idle     time.Duration
	draining atomic.Bool
	crossed  atomic.Int64 // requests that met the end of an idle connection

	mu    sync.Mutex
	conns map[*conn]struct{}
	empty chan struct{} // a token when the last connection of HTTP/1 went
}

func (d *drainer) add(c *conn) {
	d.mu.Lock()
	d.conns[c] = struct{}{}
	d.mu.Unlock()
}

func (d *drainer) remove(c *conn) {
	d.mu.Lock()
	delete(d.conns, c)
	d.mu.Unlock()
	d.wake()
}

func (d *drainer) wake() {
	if !d.draining.Load() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		if !c.isHTTP2() {
			return
		}
	}
	select {
	case d.empty <- struct{}{}:
	default:
	}
}

type connKey struct{}

// wrap makes the server tell of its connections, and answer with
// "Connection: close" during the drain.
//
// SetKeepAlivesEnabled(false) is not for this: it begins by closing the
// connections that it takes to be idle.
func (d *drainer) wrap(srv *http.Server) {
	handler := srv.Handler
	if handler == nil {
		handler = http.DefaultServeMux
	}
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor >= 2 {
			if c, ok := r.Context().Value(connKey{}).(*conn); ok {
				c.speaks(r.TLS != nil, true)
			}
		}
		if full, ok := w.(writer); ok {
			a := &answer{writer: full, draining: &d.draining}
			handler.ServeHTTP(a, r)
			a.begin()
			return
		}
		if d.draining.Load() {
			sayClose(w.Header())
		}
		handler.ServeHTTP(w, r)
	})

	report := srv.ConnState
	srv.ConnState = func(nc net.Conn, state http.ConnState) {
		if c := known(nc); c != nil {
			t, secured := nc.(*tls.Conn)
			// Before the handshake is over, asking would wait for its end.
			shaken := state == http.StateActive || state == http.StateIdle
			c.speaks(secured, secured && shaken && t.ConnectionState().NegotiatedProtocol == "h2")
			c.changed(state)
			if state == http.StateHijacked {
				d.remove(c)
			} else {
				d.wake()
			}
		}
		if report != nil {
			report(nc, state)
		}
	}

	base := srv.ConnContext
	srv.ConnContext = func(ctx context.Context, nc net.Conn) context.Context {
		if base != nil {
			ctx = base(ctx, nc)
		}
		return context.WithValue(ctx, connKey{}, known(nc))
	}
}

// known finds our own connection under what was put around it, such as TLS.
func known(nc net.Conn) *conn {
	for nc != nil {
		if c, ok := nc.(*conn); ok {
			return c
		}
		outer, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		nc = outer.NetConn()
	}
	return nil
}

func (d *drainer) begin() {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		c.mu.Lock()
		c.last = now
		c.mu.Unlock()
	}
	d.draining.Store(true)
}

// wait returns when no connection of HTTP/1 is left.
func (d *drainer) wait() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	// The accept loops have ended. While they had not, the last connection may
	// have gone and another been accepted: what was noted then is not true any
	// more, and Shutdown would drop the request of that one.
	select {
	case <-d.empty:
	default:
	}
	d.wake()
	for {
		select {
		case <-d.empty:
			return
		case <-timer.C:
			timer.Reset(time.Until(d.expire()))
		}
	}
}

// expire ends the connections on which nothing happened for too long, and says
// when to look again. A connection that begins to wait later than now is due
// later than that, so the timer is the only thing that needs to be watched.
func (d *drainer) expire() time.Time {
	now := time.Now()
	next := now.Add(d.idle)
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		last, waits := c.since()
		if !waits {
			continue
		}
		if due := last.Add(d.idle); due.After(now) {
			if due.Before(next) {
				next = due
			}
			continue
		}
		c.expire(now.Add(-d.idle))
	}
	return next
}
