package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// settle is how long something is left alone once it is up, so that what
// belongs to the start is over.
const settle = 500 * time.Millisecond

// pause returns early only when the benchmark is interrupted.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// resting is a tool with a command beneath it that does nothing.
type resting struct {
	tool tool
	c    *container
	pids []int // the init's own processes
}

// startResting starts the tools, all at once beside each other, and lets them
// settle. env is the environment of each, beside PATH.
func (b *bench) startResting(ctx context.Context, tools []tool, settle time.Duration, env ...string) (all []resting, err error) {
	defer func() {
		if err != nil {
			endResting(all)
		}
	}()
	for _, t := range tools {
		role := "rest"
		if t.name == nameWatching {
			role = "generation" // which says READY=1
		}
		c, err := start(ctx, &b.setup, t, options{cpu: -1, log: b.log, env: env}, b.helper, role)
		if err != nil {
			return all, err
		}
		all = append(all, resting{tool: t, c: c})
		if err := c.ready(); err != nil {
			return all, fmt.Errorf("%s: %w", t.name, err)
		}
	}
	if err := pause(ctx, settle); err != nil {
		return all, err
	}
	for i := range all {
		if all[i].pids, err = family(all[i].c.pid); err != nil {
			return all, fmt.Errorf("%s: %w", all[i].tool.name, err)
		}
	}
	return all, nil
}

func endResting(all []resting) {
	for _, one := range all {
		one.c.end()
	}
}

// measureMemory has one of each tool at a time, so that none shares the pages
// of another run of itself.
func measureMemory(ctx context.Context, b *bench, r *report) error {
	dirty := r.figure(privateDirty, "%.0f KiB")
	pss := r.figure(proportional, "%.0f KiB")
	processes := r.figure("processes", "%.0f")
	for range b.runs {
		all, err := b.startResting(ctx, b.plainOnce(), b.scale.rest)
		if err != nil {
			return err
		}
		for _, one := range all {
			m, err := memoryOf(one.pids)
			if err != nil {
				endResting(all)
				return err
			}
			dirty.add(one.tool.name, float64(m.dirty))
			pss.add(one.tool.name, float64(m.pss))
			processes.add(one.tool.name, float64(len(one.pids)))
		}
		endResting(all)
	}
	r.note("%v after the command is up; the command's own memory is not counted", b.scale.rest)
	return nil
}

// plainOnce leaves out the second way to run hotinit: two at a time would
// share pages, and each seem smaller than it is alone.
func (b *bench) plainOnce() []tool {
	var tools []tool
	for _, t := range b.plain {
		if t.name != nameAsTini {
			tools = append(tools, t)
		}
	}
	return tools
}

// nameWatching is a hotinit that watches a file and holds a socket.
const nameWatching = "hotinit, watching"

// measureIdle looks at all tools in the same stretch of time.
func measureIdle(ctx context.Context, b *bench, r *report) error {
	wakeups := r.figure(contextSwitches, "%.2f")
	used := r.figure("processor time in a second", "%.0f µs")
	watching := tool{name: nameWatching, argv: []string{b.hotinit, "--ready", "notify", "--port", "127.0.0.1:0", "--"}}
	for range min(b.runs, b.scale.idleRuns) {
		all, err := b.startResting(ctx, append(slices.Clone(b.plain), watching), b.scale.calm,
			"HOTINIT_PROBATION="+b.scale.probation.String())
		if err != nil {
			return err
		}
		err = b.idle(ctx, all, b.scale.idle, wakeups, used)
		endResting(all)
		if err != nil {
			return err
		}
	}
	r.note("%v, from %v after the command is up, when the probation of hotinit's first generation (%v) is over; nothing of what is watched changes",
		b.scale.idle, b.scale.calm, b.scale.probation)
	return nil
}

func (b *bench) idle(ctx context.Context, all []resting, long time.Duration, wakeups, used *figure) error {
	type reading struct {
		switches int
		time     time.Duration
	}
	read := func() (now []reading, err error) {
		for _, one := range all {
			n, err := switches(one.pids)
			if err != nil {
				return nil, err
			}
			t, err := processorTime(one.pids)
			if err != nil {
				return nil, err
			}
			now = append(now, reading{n, t})
		}
		return now, nil
	}
	before, err := read()
	if err != nil {
		return err
	}
	if err := pause(ctx, long); err != nil {
		return err
	}
	after, err := read()
	if err != nil {
		return err
	}
	for i, one := range all {
		wakeups.add(one.tool.name, float64(after[i].switches-before[i].switches)/long.Seconds())
		used.add(one.tool.name, micros(after[i].time-before[i].time)/long.Seconds())
	}
	return nil
}
