package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	requestEvery = 5 * time.Millisecond // per client
	requestLimit = 15 * time.Second     // a request that takes longer is lost
)

// load is a set of clients that ask at fixed times, whatever the answers do.
// Half of them open a connection for each request, half keep theirs. None
// asks again for a request that failed: it is lost.
type load struct {
	address string
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	newest  int
	firsts  map[int]uint64 // when each generation was first heard
	news    chan struct{}  // closed and replaced when newest changes
	samples []sample
	lost    []loss
}

// loss is a request that was not answered: when it was due, when that was known, and why.
type loss struct {
	sample
	why string
}

// sample is one request: when it was due and when it was answered.
type sample struct{ began, ended uint64 }

func (s sample) took() time.Duration { return since(s.began, s.ended) }

func startLoad(ctx context.Context, address string, clients int) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{address: address, cancel: cancel, firsts: make(map[int]uint64), news: make(chan struct{})}
	for i := range clients {
		c := &client{load: l, keep: i%2 == 0}
		offset := requestEvery * time.Duration(i) / time.Duration(clients)
		l.running.Go(func() { c.run(ctx, offset) })
	}
	return l
}

// stop ends the load once the requests under way are answered.
func (l *load) stop() {
	l.cancel()
	l.running.Wait()
}

// first waits until a generation has answered, and returns when that was.
func (l *load) first(ctx context.Context, generation int) (uint64, error) {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		l.mu.Lock()
		at, ok := l.firsts[generation]
		newest, news := l.newest, l.news
		l.mu.Unlock()
		if ok {
			return at, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-limit.C:
			return 0, fmt.Errorf("generation %d did not answer within %v; the newest that did is %d", generation, patience, newest)
		}
	}
}

func (l *load) heard(generation int, at uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.firsts[generation]; ok {
		return
	}
	l.firsts[generation] = at
	l.newest = max(l.newest, generation)
	close(l.news)
	l.news = make(chan struct{})
}

// client is one of them.
type client struct {
	load    *load
	keep    bool
	conn    net.Conn
	reader  *bufio.Reader
	samples []sample
	lost    []loss
}

func (c *client) run(ctx context.Context, offset time.Duration) {
	due := now() + uint64(offset)
	var ended uint64
	for pause(ctx, since(now(), due)) == nil {
		// Waking up late is this process's fault, and not counted. Asking late
		// because the answer before came late is the server's: the request has
		// been waiting since it was due.
		began := now()
		if ended > due {
			began = due
		}
		generation, err := c.ask()
		ended = now()
		if err != nil {
			c.lost = append(c.lost, loss{sample{began, ended}, err.Error()})
			c.drop()
		} else {
			c.samples = append(c.samples, sample{began, ended})
			c.load.heard(generation, ended)
		}
		due += uint64(requestEvery)
	}
	c.drop()
	c.load.mu.Lock()
	defer c.load.mu.Unlock()
	c.load.samples = append(c.load.samples, c.samples...)
	c.load.lost = append(c.load.lost, c.lost...)
}

func (c *client) drop() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// ask is written by hand because net/http's client quietly repeats a request
// whose connection was closed under it.
func (c *client) ask() (generation int, err error) {
	if c.conn == nil {
		if c.conn, err = net.DialTimeout("tcp", c.load.address, requestLimit); err != nil {
			return 0, err
		}
		c.reader = bufio.NewReader(c.conn)
	}
	c.conn.SetDeadline(time.Now().Add(requestLimit))
	connection := "keep-alive"
	if !c.keep {
		connection = "close"
	}
	if _, err := fmt.Fprintf(c.conn, "GET / HTTP/1.1\r\nHost: bench\r\nConnection: %s\r\n\r\n", connection); err != nil {
		return 0, err
	}
	answer, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return 0, err
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err
	}
	if answer.StatusCode != http.StatusOK {
		return 0, errors.New(answer.Status)
	}
	if answer.Close {
		c.drop()
	}
	return strconv.Atoi(strings.TrimSpace(string(body)))
}

// window is a stretch of time in which a swap was going on.
type window struct{ from, to uint64 }

// tails is the 99th percentile of the requests that met a window and of the
// others, in milliseconds. Requests from before the load was steady count for
// neither.
func tails(samples []sample, steady uint64, windows []window) (inside, outside float64) {
	var in, out []float64
	for _, s := range samples {
		if s.began < steady {
			continue
		}
		met := slices.ContainsFunc(windows, func(w window) bool { return s.began <= w.to && s.ended >= w.from })
		if met {
			in = append(in, millis(s.took()))
		} else {
			out = append(out, millis(s.took()))
		}
	}
	return quantile(in, 0.99), quantile(out, 0.99)
}
