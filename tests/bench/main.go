// Command bench measures hotinit beside the tools it wants to replace: tini,
// dumb-init and catatonit as plain inits; and, for hot deploys, Perl's
// start_server, supervisord, a proxy in front, and nothing at all.
//
// Its invariant: two figures are only compared when they were taken in the
// same run, in turn (A B C D A B C D), each tool as PID 1 of a fresh PID
// namespace with the same command beneath. What the machine itself adds is
// shown by running the command with no init, twice.
//
// How to read it: main.go chooses what runs, scale.go how much of it; tools.go
// knows the tools; container.go starts one of them; proc.go reads what the kernel
// says of it; each measurement has a file of its own and fills a report; report.go
// prints it, results.go writes it to bench.json, plot.go draws it, and kept.go
// compares it with an earlier one. testdata/helper.c is everything that runs
// beneath an init, app is the server that is swapped.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
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
	{"programs", "many programs from files", measurePrograms},
	{"output", "lines of many programs, with and without their names", measureOutput},
	{"upgrade", "hotinit replaced by hotinit, under load", measureUpgrade},
	{"watch", "from a rename to a new generation", measureWatch},
}

// bench is what all measurements share.
type bench struct {
	setup
	runs  int
	scale scale
	log   *os.File // standard error of all that is measured
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
	runs := flags.Int("runs", 0, "interleaved runs of each measurement; 0 means 5, or 2 with -quick")
	markdown := flags.Bool("markdown", false, "print the tables as Markdown")
	binary := flags.String("hotinit", "", "hotinit to measure; empty builds it")
	quick := flags.Bool("quick", false, "do a tenth of everything: for a look, not for figures")
	to := flags.String("out", "", "directory to write bench.json and the plots to")
	against := flags.String("against", "", "directory of kept bench.json files; fail where a figure is worse than twice that of the newest")
	from := flags.String("draw", "", "measure nothing: draw the plots of this bench.json")
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
	if *from != "" {
		r, err := readResults(*from)
		if err != nil {
			return err
		}
		return drawPlots(r, *to)
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	how := fullScale()
	if *quick {
		how = quickScale()
	}
	if *runs != 0 {
		how = how.withRuns(*runs)
	}
	if how.runs < 1 {
		return fmt.Errorf("-runs %d: at least one run is needed", *runs)
	}

	if *to != "" { // before anything is measured
		if err := os.MkdirAll(*to, 0o755); err != nil {
			return err
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	s, err := prepare(ctx, *binary)
	if err != nil {
		return err
	}
	defer s.remove()
	b := &bench{setup: *s, runs: how.runs, scale: how}
	if b.log, err = os.CreateTemp(s.dir, "stderr"); err != nil {
		return err
	}
	defer b.log.Close()

	printHeader(out, b, *markdown)
	all := &results{Machine: machine(), Quick: *quick, Absent: b.absent}
	wrong, began := 0, time.Now()
	for _, m := range chosen {
		fmt.Fprintf(progress, "measuring %s: %s ...\n", m.name, m.about)
		r, err := b.measure(ctx, m)
		if err != nil {
			return err
		}
		r.print(out, *markdown)
		wrong += len(r.wrong)
		all.add(r)
	}
	printTook(out, all, time.Since(began))
	if *to != "" {
		if err := all.write(filepath.Join(*to, "bench.json")); err != nil {
			return err
		}
		if err := drawPlots(all, *to); err != nil {
			return err
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%d results are wrong, whatever their speed", wrong)
	}
	if *against != "" {
		return compare(ctx, b, all, *against, out)
	}
	return nil
}

// measure takes one measurement.
func (b *bench) measure(ctx context.Context, m measurement) (*report, error) {
	r := newReport(m.name, m.about)
	began := time.Now()
	if err := m.run(ctx, b, r); err != nil {
		return nil, fmt.Errorf("cannot measure %s: %w%s", m.name, err, b.lastWords())
	}
	r.took = time.Since(began)
	return r, nil
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
