package reaper

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/proc"
)

// Without pidfds (Linux before 5.3, some sandboxes) an own process costs a
// thread while it runs, and one of another parent is looked at from time to
// time.

func (p *Process) waitOwnBlocking() Exit {
	var info siginfo
	if err := waitid(unix.P_PID, p.pid, &info, unix.WEXITED|unix.WNOWAIT); err != nil {
		return Exit{}
	}
	return info.exit()
}

const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
)

func (p *Process) waitByPolling() Exit {
	pause := firstPause
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for p.same() {
		select {
		case <-timer.C:
		case <-p.closing:
			return Exit{}
		}
		pause = min(2*pause, lastPause)
		timer.Reset(pause)
	}
	return Exit{}
}

// same tells whether the process of that PID is still ours, and no zombie.
func (p *Process) same() bool {
	if p.start == 0 {
		// It was gone when we came, or /proc is not mounted.
		return unix.Kill(p.pid, 0) != unix.ESRCH
	}
	st, err := proc.Read(p.pid)
	return err == nil && st.Start == p.start && st.Alive()
}
