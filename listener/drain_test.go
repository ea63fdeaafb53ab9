package listener_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hotinit/hotinit/listener"
)

// serving is a server in this process.
type serving struct {
	addr     string
	drain    func()        // begins the drain
	draining chan struct{} // the drain has begun
	err      chan error    // what Serve returned
	log      *bytes.Buffer // complete once Serve has returned
}

func serve(t *testing.T, idle time.Duration, handler http.Handler) *serving {
	t.Helper()
	return serveWith(t, idle, &http.Server{Handler: handler}, listener.Drain.Serve)
}

func serveWith(t *testing.T, idle time.Duration, srv *http.Server, method func(listener.Drain, context.Context, *http.Server, ...net.Listener) error) *serving {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &serving{l.Addr().String(), cancel, make(chan struct{}), make(chan error, 1), &bytes.Buffer{}}
	srv.ErrorLog = log.New(s.log, "", 0)
	d := listener.Drain{Idle: idle, OnDrain: func() { close(s.draining) }}
	go func() { s.err <- method(d, ctx, srv, l) }()
	t.Cleanup(cancel)
	return s
}

// begin begins the drain and returns when it has begun.
func (s *serving) begin() {
	s.drain()
	<-s.draining
}

func (s *serving) wait(t *testing.T) {
	t.Helper()
	select {
	case err := <-s.err:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the drain does not end")
	}
}

func TestIdleConnectionGetsOneMoreAnswerThatSaysClose(t *testing.T) {
	s := serve(t, time.Hour, echo())
	c := dial(t, s.addr)
	c.send(t, get)
	if _, closes := c.answer(t); closes {
		t.Fatal("closes before the drain")
	}
	s.begin()
	c.send(t, get)
	if _, closes := c.answer(t); !closes {
		t.Error("the answer does not say close")
	}
	c.end(t)
	c.Close()
	s.wait(t)
}

func TestConnectionThatHasSentNothingYetIsServed(t *testing.T) {
	accepted := make(chan struct{}, 1)
	srv := &http.Server{Handler: echo(), ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			accepted <- struct{}{}
		}
	}}
	s := serveWith(t, time.Hour, srv, listener.Drain.Serve)
	c := dial(t, s.addr)
	<-accepted
	s.begin()
	c.send(t, get)
	if _, closes := c.answer(t); !closes {
		t.Error("the answer does not say close")
	}
	c.Close()
	s.wait(t)
}

func TestRequestInHandIsFinished(t *testing.T) {
	entered, finish := make(chan struct{}), make(chan struct{})
	s := serve(t, time.Hour, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-finish
		io.WriteString(w, "done")
	}))
	c := dial(t, s.addr)
	c.send(t, get)
	<-entered
	s.begin()
	close(finish)
	body, closes := c.answer(t)
	if body != "done" || !closes {
		t.Errorf("%q, closes: %v", body, closes)
	}
	c.Close()
	s.wait(t)
}

func TestAnswerThatHadBegunIsFinishedAndTheNextOneCloses(t *testing.T) {
	entered, finish := make(chan struct{}), make(chan struct{})
	first := true
	s := serve(t, time.Hour, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !first {
			return
		}
		first = false
		io.WriteString(w, "half ")
		w.(http.Flusher).Flush()
		close(entered)
		<-finish
		io.WriteString(w, "and half")
	}))
	c := dial(t, s.addr)
	c.send(t, get)
	<-entered
	s.begin()
	close(finish)
	if body, closes := c.answer(t); body != "half and half" || closes {
		t.Errorf("%q, closes: %v", body, closes)
	}
	c.send(t, get)
	if _, closes := c.answer(t); !closes {
		t.Error("the second answer does not say close")
	}
	c.Close()
	s.wait(t)
}

func TestSilentConnectionEndsInOrder(t *testing.T) {
	s := serve(t, time.Millisecond, echo())
	silent, used := dial(t, s.addr), dial(t, s.addr)
	used.send(t, get)
	used.answer(t)
	s.drain()
	silent.end(t)
	used.end(t)
	silent.Close()
	used.Close()
	s.wait(t)
}

func TestUnreadBodyDoesNotDestroyTheAnswer(t *testing.T) {
	s := serve(t, time.Hour, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "no need") }))
	c := dial(t, s.addr)
	c.send(t, get)
	c.answer(t)
	s.begin()
	body := strings.Repeat("x", 100_000)
	c.send(t, "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n"+body+get)
	if text, _ := c.answer(t); text != "no need" {
		t.Errorf("%q", text)
	}
	c.end(t)
	c.Close()
	s.wait(t)
}

func TestConnectionHeaderOfTheHandlerIsKept(t *testing.T) {
	s := serve(t, time.Hour, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Connection", "X-Hop") }))
	c := dial(t, s.addr)
	c.send(t, get)
	c.answer(t)
	s.begin()
	c.send(t, get)
	raw, err := io.ReadAll(c.r)
	if err != nil || !strings.Contains(string(raw), "\r\nConnection: close\r\nConnection: X-Hop\r\n") {
		t.Errorf("%s, %v", raw, err)
	}
	c.Close()
	s.wait(t)
}

func TestHijackedConnectionIsNotWaitedFor(t *testing.T) {
	hijacked := make(chan net.Conn, 1)
	s := serve(t, time.Hour, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
		}
		hijacked <- conn
	}))
	c := dial(t, s.addr)
	c.send(t, get)
	conn := <-hijacked
	s.drain()
	s.wait(t)
	go io.WriteString(conn, "still here")
	buffer := make([]byte, 10)
	if _, err := io.ReadFull(c, buffer); string(buffer) != "still here" {
		t.Errorf("%q, %v", buffer, err)
	}
}

func TestHandlerStillHasTheConnectionsAbilities(t *testing.T) {
	states := make(chan http.ConnState, 10)
	type key struct{}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, ok := w.(io.ReaderFrom); !ok {
				t.Error("no ReadFrom")
			}
			if r.Context().Value(key{}) != "set" {
				t.Error("ConnContext was lost")
			}
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			if _, ok := conn.(interface{ NetConn() net.Conn }).NetConn().(*net.TCPConn); !ok {
				t.Errorf("the connection is a %T", conn)
			}
		}),
		ConnState:   func(_ net.Conn, state http.ConnState) { states <- state },
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context { return context.WithValue(ctx, key{}, "set") },
	}
	s := serveWith(t, time.Hour, srv, listener.Drain.Serve)
	c := dial(t, s.addr)
	c.send(t, get)
	for _, want := range []http.ConnState{http.StateNew, http.StateActive, http.StateHijacked} {
		if got := <-states; got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
	c.end(t)
	s.drain()
	s.wait(t)
}

func TestHTTP2RequestsInHandAreFinishedAndTheConnectionGoes(t *testing.T) {
	entered, finish := make(chan struct{}, 1), make(chan struct{})
	spare := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("spoken: %s", r.Proto)
		}
		entered <- struct{}{}
		<-finish
		io.WriteString(w, "done")
	}))
	spare.EnableHTTP2 = true
	spare.StartTLS() // for its certificate and the client that trusts it
	defer spare.Close()

	srv := &http.Server{Handler: spare.Config.Handler, TLSConfig: spare.TLS.Clone()}
	s := serveWith(t, time.Hour, srv, listener.Drain.ServeTLS)
	answer := make(chan error, 1)
	go func() {
		resp, err := spare.Client().Get("https://" + s.addr)
		if err == nil {
			var body []byte
			body, err = io.ReadAll(resp.Body)
			resp.Body.Close()
			if string(body) != "done" {
				err = errors.Join(err, errors.New("another answer"))
			}
		}
		answer <- err
	}()
	<-entered
	s.begin()
	close(finish)
	if err := <-answer; err != nil {
		t.Error(err)
	}
	s.wait(t)
}

func TestTLSConnectionWithoutHTTP2GetsOneMoreAnswer(t *testing.T) {
	spare := httptest.NewTLSServer(nil)
	defer spare.Close()
	srv := &http.Server{Handler: echo(), TLSConfig: spare.TLS.Clone()}
	s := serveWith(t, time.Hour, srv, listener.Drain.ServeTLS)
	web := spare.Client()
	ask := func() *http.Response {
		resp, err := web.Get("https://" + s.addr)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return resp
	}
	ask()
	s.begin()
	if resp := ask(); !resp.Close {
		t.Error("the answer does not say close")
	}
	s.wait(t)
}

func TestServeReturnsWhatEndsItsListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := listener.Serve(&http.Server{}, l); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestShutdownByTheProgramItselfStillWorks(t *testing.T) {
	srv := &http.Server{Handler: echo()}
	s := serveWith(t, time.Hour, srv, listener.Drain.Serve)
	c := dial(t, s.addr)
	c.send(t, get)
	c.answer(t)
	c.Close()
	if err := srv.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-s.err; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

func TestEveryWayToBeginAnAnswerSaysClose(t *testing.T) {
	for name, begin := range map[string]func(w http.ResponseWriter){
		"nothing written": func(http.ResponseWriter) {},
		"WriteHeader":     func(w http.ResponseWriter) { w.WriteHeader(http.StatusOK) },
		"Write":           func(w http.ResponseWriter) { w.Write([]byte("x")) },
		"WriteString":     func(w http.ResponseWriter) { io.WriteString(w, "x") },
		"ReadFrom":        func(w http.ResponseWriter) { io.Copy(w, strings.NewReader("x")) },
		"Flush":           func(w http.ResponseWriter) { w.(http.Flusher).Flush() },
		"controller":      func(w http.ResponseWriter) { http.NewResponseController(w).Flush() },
	} {
		t.Run(name, func(t *testing.T) {
			entered, finish := make(chan struct{}), make(chan struct{})
			s := serve(t, time.Hour, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(entered)
				<-finish
				begin(w)
			}))
			c := dial(t, s.addr)
			c.send(t, get)
			<-entered
			s.begin()
			close(finish)
			if _, closes := c.answer(t); !closes {
				t.Error("the answer does not say close")
			}
			c.Close()
			s.wait(t)
		})
	}
}
