// Command demo shows hotinit's main job as it happens: go run ./cmd/demo
//
// With -svg FILE it also draws what was measured: requests per second, by
// generation, and what was lost.
//
// It builds hotinit and two versions of a small HTTP server, runs hotinit as a
// real PID 1 (in a PID namespace; where that is not allowed, as a subreaper),
// puts load on the server, and swaps it: by renaming a new version over it, by
// SIGHUP, and once more after hotinit's handoff was killed. Its exit status is
// 0 only if no request was lost.
//
// main.go tells the story, stage.go builds and runs hotinit, screen.go shows what
// happens, and picture.go draws it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/load"
	"github.com/hotinit/hotinit/internal/testkit/pidone"
)

// Between two steps there is time to watch the load.
const between = 2500 * time.Millisecond

// patience is how long a step may take before the demonstration gives up.
const patience = 30 * time.Second

func main() {
	pidone.Enter()
	svg := flag.String("svg", "", "also draw a picture into this `file`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	err := demo(ctx, newScreen(os.Stdout), *svg)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

var errInterrupted = errors.New("interrupted")

func demo(ctx context.Context, s *screen, svg string) error {
	dir, err := os.MkdirTemp("", "hotinit-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	st := &stage{dir: dir, screen: s, address: fmt.Sprintf("127.0.%d.%d:8080", rand.IntN(256), 2+rand.IntN(250))}

	s.step("Building hotinit and versions v1 and v2 of a small HTTP server")
	if err := st.build(ctx); err != nil {
		return err
	}
	if err := st.install("v1"); err != nil {
		return err
	}
	if err := st.start(); err != nil {
		return err
	}
	defer st.end()
	if err := st.up(ctx); err != nil {
		return err
	}

	s.step("Load: 3 clients with a connection for each request, 3 that keep theirs")
	l := load.Start(load.Options{Address: st.address, Most: 50_000})
	defer l.Stop()
	s.watch(l)
	defer s.unwatch()
	r := record(l)
	defer r.end()

	for _, step := range []struct {
		title   string
		short   string // for the picture
		do      func() error
		answers string
	}{
		{"Swap by rename: mv v2 server", "mv v2 server", func() error { return st.install("v2") }, "v2 generation 2 "},
		{"Swap by SIGHUP: kill -HUP 1", "kill -HUP 1", func() error { return st.signal(unix.SIGHUP) }, "v2 generation 3 "},
		{"SIGKILL to the handoff, the process that decides; init starts another", "kill -KILL the handoff", st.killHandoff, "v2 generation 3 "},
		{"Swap by rename once more: mv v1 server", "mv v1 server", func() error { return st.install("v1") }, "v1 generation 4 "},
	} {
		if err := st.wait(ctx, time.After(between)); err != nil {
			return err
		}
		s.step("%s", step.title)
		answered := l.Answered(step.answers)
		r.event(step.short)
		began := time.Now()
		if err := step.do(); err != nil {
			return err
		}
		if err := st.await(ctx, answered); err != nil {
			return fmt.Errorf("no answer of %s: %w", step.answers, err)
		}
		s.say("%sanswers after %v", step.answers, time.Since(began).Round(time.Millisecond))
	}
	if err := st.wait(ctx, time.After(between)); err != nil {
		return err
	}
	report := l.Stop()
	s.unwatch()
	r.end()

	s.step("SIGTERM: kill 1")
	status, err := st.stop()
	if err != nil {
		return err
	}
	s.say("hotinit ended with the server's own exit status, %d", status)

	s.summary(report, st.init())
	if svg != "" {
		if err := r.save(svg, report); err != nil {
			return err
		}
	}
	if report.Losses() > 0 {
		return fmt.Errorf("%v", report)
	}
	if status != 0 {
		return fmt.Errorf("hotinit ended with status %d, the server had 0", status)
	}
	return nil
}
