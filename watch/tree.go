package watch

import (
	"errors"
	"time"
)

// tree is the watch on one of Options.Paths.
type tree struct {
	polled bool
	eyes   func(sweep) scan
}

type sweep struct{}

type scan struct {
	err error
}

func (t *tree) next(now time.Duration) (*sweep, time.Duration) { return nil, 0 }
func (t *tree) found(now time.Duration, s scan) *Event         { return nil }
func (t *tree) note(now time.Duration, n note)                 {}
func (t *tree) look()                                          {}
func (l *loop) plant() error {
	if len(l.o.Paths) > 0 {
		return errors.New("more paths cannot be watched yet")
	}
	return nil
}
