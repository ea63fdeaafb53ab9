package adopt

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// workers is how many requests are under way at once.
const workers = 6

// loader asks a server again and again, each time by a new connection.
type loader struct {
	address, request, want string

	stop    chan struct{}
	running sync.WaitGroup

	mu      sync.Mutex
	done    int
	refused []error // no connection
	gaps    int     // how often, one stretch of time in which connections are refused counting once
	since   int     // done at the last refusal
	lost    []error // no answer
	marks   map[int]chan struct{}
}

// httpRequest is one that is answered with the connection's end.
const httpRequest = "GET / HTTP/1.0\r\nHost: test\r\n\r\n"

func startLoad(address, request, want string) *loader {
	l := &loader{address: address, request: request, want: want, stop: make(chan struct{}), marks: map[int]chan struct{}{}}
	for range workers {
		l.running.Go(func() {
			pause := time.NewTicker(3 * time.Millisecond)
			defer pause.Stop()
			for {
				select {
				case <-l.stop:
					return
				case <-pause.C:
				}
				l.count(l.ask())
			}
		})
	}
	return l
}

func (l *loader) count(refused, lost error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case refused != nil:
		// Each worker may get an answer between two refusals of others to a connection
		// that it had before.
		if len(l.refused) == 0 || l.done-l.since > 2*workers {
			l.gaps++
		}
		l.since = l.done
		l.refused = append(l.refused, refused)
	case lost != nil:
		l.lost = append(l.lost, lost)
	default:
		l.done++
		if mark, ok := l.marks[l.done]; ok {
			close(mark)
		}
	}
}

// ask sends one request and reads the answer.
func (l *loader) ask() (refused, lost error) {
	network := "tcp"
	if l.address[0] == '/' {
		network = "unix"
	}
	conn, err := net.DialTimeout(network, l.address, box.Patience)
	if err != nil {
		return err, nil
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(box.Patience))
	if _, err := io.WriteString(conn, l.request); err != nil {
		return nil, err
	}
	var answer strings.Builder
	buf := make([]byte, 1024)
	for {
		n, err := conn.Read(buf)
		answer.Write(buf[:n])
		if strings.Contains(answer.String(), l.want) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("the answer was %q: %w", answer.String(), err)
		}
	}
}

// more waits until n more requests were answered.
func (l *loader) more(t *testing.T, n int) {
	t.Helper()
	mark := make(chan struct{})
	l.mu.Lock()
	l.marks[l.done+n] = mark
	l.mu.Unlock()
	select {
	case <-mark:
	case <-time.After(box.Patience):
		t.Fatalf("no %d more requests were answered in time; refused %d, lost %d", n, len(l.refused), len(l.lost))
	}
}

func (l *loader) end() {
	close(l.stop)
	l.running.Wait()
}
