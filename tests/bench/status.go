package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// harmless signals do not end a process by default, signal(7).
var harmless = []unix.Signal{
	unix.SIGCHLD, unix.SIGCONT, unix.SIGURG, unix.SIGWINCH,
	unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU,
}

const lastSignal = 64

// endings lists how a command can end, as the helper takes it, with the status
// that the init has to end with.
func endings(every int) (hows, statuses []int) {
	for code := 0; code < 256; code += every {
		hows, statuses = append(hows, code), append(statuses, code)
	}
	for sig := 1; sig <= lastSignal; sig += every {
		if !slices.Contains(harmless, unix.Signal(sig)) {
			hows, statuses = append(hows, -sig), append(statuses, 128+sig)
		}
	}
	return hows, statuses
}

// measureStatus has the command end in every way while orphans end around it.
func measureStatus(ctx context.Context, b *bench, r *report) error {
	hows, statuses := endings(b.scale.statuses)
	failed := r.figure(inexact, "%.0f")
	wrong := make(map[string]int)
	for i, how := range hows {
		for _, t := range b.plain {
			got, err := b.endOnce(ctx, t, how)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			if got == statuses[i] {
				continue
			}
			wrong[t.name]++
			const format = "%s ended with %d instead of %d"
			if t.peer {
				r.note(format, t.name, got, statuses[i])
			} else {
				r.wrongf(format, t.name, got, statuses[i])
			}
		}
	}
	for _, t := range b.plain {
		failed.add(t.name, float64(wrong[t.name]))
	}
	r.note("of %d, codes and signals", len(hows))
	return nil
}

func (b *bench) endOnce(ctx context.Context, t tool, how int) (int, error) {
	c, err := start(ctx, &b.setup, t, options{cpu: -1, log: b.log}, b.helper, "end", strconv.Itoa(how))
	if err != nil {
		return 0, err
	}
	defer c.end()
	status, err := c.wait()
	return status.ExitStatus(), err
}
