// Package load puts a bounded load on an HTTP server and counts every request
// that was not answered as it should be.
//
// A request is sent once. Nothing is tried again behind the counter's back, as
// net/http's own client does with an idle connection that the server closed,
// so each loss that some client somewhere would have noticed is counted.
//
// Half of the workers open a connection for each request, the other half keep
// theirs for as long as the server does. See Options for what bounds them, and
// Report for what is counted.
package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Options say whom to ask, and how much.
type Options struct {
	Address string // host:port, or the path of a socket
	Path    string // "/" by default
	// Protocol is HTTP1 by default; protocols.go has the others.
	Protocol string
	Workers  int           // of each kind; 3 by default
	Pause    time.Duration // of each worker between two requests; 2 ms by default
	Timeout  time.Duration // of one request; 30 s by default
	Most     int           // requests of each worker, after which it stops by itself; 100,000 by default
}

// Kinds of loss.
const (
	Refused = "refused"   // no connection
	Reset   = "reset"     // a connection that ended before the answer began
	Timeout = "timed out" // no answer in time
	Status  = "error"     // an answer other than 200
	Short   = "cut short" // an answer that ended before its end
)

// Report is what was counted so far.
type Report struct {
	Done    int            // answered well
	Lost    map[string]int // by kind of loss
	First   []error        // the first few losses in full
	Slowest time.Duration
	By      map[string]int // answers by their first word, which names the release
	Each    map[string]int // by the first three: "v1 generation 2"
	Last    string         // the answer that came last
}

// Losses is the sum of all kinds of loss.
func (r Report) Losses() int {
	sum := 0
	for _, n := range r.Lost {
		sum += n
	}
	return sum
}

func (r Report) String() string {
	if r.Losses() == 0 {
		return fmt.Sprintf("%d requests, none lost, the slowest took %v", r.Done, r.Slowest.Round(time.Millisecond))
	}
	return fmt.Sprintf("%d requests done, %d lost: %v; the first of them: %v", r.Done, r.Losses(), r.Lost, errors.Join(r.First...))
}

// Load is a load that runs.
type Load struct {
	o       Options
	stop    context.CancelFunc
	workers sync.WaitGroup

	mu     sync.Mutex
	report Report
	marks  []*mark
}

// A mark is closed by the first answer that it waits for.
type mark struct {
	matches func(answer string, done int) bool
	seen    chan struct{}
}

// Start starts a load. It must be stopped, if only to read the report.
func Start(o Options) *Load {
	if o.Path == "" {
		o.Path = "/"
	}
	if o.Workers == 0 {
		o.Workers = 3
	}
	if o.Pause == 0 {
		o.Pause = 2 * time.Millisecond
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Most == 0 {
		o.Most = 100_000
	}
	ctx, stop := context.WithCancel(context.Background())
	l := &Load{o: o, stop: stop}
	l.report.Lost = map[string]int{}
	l.report.By, l.report.Each = map[string]int{}, map[string]int{}
	for range o.Workers {
		l.workers.Go(func() { l.work(ctx, false) })
		l.workers.Go(func() { l.work(ctx, true) })
	}
	return l
}

// Stop lets each worker finish its request and returns the final report.
func (l *Load) Stop() Report {
	l.stop()
	l.workers.Wait()
	return l.Report()
}

// Report returns the counts as they are.
func (l *Load) Report() Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.report
	r.Lost, r.By, r.Each = maps.Clone(r.Lost), maps.Clone(r.By), maps.Clone(r.Each)
	return r
}

// Answered is closed when an answer that starts with prefix came, counting
// from now.
func (l *Load) Answered(prefix string) <-chan struct{} {
	return l.mark(func(answer string, _ int) bool { return strings.HasPrefix(answer, prefix) })
}

// After is closed when n more requests were answered. A moment that is
// counted in requests is a random one, without a clock.
func (l *Load) After(n int) <-chan struct{} {
	l.mu.Lock()
	until := l.report.Done + n
	l.mu.Unlock()
	return l.mark(func(_ string, done int) bool { return done >= until })
}

func (l *Load) mark(matches func(string, int) bool) <-chan struct{} {
	m := &mark{matches, make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.marks = append(l.marks, m)
	return m.seen
}

func (l *Load) work(ctx context.Context, keep bool) {
	c := l.o.asker(keep)
	defer c.close()
	pause := time.NewTicker(l.o.Pause)
	defer pause.Stop()
	for range l.o.Most {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		began := time.Now()
		answer, loss, err := c.ask()
		l.count(answer, loss, err, time.Since(began))
	}
}

func (l *Load) count(answer, loss string, err error, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.report
	r.Slowest = max(r.Slowest, took)
	if err != nil {
		r.Lost[loss]++
		if len(r.First) < 5 {
			r.First = append(r.First, fmt.Errorf("%s after %d good answers: %w", loss, r.Done, err))
		}
		return
	}
	r.Done++
	r.Last = answer
	word, rest, _ := strings.Cut(answer, " ")
	r.By[word]++
	second, rest, _ := strings.Cut(rest, " ")
	third, _, _ := strings.Cut(rest, " ")
	r.Each[strings.TrimSpace(word+" "+second+" "+third)]++
	waiting := l.marks[:0]
	for _, m := range l.marks {
		if m.matches(answer, r.Done) {
			close(m.seen)
		} else {
			waiting = append(waiting, m)
		}
	}
	l.marks = waiting
}

// A client is one worker's side of at most one connection.
type client struct {
	o    *Options
	keep bool
	conn net.Conn
	in   *bufio.Reader
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (c *client) ask() (answer, loss string, err error) {
	deadline := time.Now().Add(c.o.Timeout)
	kind := "a kept connection"
	if c.conn == nil {
		kind = "a new connection"
		c.conn, err = c.o.dial(deadline)
		if err != nil {
			c.conn = nil
			return "", classify(err, Refused), err
		}
		c.in = bufio.NewReader(c.conn)
	}
	c.conn.SetDeadline(deadline)
	answer, ended, loss, err := c.exchange()
	if err != nil || ended || !c.keep {
		c.close()
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", kind, err)
	}
	return answer, loss, err
}

func (c *client) exchange() (answer string, ended bool, loss string, err error) {
	last := ""
	if !c.keep {
		last = "Connection: close\r\n"
	}
	if _, err := fmt.Fprintf(c.conn, "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", c.o.Path, c.o.host(), last); err != nil {
		return "", false, classify(err, Reset), err
	}
	if _, err := c.in.Peek(1); err != nil {
		return "", false, classify(err, Reset), err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return "", false, classify(err, Short), err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", false, classify(err, Short), err
	}
	if resp.StatusCode != http.StatusOK {
		return "", false, Status, fmt.Errorf("answered %s", resp.Status)
	}
	return strings.TrimSpace(string(body)), resp.Close, "", nil
}

func classify(err error, otherwise string) string {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Timeout
	case errors.Is(err, unix.ECONNREFUSED):
		return Refused
	case errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE):
		return Reset
	}
	return otherwise
}
