package main

import (
	"context"
	"fmt"
)

// measureStartup takes two times from the instant before the init is
// executed: to the command's first instruction, and to the end of it all for a
// command that ends at once. What is between the two is the command's end, and
// the init's. The same without an init is subtracted; done once more under another
// name, it shows how much of a difference is chance.
func measureStartup(ctx context.Context, b *bench, r *report) error {
	first := r.figure(firstInstruction, "%.2f ms")
	end := r.figure(exitToEnd, "%.2f ms")
	whole := r.figure(wholeRun, "%.2f ms")
	again := tool{name: nameDirectAgain}
	tools := append(append([]tool{direct()}, b.plain...), again)

	var floor []float64
	for run := -1; run < b.runs; run++ {
		firsts, ends, wholes := make(map[string][]float64), make(map[string][]float64), make(map[string][]float64)
		for range b.scale.starts {
			for _, t := range tools {
				f, w, err := b.startOnce(ctx, t)
				if err != nil {
					return fmt.Errorf("%s: %w", t.name, err)
				}
				firsts[t.name] = append(firsts[t.name], f)
				ends[t.name] = append(ends[t.name], w-f)
				wholes[t.name] = append(wholes[t.name], w)
			}
		}
		if run < 0 {
			continue // the caches are warm now
		}
		floor = append(floor, median(firsts[nameDirect]))
		for _, t := range tools[1:] {
			first.add(t.name, median(firsts[t.name])-median(firsts[nameDirect]))
			end.add(t.name, median(ends[t.name])-median(ends[nameDirect]))
			whole.add(t.name, median(wholes[t.name])-median(wholes[nameDirect]))
		}
	}
	r.note("without an init the command's first instruction comes after %.2f ms; each value is a median of %d starts",
		median(floor), b.scale.starts)
	return nil
}

// startOnce is in milliseconds.
func (b *bench) startOnce(ctx context.Context, t tool) (first, whole float64, err error) {
	c, err := start(ctx, &b.setup, t, options{cpu: -1, log: b.log}, b.helper, "stamp")
	if err != nil {
		return 0, 0, err
	}
	defer c.end()
	stamp, err := c.stamp()
	if err != nil {
		return 0, 0, err
	}
	status, err := c.wait()
	if err != nil {
		return 0, 0, err
	}
	ended := now()
	if status.ExitStatus() != 0 {
		return 0, 0, fmt.Errorf("ended with status %d instead of the command's 0", status.ExitStatus())
	}
	return millis(since(c.began, stamp)), millis(since(c.began, ended)), nil
}
