package examples_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// What becomes of a request. Only the first two are no loss.
const (
	answered = "answered"
	// again: a kept connection ended before its answer began, so the request
	// was sent once more on a new one, as RFC 9112, section 9.3.1, has it.
	// Some servers do this to idle connections when they are told to go.
	again = "sent again"

	refused  = "refused"
	reset    = "reset"
	ended    = "ended without an answer"
	timedOut = "timed out"
	other    = "answered with something else"
)

// visitors are the clients of one server. Half of them make a connection for
// each request, the others use theirs again.
type visitors struct {
	address string
	kept    bool // the server keeps connections
	stop    chan struct{}
	running sync.WaitGroup

	mu     sync.Mutex
	counts map[string]int
	first  error // the first loss
	last   string
	until  map[int]chan struct{}
	total  int
}

const (
	ofEachKind  = 3
	connections = 4      // of one visitor that keeps them: most are idle at any time
	most        = 20_000 // requests of one visitor
	pause       = 2 * time.Millisecond
)

func visit(address string, kept bool) *visitors {
	v := &visitors{address: address, kept: kept, stop: make(chan struct{}), counts: map[string]int{}, until: map[int]chan struct{}{}}
	for range ofEachKind {
		v.running.Go(func() { v.run(1, false) })
		if kept {
			v.running.Go(func() { v.run(connections, true) })
		}
	}
	return v
}

func (v *visitors) end() map[string]int {
	close(v.stop)
	v.running.Wait()
	return v.seen()
}

func (v *visitors) seen() map[string]int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.counts)
}

func (v *visitors) seenLast() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last
}

// more waits until so many further requests were answered or lost.
func (v *visitors) more(t *testing.T, n int) {
	t.Helper()
	done := make(chan struct{})
	v.mu.Lock()
	v.until[v.total+n] = done
	v.mu.Unlock()
	if !box.Within(done) {
		t.Fatalf("the visitors are stuck: %v", v.seen())
	}
}

func (v *visitors) count(class string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.counts[class]++
	if class != answered && class != again && v.first == nil {
		v.first = fmt.Errorf("%s: %w", class, err)
	}
	if class == again {
		return // it is counted once more
	}
	v.total++
	for n, done := range v.until {
		if v.total >= n {
			close(done)
			delete(v.until, n)
		}
	}
}

// line is a connection that may be open.
type line struct {
	net.Conn
	r *bufio.Reader
}

func (v *visitors) run(n int, keep bool) {
	lines := make([]line, n)
	defer func() {
		for _, l := range lines {
			if l.Conn != nil {
				l.Close()
			}
		}
	}()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for i := range most {
		select {
		case <-v.stop:
			return
		case <-tick.C:
		}
		v.request(&lines[i%n], keep)
	}
}

// request sends one request and counts what becomes of it.
func (v *visitors) request(l *line, keep bool) {
	for {
		used := l.Conn != nil
		if !used {
			conn, err := net.DialTimeout("tcp", v.address, box.Patience)
			if err != nil {
				v.count(classify(err), err)
				return
			}
			*l = line{conn, bufio.NewReader(conn)}
		}
		closes, begun, err := v.exchange(l, keep)
		if closes || err != nil || !keep {
			l.Close()
			l.Conn = nil
		}
		switch {
		case err == nil:
			v.count(answered, nil)
			return
		case used && !begun && !errors.Is(err, os.ErrDeadlineExceeded):
			v.count(again, err)
		default:
			v.count(classify(err), err)
			return
		}
	}
}

func (v *visitors) exchange(l *line, keep bool) (closes, begun bool, err error) {
	l.SetDeadline(time.Now().Add(box.Patience))
	header := "Connection: close\r\n"
	if keep {
		header = "Connection: keep-alive\r\n"
	}
	if _, err := fmt.Fprintf(l, "GET / HTTP/1.1\r\nHost: %s\r\n%s\r\n", v.address, header); err != nil {
		return true, false, err
	}
	if _, err := l.r.Peek(1); err != nil {
		return true, false, err
	}
	resp, err := http.ReadResponse(l.r, nil)
	if err != nil {
		return true, true, err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return true, true, err
	}
	text := strings.TrimSpace(string(body))
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(text, "generation ") {
		return true, true, fmt.Errorf("%s %q", resp.Status, text)
	}
	v.mu.Lock()
	v.last = text
	v.mu.Unlock()
	return resp.Close, true, nil
}

func classify(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return refused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return reset
	case errors.Is(err, os.ErrDeadlineExceeded):
		return timedOut
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return ended
	}
	return other
}
