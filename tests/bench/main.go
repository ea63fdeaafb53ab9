// Command bench measures hotinit beside the tools it wants to replace: tini,
// dumb-init and catatonit as plain inits, and Perl's start_server as a
// supervisor of hot deploys.
//
// Its invariant: two figures are only compared when they were taken in the
// same run, in turn (A B C D A B C D), each tool as PID 1 of a fresh PID
// namespace with the same command beneath. What the machine itself adds is
// shown by running the command with no init, twice.
//
// How to read it: main.go chooses what runs; tools.go knows the tools;
// container.go starts one of them; proc.go reads what the kernel says of it;
// each measurement has a file of its own and fills a report; report.go prints
// it. testdata/helper.c is everything that runs beneath an init, app is the
// server that is swapped.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// measurement is one part of the benchmark.
type measurement struct {
	name  string
	about string
	run   func(context.Context, *bench, *report) error
}

var measurements = []measurement{
	{"startup", "start-up time that the init adds to a command", measureStartup},
	{"memory", "memory of all of the init's processes", measureMemory},
	{"status", "exit statuses while orphans churn", measureStatus},
	{"orphans", "collecting orphans", measureOrphans},
	{"signal", "signal round trip on one processor", measureSignal},
	{"idle", "what idleness costs", measureIdle},
	{"swap", "hot deploys under load", measureSwap},
	{"adopt", "what it costs to take over a server's own socket", measureAdopt},
	{"watch", "from a rename to a new generation", measureWatch},
}

// bench is what all measurements share.
type bench struct {
	setup
	runs  int
	scale scale
	log   *os.File // standard error of all that is measured
}

// scale is how much of each thing is done; everything has an end.
type scale struct {
	starts       int // command starts for a figure, per tool and run
	statuses     int // every n-th exit code and signal is tried
	orphans      int
	pings        int
	rest         time.Duration // before memory is read
	calm         time.Duration // before idleness counts
	idle         time.Duration
	watchIdle    time.Duration
	swaps        int // over all runs
	renames      int // per run
	clients      int
	appStartup   time.Duration // what the served app does before it is ready
	betweenSwaps time.Duration
	rush         time.Duration // of requests without a pause
}

func fullScale() scale {
	return scale{
		starts: 40, statuses: 1, orphans: 20000, pings: 4000,
		rest: 3 * time.Second, calm: 14 * time.Second, idle: 20 * time.Second, watchIdle: 60 * time.Second,
		swaps: 100, renames: 20, clients: 8,
		appStartup: 100 * time.Millisecond, betweenSwaps: 300 * time.Millisecond, rush: 5 * time.Second,
	}
}

func quickScale() scale {
	return scale{
		starts: 10, statuses: 10, orphans: 2000, pings: 400,
		rest: 3 * time.Second, calm: 14 * time.Second, idle: 2 * time.Second, watchIdle: 6 * time.Second,
		swaps: 10, renames: 5, clients: 8,
		appStartup: 100 * time.Millisecond, betweenSwaps: 300 * time.Millisecond, rush: time.Second,
	}
}

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string, out, progress io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := flags.String("only", "", "comma-separated measurements to run; empty runs all")
	runs := flags.Int("runs", 5, "interleaved runs of each measurement")
	markdown := flags.Bool("markdown", false, "print the tables as Markdown")
	binary := flags.String("hotinit", "", "hotinit to measure; empty builds it")
	quick := flags.Bool("quick", false, "do a tenth of everything: for a look, not for figures")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: go run ./tests/bench [flags]\n\nMeasurements:")
		for _, m := range measurements {
			fmt.Fprintf(flags.Output(), "  %-9s %s\n", m.name, m.about)
		}
		fmt.Fprintln(flags.Output(), "\nFlags:")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	if *runs < 1 {
		return fmt.Errorf("-runs %d: at least one run is needed", *runs)
	}

	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	s, err := prepare(ctx, *binary)
	if err != nil {
		return err
	}
	defer s.remove()
	b := &bench{setup: *s, runs: *runs, scale: fullScale()}
	if *quick {
		b.scale = quickScale()
	}
	if b.log, err = os.CreateTemp(s.dir, "stderr"); err != nil {
		return err
	}
	defer b.log.Close()

	printHeader(out, b, *markdown)
	wrong := 0
	for _, m := range chosen {
		fmt.Fprintf(progress, "measuring %s: %s ...\n", m.name, m.about)
		r := newReport(m.name, m.about)
		began := time.Now()
		if err := m.run(ctx, b, r); err != nil {
			return fmt.Errorf("cannot measure %s: %w%s", m.name, err, b.lastWords())
		}
		r.took = time.Since(began)
		r.print(out, *markdown)
		wrong += len(r.wrong)
	}
	if wrong > 0 {
		return fmt.Errorf("%d results are wrong, whatever their speed", wrong)
	}
	return nil
}

func choose(only string) ([]measurement, error) {
	if only == "" {
		return measurements, nil
	}
	var chosen []measurement
next:
	for name := range strings.SplitSeq(only, ",") {
		for _, m := range measurements {
			if m.name == name {
				chosen = append(chosen, m)
				continue next
			}
		}
		return nil, fmt.Errorf("-only %s: there is no measurement %q (-help lists them)", only, name)
	}
	return chosen, nil
}

// lastWords is the end of what the measured programs said, for an error.
func (b *bench) lastWords() string {
	const most = 2000
	info, err := b.log.Stat()
	if err != nil || info.Size() == 0 {
		return ""
	}
	from := max(0, info.Size()-most)
	text, err := io.ReadAll(io.NewSectionReader(b.log, from, most))
	if err != nil {
		return ""
	}
	return "\nthe last that was said on standard error:\n" + string(text)
}
