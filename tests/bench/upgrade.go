package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

const upgradeItself = "hotinit upgrade"

// measureUpgrade has hotinit replace itself while its app is asked: by a copy of
// itself, again and again.
func measureUpgrade(ctx context.Context, b *bench, r *report) error {
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		r.note("left out: nsenter is not installed")
		return nil
	}
	app := filepath.Join(b.dir, "upgraded")
	if err := goBuild(ctx, app, "-s -w", "github.com/hotinit/hotinit/tests/bench/app"); err != nil {
		return err
	}
	var copies [2]string
	for i := range copies {
		copies[i] = filepath.Join(b.dir, "hotinit-"+strconv.Itoa(i))
		content, err := os.ReadFile(b.hotinit)
		if err != nil {
			return err
		}
		if err := os.WriteFile(copies[i], content, 0o755); err != nil {
			return err
		}
	}
	figure := func(name, format string) *figure {
		f := r.figure(name, format)
		f.own = upgradeItself
		return f
	}
	lost := figure(requestsLost, "%.0f")
	took := figure("hotinit upgrade, from its start to its end", "%.1f ms")
	tail := figure("99th percentile within upgrades", "%.2f ms")
	ratio := figure("99th percentile within upgrades over outside", "%.2f")
	for range b.runs {
		one, err := b.upgradeSome(ctx, nsenter, app, copies)
		if err != nil {
			return err
		}
		for _, l := range one.lost {
			r.wrongf("a request was lost: %s", l.why)
		}
		if one.extra != 0 {
			r.wrongf("%d generations were started by upgrades", one.extra)
		}
		lost.add(upgradeItself, float64(len(one.lost)))
		took.add(upgradeItself, one.answered)
		tail.add(upgradeItself, one.inside)
		ratio.add(upgradeItself, one.inside/one.outside)
	}
	r.note("%d upgrades a run; both processes are executed anew, the app runs on", b.scale.renames)
	return nil
}

func (b *bench) upgradeSome(ctx context.Context, nsenter, app string, copies [2]string) (*swapped, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	hot := tool{name: nameHotinit, argv: []string{copies[1], "--ready", "notify", "--port", address, "--"}}
	c, err := start(ctx, &b.setup, hot, options{cpu: -1, log: b.log, env: b.appEnv()}, app)
	if err != nil {
		return nil, err
	}
	defer c.end()
	go io.Copy(io.Discard, c.out)
	if err := awaitService(ctx, address); err != nil {
		return nil, err
	}
	clients := startLoad(ctx, address, b.scale.clients)
	defer clients.stop()
	if _, err := clients.first(ctx, 1); err != nil {
		return nil, err
	}
	if err := pause(ctx, settle); err != nil {
		return nil, err
	}
	steady := now()
	var windows []window
	var took []float64
	for i := range b.scale.renames {
		next := copies[i%2]
		began := now()
		words := []string{"-t", strconv.Itoa(c.pid), "-p", "-m", next, "upgrade", next}
		if err := build(exec.CommandContext(ctx, nsenter, words...)); err != nil {
			return nil, err
		}
		windows = append(windows, window{began, now()})
		took = append(took, millis(since(began, now())))
		is, err := os.Stat(fmt.Sprintf("/proc/%d/exe", c.pid))
		if err != nil {
			return nil, err
		}
		if want, err := os.Stat(next); err != nil || !os.SameFile(is, want) {
			return nil, fmt.Errorf("upgrade %d: PID 1 does not run %s (%v)", i+1, next, err)
		}
		if err := pause(ctx, b.scale.betweenSwaps); err != nil {
			return nil, err
		}
	}
	clients.stop()
	s := &swapped{answered: median(took), requests: len(clients.samples), lost: clients.lost, extra: clients.newest - 1}
	s.inside, s.outside = tails(clients.samples, steady, windows)
	return s, nil
}
