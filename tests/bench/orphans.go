package main

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"
)

// orphanBatch is how many are orphaned at once, when the process in the
// middle ends.
const orphanBatch = 20

// measureOrphans has the command orphan many processes, and looks on.
func measureOrphans(ctx context.Context, b *bench, r *report) error {
	took := r.figure(lastCollected, "%.0f ms")
	used := r.figure(orphansProcessor, "%.0f ms")
	most := r.figure("most zombies seen", "%.0f")
	for range b.runs {
		for _, t := range b.plain {
			o, err := b.orphansOnce(ctx, t)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			took.add(t.name, millis(o.took))
			used.add(t.name, millis(o.used))
			most.add(t.name, float64(o.most))
		}
	}
	r.note("%d orphans, %d at a time, as fast as the machine makes them", b.scale.orphans, orphanBatch)
	return nil
}

type orphansSeen struct {
	took, used time.Duration
	most       int
}

func (b *bench) orphansOnce(ctx context.Context, t tool) (o orphansSeen, err error) {
	c, err := start(ctx, &b.setup, t, options{cpu: -1, log: b.log}, b.helper,
		"orphans", strconv.Itoa(b.scale.orphans), strconv.Itoa(orphanBatch))
	if err != nil {
		return o, err
	}
	defer c.end()
	if err := c.ready(); err != nil {
		return o, err
	}
	pids, err := family(c.pid)
	if err != nil {
		return o, err
	}
	before, err := processorTime(pids)
	if err != nil {
		return o, err
	}
	if err := c.tell(); err != nil {
		return o, err
	}
	began, err := c.stamp()
	if err != nil {
		return o, err
	}

	var done atomic.Bool
	most := make(chan int)
	go func() {
		seen := 0
		for !done.Load() {
			seen = max(seen, zombies(c.pid))
			time.Sleep(time.Millisecond)
		}
		most <- seen
	}()
	ended, err := c.stamp()
	done.Store(true)
	o.most = <-most
	if err != nil {
		return o, err
	}
	after, err := processorTime(pids)
	if err != nil {
		return o, err
	}
	o.took, o.used = since(began, ended), after-before
	return o, nil
}
