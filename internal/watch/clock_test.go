package watch

import (
	"sync"
	"time"
)

// A clock is the loop's in a test that has much to do before the watch may
// find it quiet. While it is stopped no time passes, however long the test
// takes. It runs from the beginning.
type clock struct {
	mu      sync.Mutex
	stopped bool
	offset  time.Duration // at since, or where it is stopped
	since   time.Time
}

func (c *clock) now() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped || c.since.IsZero() {
		return c.offset
	}
	return c.offset + time.Since(c.since)
}

func (c *clock) stop() {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped, c.offset = true, now
}

func (c *clock) run() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped, c.since = false, time.Now()
}

// pass lets time pass at once while it is stopped.
func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}
