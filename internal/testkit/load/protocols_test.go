package load

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/websocket"
)

// handling starts a server of HTTP/1.1 and HTTP/2.
func handling(t *testing.T, handle http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handle, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go server.Serve(l)
	t.Cleanup(func() { _ = server.Shutdown(context.Background()) })
	return l.Addr().String()
}

// Each protocol has its way to end a connection, and each other end is a loss.
func TestALossIsToldFromTheEndThatAProtocolHas(t *testing.T) {
	chat := func(end func(c *websocket.Conn)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			c, err := websocket.Accept(w, r)
			if err != nil {
				return
			}
			defer c.Close()
			if _, _, err := c.Read(); err == nil {
				c.Write(websocket.Text, []byte("v1"))
			}
			if _, _, err := c.Read(); err == nil {
				end(c)
			}
		}
	}
	stream := func(step int, end string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			n := 0
			fmt.Sscan(r.Header.Get("Last-Event-ID"), &n)
			fmt.Fprintf(w, "id: %d\ndata: v1\n\nid: %d\ndata: v1\n\n%s", n+1, n+1+step, end)
		}
	}
	for _, c := range []struct {
		name, protocol string
		handle         http.HandlerFunc
		lost           string
	}{
		{"HTTP/2", HTTP2, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "v1") }, ""},
		{"HTTP/2, aborted", HTTP2, func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, Reset},
		{"a WebSocket that goes away", WebSocket, chat(func(c *websocket.Conn) {
			c.Write(websocket.Close, websocket.Away())
			c.Read()
		}), ""},
		{"a WebSocket that ends", WebSocket, chat(func(c *websocket.Conn) {}), Reset},
		{"events that end", Events, stream(1, "event: end\n\n"), ""},
		{"events that are cut off", Events, stream(1, ""), Short},
		{"events of which one is left out", Events, stream(2, "event: end\n\n"), Short},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := bounded(t, Options{Address: handling(t, c.handle), Protocol: c.protocol})
			if c.lost == "" && (r.Done != 20 || r.Losses() != 0) {
				t.Errorf("%v: want 20 answers, none lost", r)
			}
			if c.lost != "" && (r.Lost[c.lost] == 0 || r.Lost[c.lost] != r.Losses()) {
				t.Errorf("%v: want losses of kind %q alone", r, c.lost)
			}
		})
	}
}
