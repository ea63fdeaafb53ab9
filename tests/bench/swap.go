package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const hup = unix.SIGHUP

// deployment is a served app that can be swapped while it is asked.
type deployment struct {
	swap  func() error          // the trigger, and nothing else
	after func() error          // once the new generation answers; may be nil
	own   func() ([]int, error) // the supervisor's processes, none of the app; nil where there is none
	out   *os.File              // where the app says that it is gone
	end   func()
}

// deployer is a way to swap.
type deployer struct {
	name  string
	own   bool // hotinit: a lost request is wrong
	start func(context.Context, *bench, *site) (*deployment, error)
}

// site is the file that is deployed, and where it serves.
type site struct {
	app     string
	address string
	next    int // release
}

// release is where the next one waits. All are written before the load starts:
// a disk that is busy writing would have the clients seem slow.
func (s *site) release() string {
	s.next++
	return releaseFile(s.app, s.next)
}

func releaseFile(app string, number int) string { return app + "." + strconv.Itoa(number) }

const (
	swapByHUP    = "hotinit, HUP"
	swapByRename = "hotinit, rename"
	swapByHand   = "by hand, no supervisor"
	swapByHandRe = "by hand, rename"
	swapByKill   = "kill and start again"
	swapByProxy  = "haproxy in front, two servers"
)

func (b *bench) deployers() []deployer {
	all := []deployer{
		{swapByHand, false, deployByHand(false)},
		{swapByHUP, true, startHotinit((*container).hangUp)},
		{swapByHandRe, false, deployByHand(true)},
		{swapByRename, true, startHotinit(nil)},
	}
	if b.startServer != "" {
		for _, interval := range b.scale.intervals {
			all = append(all, deployer{"start_server --interval " + interval, false, startStartServer(interval)})
		}
	}
	if b.haproxy != "" {
		all = append(all, deployer{swapByProxy, false, deployBehindProxy})
	}
	if b.supervisord != "" && b.supervisorctl != "" {
		all = append(all, deployer{"supervisorctl restart", false, startSupervisord})
	}
	return append(all, deployer{swapByKill, false, deployByKilling})
}

// measureSwap swaps under load. By hand means that this process holds the
// socket, starts the next generation and tells the one before to go at the
// first answer: what nobody can be faster than, so that the rest is the
// supervisor's. It is done with the same file again, as by HUP, and with a new file
// for each generation, as by a rename: none of a new file's pages are mapped or in a
// processor's cache yet.
func measureSwap(ctx context.Context, b *bench, r *report) error {
	binary := filepath.Join(b.dir, "swapped")
	if err := goBuild(ctx, binary, "-s -w", "github.com/hotinit/hotinit/tests/bench/app"); err != nil {
		return err
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	figures := newSwapFigures(r)
	runs := min(b.runs, b.scale.swapRuns)
	perRun := (b.scale.swaps + runs - 1) / runs
	deployers := b.deployers()
	swaps, asked := 0, 0
	for run := range runs {
		floor := 0.0
		for _, d := range deployers {
			s, err := b.swapSome(ctx, d, content, perRun)
			if err != nil {
				return fmt.Errorf("%s: %w", d.name, err)
			}
			if d.name == swapByHand {
				floor = s.answered
			}
			figures.add(d.name, s, floor)
			if run == 0 {
				r.timelines = append(r.timelines, s.timeline)
			}
			asked += s.requests
			if d.own {
				for _, l := range s.lost {
					r.wrongf("%s: a request was lost: %s", d.name, l.why)
				}
				if s.extra != 0 {
					r.wrongf("%s: %d generations more than were asked for", d.name, s.extra)
				}
			} else if len(s.lost) > 0 {
				r.note("%s: the first request lost: %s", d.name, s.lost[0].why)
			}
		}
		swaps += perRun
	}
	r.note("%d swaps of each kind and %d requests in all, by %d clients that each ask every %v, half on a connection of its own each time",
		swaps, asked, b.scale.clients, requestEvery)
	r.note("the processor time is that of the supervisor's own processes in the same window; haproxy's has the requests in it")
	r.note("the app takes %v to start; a swap's window is from the trigger until the old generation is gone; a request that is refused has no latency", b.scale.appStartup)
	return nil
}

// swapFigures are the lines of the report.
type swapFigures struct {
	lost, answered, added, tail, ratio, second, processor, dirty, pss *figure
}

func newSwapFigures(r *report) *swapFigures {
	f := func(name, format string) *figure {
		figure := r.figure(name, format)
		figure.own = swapByHUP
		return figure
	}
	return &swapFigures{
		lost:      f(requestsLost, "%.0f"),
		answered:  f(firstAnswer, "%.1f ms"),
		added:     f("the same, less that by hand", "%.1f ms"),
		tail:      f(tailWithin, "%.2f ms"),
		ratio:     f("99th percentile within swaps over outside", "%.2f"),
		second:    f("99th percentile in the second from the trigger on over outside", "%.2f"),
		processor: f(swapProcessor, "%.1f ms"),
		dirty:     f(privateDirty, "%.0f KiB"),
		pss:       f(proportional, "%.0f KiB"),
	}
}

func (f *swapFigures) add(name string, s *swapped, floor float64) {
	f.lost.add(name, float64(len(s.lost)))
	f.answered.add(name, s.answered)
	if name != swapByHand && name != swapByHandRe {
		f.added.add(name, s.answered-floor)
	}
	if s.memory != (memory{}) {
		f.processor.add(name, s.processor)
		f.dirty.add(name, float64(s.memory.dirty))
		f.pss.add(name, float64(s.memory.pss))
	}
	f.tail.add(name, s.inside)
	f.ratio.add(name, s.inside/s.outside)
	f.second.add(name, s.second/s.outside)
}

// swapped is what some swaps in a row came to.
type swapped struct {
	answered float64 // median, milliseconds

	// 99th percentiles, milliseconds: within swaps, in the seconds from the
	// triggers on, outside of both
	inside, second, outside float64

	processor float64 // of the supervisor in a swap, mean, milliseconds

	requests int
	lost     []loss
	extra    int
	timeline timeline
	memory   memory
}

func (b *bench) swapSome(ctx context.Context, d deployer, content []byte, count int) (*swapped, error) {
	dir, err := os.MkdirTemp(b.dir, "site")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	s := &site{app: filepath.Join(dir, "server"), address: address}
	if err := writeRelease(s.app, content, 0); err != nil {
		return nil, err
	}
	for number := 1; number <= count; number++ {
		if err := writeRelease(releaseFile(s.app, number), content, number); err != nil {
			return nil, err
		}
	}
	running, err := d.start(ctx, b, s)
	if err != nil {
		return nil, err
	}
	defer running.end()

	if err := awaitService(ctx, address); err != nil {
		return nil, err
	}
	clients := startLoad(ctx, address, b.scale.clients)
	defer clients.stop()
	if _, err := clients.first(ctx, 1); err != nil {
		return nil, err
	}
	if err := pause(ctx, settle); err != nil { // connections are set up, and the interval of the first start is over
		return nil, err
	}
	var own []int
	if running.own != nil {
		if own, err = running.own(); err != nil {
			return nil, err
		}
	}
	steady := now()
	result := &swapped{}
	var used time.Duration
	var windows, seconds []window
	var answered []float64
	var triggers []uint64
	goneLines := bufio.NewReader(running.out)
	for generation := 2; generation < 2+count; generation++ {
		if err := pause(ctx, b.scale.betweenSwaps); err != nil {
			return nil, err
		}
		before, err := processorTime(own)
		if err != nil {
			return nil, err
		}
		began := now()
		triggers = append(triggers, began)
		if err := running.swap(); err != nil {
			return nil, err
		}
		heard, err := clients.first(ctx, generation)
		if err != nil {
			return nil, err
		}
		answered = append(answered, millis(since(began, heard)))
		if running.after != nil {
			if err := running.after(); err != nil {
				return nil, err
			}
		}
		if err := awaitGone(running.out, goneLines, generation-1); err != nil {
			return nil, err
		}
		windows = append(windows, window{began, now()})
		after, err := processorTime(own)
		if err != nil {
			return nil, err
		}
		used += after - before
		// The same stretch for all: a swap that takes longer has a window with
		// more calm in it.
		if err := pause(ctx, time.Second-since(began, now())); err != nil {
			return nil, err
		}
		seconds = append(seconds, window{began, now()})
	}
	if err := pause(ctx, b.scale.betweenSwaps); err != nil {
		return nil, err
	}
	clients.stop()
	if running.own != nil {
		if err := pause(ctx, b.scale.rest); err != nil {
			return nil, err
		}
		if result.memory, err = memoryOf(own); err != nil {
			return nil, err
		}
	}
	result.processor = millis(used) / float64(count)
	result.answered = median(answered)
	result.inside, _ = tails(clients.samples, steady, windows)
	result.second, result.outside = tails(clients.samples, steady, seconds)
	result.requests, result.lost = len(clients.samples)+len(clients.lost), clients.lost
	result.timeline = newTimeline(d.name, steady, triggers, clients.samples, clients.lost)
	result.extra = clients.newest - (1 + count)
	return result, nil
}

// awaitGone reads what the app says when it has drained.
func awaitGone(out *os.File, lines *bufio.Reader, generation int) error {
	out.SetReadDeadline(time.Now().Add(patience))
	line, err := lines.ReadString('\n')
	if err != nil {
		return fmt.Errorf("generation %d did not go: %w", generation, err)
	}
	if want := fmt.Sprintf("gone %d\n", generation); line != want {
		return fmt.Errorf("generation %d was to go, but %q came", generation, line)
	}
	return nil
}

// awaitService returns once a connection is answered: what comes before is the
// first start, which is no swap.
func awaitService(ctx context.Context, address string) error {
	limit, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c := &client{load: &load{address: address}}
	for {
		_, err := c.ask()
		c.drop()
		if err == nil {
			return nil
		}
		if pause(limit, requestEvery) != nil {
			return fmt.Errorf("nothing serves on %s: %w", address, err)
		}
	}
}

// freeAddress finds a port of loopback that nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (b *bench) appEnv() []string { return []string{"APP_STARTUP=" + b.scale.appStartup.String()} }

func (c *container) hangUp() error { return c.signal(hup) }

// startHotinit triggers by a rename where it is not told how else.
func startHotinit(how func(*container) error) func(context.Context, *bench, *site) (*deployment, error) {
	return func(ctx context.Context, b *bench, s *site) (*deployment, error) {
		hot := tool{name: nameHotinit, argv: []string{b.hotinit, "--ready", "notify", "--port", s.address, "--"}}
		c, err := start(ctx, &b.setup, hot, options{cpu: -1, log: b.log, env: b.appEnv()}, s.app)
		if err != nil {
			return nil, err
		}
		swap := func() error { return os.Rename(s.release(), s.app) }
		if how != nil {
			swap = func() error { return how(c) }
		}
		return c.deployment(swap), nil
	}
}

func startStartServer(interval string) func(context.Context, *bench, *site) (*deployment, error) {
	return func(ctx context.Context, b *bench, s *site) (*deployment, error) {
		perl := tool{name: "start_server", argv: []string{b.startServer, "--interval", interval, "--port", s.address, "--"}}
		c, err := start(ctx, &b.setup, perl, options{cpu: -1, log: b.log, env: b.appEnv()}, s.app)
		if err != nil {
			return nil, err
		}
		return c.deployment(func() error {
			if err := os.Rename(s.release(), s.app); err != nil {
				return err
			}
			return c.hangUp()
		}), nil
	}
}

func (c *container) deployment(swap func() error) *deployment {
	return &deployment{
		swap: swap, out: c.out, end: c.end,
		own: func() ([]int, error) { return family(c.pid) },
	}
}
