package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// betweenRenames leaves a generation the time to become current and its
// predecessor the time to go.
const betweenRenames = 200 * time.Millisecond

const (
	watchByRename = "rename, hotinit"
	watchByHUP    = "HUP, hotinit"
	watchByHand   = "rename, then started by hand"
)

// measureWatch takes the time from rename(2) to the first instruction of the
// new generation, beside a rename after which this process starts it itself,
// and beside a HUP, which needs no watching.
func measureWatch(ctx context.Context, b *bench, r *report) error {
	acted := r.figure(triggerToStart, "%.2f ms")
	acted.own = watchByRename
	for range b.runs {
		renamed, hupped, err := b.watchOnce(ctx)
		if err != nil {
			return err
		}
		floor, err := b.startByHand(ctx)
		if err != nil {
			return err
		}
		acted.add(watchByRename, median(renamed))
		acted.add(watchByHUP, median(hupped))
		acted.add(watchByHand, median(floor))
	}
	r.note("%d renames and as many HUPs a run; the file is %s", b.scale.renames, size(b.helper))
	return nil
}

// release writes the helper to a file whose content is like no other: what
// follows an executable's last section is of no account.
func (b *bench) release(to string, number int) error {
	content, err := os.ReadFile(b.helper)
	if err != nil {
		return err
	}
	return writeRelease(to, content, number)
}

func writeRelease(to string, content []byte, number int) error {
	content = fmt.Appendf(content[:len(content):len(content)], "\nrelease %d %d\n", number, now())
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return err
	}
	// Else some file systems write it out when it is renamed over another, and
	// the time would count as the watcher's.
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

func size(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return "of unknown size"
	}
	return fmt.Sprintf("%d KiB", info.Size()/1024)
}

// watchOnce is in milliseconds.
func (b *bench) watchOnce(ctx context.Context) (renamed, hupped []float64, err error) {
	dir, err := os.MkdirTemp(b.dir, "watch")
	if err != nil {
		return nil, nil, err
	}
	app, next := filepath.Join(dir, "app"), filepath.Join(dir, "app.new")
	if err := b.release(app, 0); err != nil {
		return nil, nil, err
	}
	hot := tool{name: nameHotinit, argv: []string{b.hotinit, "--ready", "notify", "--"}}
	c, err := start(ctx, &b.setup, hot, options{cpu: -1, log: b.log}, app, "generation")
	if err != nil {
		return nil, nil, err
	}
	defer c.end()
	if _, err := c.stamp(); err != nil {
		return nil, nil, err
	}
	for i := range b.scale.renames {
		if err := b.release(next, i+1); err != nil {
			return nil, nil, err
		}
		took, err := trigger(ctx, c, func() error { return os.Rename(next, app) })
		if err != nil {
			return nil, nil, fmt.Errorf("after rename %d: %w", i+1, err)
		}
		renamed = append(renamed, took)
		took, err = trigger(ctx, c, func() error { return c.signal(hup) })
		if err != nil {
			return nil, nil, fmt.Errorf("after HUP %d: %w", i+1, err)
		}
		hupped = append(hupped, took)
	}
	return renamed, hupped, nil
}

// trigger waits for quiet, does what has to bring a new generation, and
// returns how many milliseconds it was until that one's first instruction.
func trigger(ctx context.Context, c *container, what func() error) (float64, error) {
	if err := pause(ctx, betweenRenames); err != nil {
		return 0, err
	}
	before := now()
	if err := what(); err != nil {
		return 0, err
	}
	stamp, err := c.stamp()
	if err != nil {
		return 0, err
	}
	return millis(since(before, stamp)), nil
}

// startByHand is the floor: no watching, no check, and no generation before.
func (b *bench) startByHand(ctx context.Context) (took []float64, err error) {
	app := filepath.Join(b.dir, "by-hand")
	next := app + ".new"
	for i := range b.scale.renames {
		if err := b.release(next, i); err != nil {
			return nil, err
		}
		if err := pause(ctx, betweenRenames/4); err != nil {
			return nil, err
		}
		before := now()
		if err := os.Rename(next, app); err != nil {
			return nil, err
		}
		out, err := exec.CommandContext(ctx, app, "stamp").Output()
		if err != nil {
			return nil, err
		}
		stamp, err := parseStamp(out)
		if err != nil {
			return nil, err
		}
		took = append(took, millis(since(before, stamp)))
	}
	return took, nil
}
