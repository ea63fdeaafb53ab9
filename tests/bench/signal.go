package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os/exec"
	"strconv"
	"time"
)

// measureSignal keeps everything on one processor, so that each hop between
// processes costs a switch, as on a small container.
func measureSignal(ctx context.Context, b *bench, r *report) error {
	middle := r.figure(roundTrip, "%.1f µs")
	tail := r.figure(roundTripTail, "%.1f µs")
	tools := append([]tool{direct()}, b.plain...)
	for range b.runs {
		for _, t := range tools {
			trips, err := b.pingOnce(ctx, t)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			middle.add(t.name, median(trips))
			tail.add(t.name, quantile(trips, 0.99))
		}
	}
	r.note("USR1 to the init, a byte back from the command's handler; %d round trips", b.scale.pings)
	return nil
}

// pingOnce is in microseconds.
func (b *bench) pingOnce(ctx context.Context, t tool) ([]float64, error) {
	const cpu = 0
	c, err := start(ctx, &b.setup, t, options{cpu: cpu, log: b.log}, b.helper, "rest")
	if err != nil {
		return nil, err
	}
	defer c.end()
	if err := c.ready(); err != nil {
		return nil, err
	}
	if err := pause(ctx, settle/5); err != nil {
		return nil, err
	}
	limit, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	count := b.scale.pings
	sender := exec.CommandContext(limit, b.helper, "ping", strconv.Itoa(cpu),
		strconv.Itoa(c.pid), strconv.Itoa(count), strconv.Itoa(count/10))
	sender.Stdin, sender.Stderr = c.out, b.log
	raw, err := sender.Output()
	if err != nil {
		return nil, fmt.Errorf("signals were not answered: %w", err)
	}
	var trips []float64
	for len(raw) >= 8 {
		trips = append(trips, micros(time.Duration(binary.NativeEndian.Uint64(raw))))
		raw = raw[8:]
	}
	return trips, nil
}
