package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hotinit/hotinit/internal/testkit/websocket"
)

// sockets are the WebSockets that are open. net/http does not wait for them.
type sockets struct{ sync.WaitGroup }

// serve answers each message by the generation's name. Once the app was told to go, it
// tells the client to come again, and reads nothing more: what it did not answer the
// client sends anew.
func (s *sockets) serve(w http.ResponseWriter, r *http.Request, name string, told context.Context) {
	s.Add(1)
	defer s.Done()
	c, err := websocket.Accept(w, r)
	if err != nil {
		return
	}
	defer c.Close()
	var mu sync.Mutex
	away := false
	stop := context.AfterFunc(told, func() {
		mu.Lock()
		defer mu.Unlock()
		away = true
		_ = c.Write(websocket.Close, websocket.Away())
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	})
	defer stop()
	for {
		kind, _, err := c.Read()
		if err != nil || kind == websocket.Close {
			return
		}
		mu.Lock()
		if !away {
			err = c.Write(websocket.Text, []byte(strings.TrimSpace(name)))
		}
		mu.Unlock()
		if err != nil {
			return
		}
	}
}

// stream sends numbered events, and goes on after the one that the client got last.
func stream(w http.ResponseWriter, r *http.Request, name string, told context.Context) {
	n, _ := strconv.Atoi(r.Header.Get("Last-Event-ID"))
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-told.Done():
			fmt.Fprint(w, "event: end\ndata: come again\n\n")
			return
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
		n++
		if _, err := fmt.Fprintf(w, "id: %d\ndata: %s\n", n, name); err != nil || out.Flush() != nil {
			return
		}
	}
}
