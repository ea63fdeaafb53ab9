package schedule

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Clock waits for a time of the wall clock. Go's own timers count on the monotonic
// clock, which stands still while the machine sleeps, and which does not notice that
// the time was set. A timerfd on CLOCK_REALTIME runs out as soon as the machine is
// awake again, and TFD_TIMER_CANCEL_ON_SET has its read fail with ECANCELED when the
// clock is set, see timerfd_create(2).
type Clock struct {
	fd   int
	file *os.File
}

// NewClock returns a clock that calls fired, on a goroutine of its own, when a time
// that was waited for has come, and with true when the clock was set.
func NewClock(fired func(set bool)) (*Clock, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot wait for a time of day: timerfd_create: %w", err)
	}
	c := &Clock{fd: fd, file: os.NewFile(uintptr(fd), "timerfd")}
	go func() {
		var count [8]byte
		for {
			_, err := c.file.Read(count[:])
			switch {
			case errors.Is(err, unix.ECANCELED):
				fired(true)
			case err != nil:
				return
			default:
				fired(false)
			}
		}
	}()
	return c, nil
}

// Wait has the clock wait for a time, and no longer for any other. The zero time is
// for none.
func (c *Clock) Wait(at time.Time) error {
	var spec unix.ItimerSpec
	if !at.IsZero() {
		spec.Value = unix.NsecToTimespec(max(at.UnixNano(), 1)) // 0 would disarm it
	}
	if err := unix.TimerfdSettime(c.fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &spec, nil); err != nil && err != unix.ECANCELED {
		return fmt.Errorf("cannot wait for %v: timerfd_settime: %w", at, err)
	}
	return nil
}

// Close ends the clock.
func (c *Clock) Close() { _ = c.file.Close() }
