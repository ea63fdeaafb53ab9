package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	adopted = "hotinit, adopted socket"
	passed  = "hotinit, passed socket"
	proxied = "haproxy in front"
)

// front is one way to reach the server.
type front struct {
	name  string
	start func(ctx context.Context, b *bench, app, address string) (end func(), err error)
}

// measureAdopt has clients ask one server without a pause: under a hotinit that
// has taken over its socket, under one that has passed it the socket, without an
// init, and behind a proxy. It also times a bind, and the start.
func measureAdopt(ctx context.Context, b *bench, r *report) error {
	app := filepath.Join(b.dir, "adopted")
	if err := goBuild(ctx, app, "-s -w", "github.com/hotinit/hotinit/tests/bench/app"); err != nil {
		return err
	}
	figure := func(name, format string) *figure {
		f := r.figure(name, format)
		f.own = adopted
		return f
	}
	rate := figure(requestRate, "%.0f")
	tail := figure("99th percentile of these", "%.2f ms")
	bind := figure(bindAndListen, "%.1f µs")
	first := figure("start to the first answer", "%.1f ms")

	fronts := []front{
		{adopted, underHotinit("--adopt", "on", "--")},
		{passed, underHotinitPassing},
		{nameDirect, behindNothing},
	}
	if b.haproxy != "" {
		fronts = append(fronts, front{proxied, behindHAProxy})
	}
	for range b.runs {
		for _, f := range fronts {
			address, err := freeAddress()
			if err != nil {
				return err
			}
			began := now()
			end, err := f.start(ctx, b, app, address)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			err = awaitService(ctx, address)
			first.add(f.name, millis(since(began, now())))
			if err == nil {
				var requests int
				var p99 float64
				requests, p99, err = rush(ctx, address, b.scale.clients, b.scale.rush)
				rate.add(f.name, float64(requests)/b.scale.rush.Seconds())
				tail.add(f.name, p99)
			}
			end()
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
		}
		for _, f := range []struct {
			name string
			argv []string
		}{{adopted, []string{b.hotinit, "--adopt", "on", "--"}}, {nameDirect, nil}} {
			micros, err := b.timeBind(ctx, tool{name: f.name, argv: f.argv}, app)
			if err != nil {
				return fmt.Errorf("a bind, %s: %w", f.name, err)
			}
			bind.add(f.name, micros)
		}
	}
	r.note("%d clients that keep their connections ask for %v in each run; of requests per second more is better", b.scale.clients, b.scale.rush)
	return nil
}

// rush asks without a pause, and returns how many requests were answered and
// their 99th percentile in milliseconds. A request that fails is an error.
func rush(ctx context.Context, address string, clients int, last time.Duration) (requests int, p99 float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, last)
	defer cancel()
	var mu sync.Mutex
	var took []float64
	var running sync.WaitGroup
	for range clients {
		running.Go(func() {
			c := &client{load: &load{address: address}, keep: true}
			defer c.drop()
			var mine []float64
			for ctx.Err() == nil {
				began := now()
				if _, e := c.ask(); e != nil {
					mu.Lock()
					err = e
					mu.Unlock()
					return
				}
				mine = append(mine, millis(since(began, now())))
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		})
	}
	running.Wait()
	return len(took), quantile(took, 0.99), err
}

// timeBind is in microseconds.
func (b *bench) timeBind(ctx context.Context, t tool, app string) (float64, error) {
	address, err := freeAddress()
	if err != nil {
		return 0, err
	}
	env := []string{"APP_STARTUP=0s", "APP_BINDS=" + address, "SERVER_STARTER_GENERATION=1"}
	c, err := start(ctx, &b.setup, t, options{cpu: -1, log: b.log, env: env}, app)
	if err != nil {
		return 0, err
	}
	defer c.end()
	c.out.SetReadDeadline(time.Now().Add(patience))
	line, err := bufio.NewReader(c.out).ReadString('\n')
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(line), 64)
	return n / 1000, err
}

// ownPort is the environment of an app that binds its own port.
func ownPort(address string) []string {
	return []string{"APP_STARTUP=0s", "APP_LISTEN=" + address, "SERVER_STARTER_GENERATION=1"}
}

func underHotinit(words ...string) func(context.Context, *bench, string, string) (func(), error) {
	return func(ctx context.Context, b *bench, app, address string) (func(), error) {
		hot := tool{name: nameHotinit, argv: append([]string{b.hotinit}, words...)}
		c, err := start(ctx, &b.setup, hot, options{cpu: -1, log: b.log, env: ownPort(address)}, app)
		if err != nil {
			return nil, err
		}
		return c.end, nil
	}
}

func underHotinitPassing(ctx context.Context, b *bench, app, address string) (func(), error) {
	hot := tool{name: nameHotinit, argv: []string{b.hotinit, "--port", address, "--"}}
	c, err := start(ctx, &b.setup, hot, options{cpu: -1, log: b.log, env: []string{"APP_STARTUP=0s"}}, app)
	if err != nil {
		return nil, err
	}
	return c.end, nil
}

func behindNothing(ctx context.Context, b *bench, app, address string) (func(), error) {
	c, err := start(ctx, &b.setup, direct(), options{cpu: -1, log: b.log, env: ownPort(address)}, app)
	if err != nil {
		return nil, err
	}
	return c.end, nil
}

// behindHAProxy starts the server at another address, and haproxy at the one that is asked.
func behindHAProxy(ctx context.Context, b *bench, app, address string) (func(), error) {
	dir, err := os.MkdirTemp(b.dir, "proxy")
	if err != nil {
		return nil, err
	}
	p, err := b.startProxy(dir, address)
	if err != nil {
		return nil, err
	}
	stop := func() { _ = finish(p.cmd, unix.SIGKILL) }
	c, err := start(ctx, &b.setup, direct(), options{cpu: -1, log: b.log, env: ownPort(p.places[0])}, app)
	if err != nil {
		stop()
		return nil, err
	}
	return func() { stop(); c.end() }, nil
}
