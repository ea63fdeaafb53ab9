package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
)

// kept is a figure that is kept from version to version: hotinit's median, or the
// median of its ratios to another tool's in the same run.
type kept struct {
	label       string
	measurement string
	figure      string
	tool        string // hotinit's way that is meant; the figure's own where it is empty
	beside      string // the other tool
	format      string

	more  bool    // of this more is better
	slack float64 // a difference that says nothing
	noisy bool    // it is shown, and says too little on a busy machine to fail for it
}

func (k kept) own(q quantity) string {
	if k.tool != "" {
		return k.tool
	}
	return q.Own
}

const (
	times = "%.1f ×"
	count = "%.0f"
)

// keptFigures are in the order of the table in docs/performance.md.
var keptFigures = []kept{
	{label: "time to a command's first instruction that the init adds, over tini's", measurement: "startup", figure: firstInstruction, beside: "tini", format: times},
	{label: "time from its exit to the init's, over tini's", measurement: "startup", figure: exitToEnd, beside: "tini", format: times, noisy: true},
	{label: "time of a whole run that the init adds, over tini's", measurement: "startup", figure: wholeRun, beside: "tini", format: times},
	{label: "signal round trip on one processor, over tini's", measurement: "signal", figure: roundTrip, beside: "tini", format: times},
	{label: "the same, 99th percentile", measurement: "signal", figure: roundTripTail, beside: "tini", format: times, noisy: true},
	{label: "time until the last orphan is collected, over tini's", measurement: "orphans", figure: lastCollected, beside: "tini", format: times},
	{label: "processor time for that, over tini's", measurement: "orphans", figure: orphansProcessor, beside: "tini", format: times, slack: 2},
	{label: "statuses that are not exact while orphans churn", measurement: "status", figure: inexact, format: count},
	{label: "memory of both processes (PSS)", measurement: "memory", figure: proportional, format: "%.0f KiB"},
	{label: "private dirty memory of both", measurement: "memory", figure: privateDirty, format: "%.0f KiB"},
	{label: "context switches a second, idle", measurement: "idle", figure: contextSwitches, format: "%.2f", slack: 3},
	{label: "the same, watching a file and holding a socket", measurement: "idle", figure: contextSwitches, tool: nameWatching, format: "%.2f", slack: 3},
	{label: "requests lost, swaps by HUP under load", measurement: "swap", figure: requestsLost, format: count},
	{label: "requests lost, swaps by rename under load", measurement: "swap", figure: requestsLost, tool: swapByRename, format: count},
	{label: "HUP to the new generation's first answer, over that by hand", measurement: "swap", figure: firstAnswer, beside: swapByHand, format: "%.2f ×"},
	{label: "rename to the same", measurement: "swap", figure: firstAnswer, tool: swapByRename, beside: swapByHand, format: "%.2f ×"},
	{label: "99th percentile of latency within swaps by HUP, over that by hand", measurement: "swap", figure: tailWithin, beside: swapByHand, format: "%.2f ×", noisy: true},
	{label: "the same by rename", measurement: "swap", figure: tailWithin, tool: swapByRename, beside: swapByHand, format: "%.2f ×", noisy: true},
	{label: "memory after the swaps (PSS), over start_server's", measurement: "swap", figure: proportional, beside: "start_server --interval 1", format: "%.2f ×"},
	{label: "private dirty memory after the swaps, over start_server's", measurement: "swap", figure: privateDirty, beside: "start_server --interval 1", format: "%.2f ×"},
	{label: "time until many programs run, over s6's", measurement: "programs", figure: programsUp, beside: "s6", format: "%.2f ×", slack: 1},
	{label: "the same, over supervisord's", measurement: "programs", figure: programsUp, beside: "supervisord", format: "%.2f ×", slack: 1},
	{label: "time until many killed programs run again, over s6's", measurement: "programs", figure: programsAgain, beside: "s6", format: "%.2f ×", slack: 1},
	{label: "context switches a second while many programs are idle", measurement: "programs", figure: contextSwitches, format: "%.2f", slack: 3},
	{label: "rename to the new generation's first instruction, over that by hand", measurement: "watch", figure: triggerToStart, tool: watchByRename, beside: watchByHand, format: "%.2f ×", slack: 1},
	{label: "requests per second on an adopted socket, over a passed one", measurement: "adopt", figure: requestRate, beside: passed, format: "%.2f ×", more: true},
	{label: "requests per second on an adopted socket, over haproxy in front", measurement: "adopt", figure: requestRate, beside: proxied, format: "%.2f ×", more: true},
	{label: "a bind and listen that is adopted, over one without hotinit", measurement: "adopt", figure: bindAndListen, beside: nameDirect, format: times, noisy: true},
}

// regression is a figure that is worse than twice the kept one.
type regression struct {
	kept
	was, is float64
}

func (r regression) String() string {
	return fmt.Sprintf("%s: "+r.format+", and it was "+r.format, r.label, r.is, r.was)
}

// worse lists what is worse than twice what it was.
func (r *results) worse(than *results) []regression {
	var all []regression
	for _, k := range keptFigures {
		is, measured := r.value(k)
		was, known := than.value(k)
		if !measured || !known || k.noisy {
			continue
		}
		limit := 2*was + k.slack
		if k.more && is < was/2 || !k.more && is > limit {
			all = append(all, regression{k, was, is})
		}
	}
	return all
}

// compare measures once more what looks worse than the newest kept run, and fails
// for what is worse both times: the machine may have been busy the first time.
func compare(ctx context.Context, b *bench, r *results, dir string, out io.Writer) error {
	all, err := readKept(dir)
	if err != nil {
		return err
	}
	newest := all[len(all)-1]
	first := r.worse(newest.results)
	if len(first) == 0 {
		fmt.Fprintf(out, "\nNothing is worse than twice the figures of %s.\n", newest.name)
		return nil
	}
	again := &results{}
	for _, m := range measurements {
		if !slices.ContainsFunc(first, func(r regression) bool { return r.measurement == m.name }) {
			continue
		}
		report, err := b.measure(ctx, m)
		if err != nil {
			return err
		}
		again.add(report)
		for _, wrong := range report.wrong {
			return fmt.Errorf("%s, measured once more: %s", m.name, wrong)
		}
	}
	second := again.worse(newest.results)
	var lines []string
	for _, one := range first {
		i := slices.IndexFunc(second, func(r regression) bool { return r.label == one.label })
		if i < 0 {
			fmt.Fprintf(out, "\n%s; measured once more it is not worse than twice that.\n", one)
			continue
		}
		lines = append(lines, fmt.Sprintf("%s (once more: "+one.format+")", one, second[i].is))
	}
	if len(lines) > 0 {
		return fmt.Errorf("worse than twice the figures of %s, in two runs:\n  %s", newest.name, strings.Join(lines, "\n  "))
	}
	return nil
}
