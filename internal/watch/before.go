package watch

import (
	"time"

	"github.com/hotinit/hotinit/internal/gitignore"
)

// Before is what was at Paths at a time before the watch begins, which is put off so that
// an app serves the sooner. The watch compares with it.
type Before struct {
	trees [][]mark
	done  chan struct{}
}

// Look goes through the paths of o, beside its caller.
func Look(o Options) *Before {
	b := &Before{trees: make([][]mark, len(o.Paths)), done: make(chan struct{})}
	go func() {
		defer close(b.done)
		ignored := gitignore.Parse(append(gitignore.Default(), o.Ignore...))
		for i, p := range o.Paths {
			x, err := newExtent(p.Pattern, ignored)
			if err != nil {
				continue // the watch says so
			}
			s := sweeper{extent: x, command: o.Command, apply: func([]need) (bool, error) { return false, nil }}
			b.trees[i] = s.sweep(sweep{first: true}).marks
		}
	}()
	return b
}

// Wait waits until all was gone through, and no longer than limit: what a large tree has
// later is then compared with what it was a little later.
func (b *Before) Wait(limit time.Duration) {
	if b == nil {
		return
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-b.done:
	case <-timer.C:
	}
}

// take returns what was found of a path, nil for nothing.
func (b *Before) take(i int, stop <-chan struct{}) []mark {
	if b == nil {
		return nil
	}
	select {
	case <-b.done:
	case <-stop:
		return nil
	}
	marks := b.trees[i]
	b.trees[i] = nil
	return marks
}
