package reaper

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/proc"
)

// Without pidfds (Linux before 5.3, some sandboxes) a child costs a thread while it
// runs, and a process of another parent is polled.

func (p *Process) waitOwnBlocking() Exit {
	for {
		var info siginfo
		if err := waitid(unix.P_PID, p.pid, &info, unix.WEXITED|unix.WNOWAIT); err != nil {
			return Exit{}
		}
		if info.ended() {
			return info.exit()
		}
		time.Sleep(firstPause) // until ReleaseTraced lets it go
	}
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

// same reports whether the PID still belongs to this process, and it runs.
func (p *Process) same() bool {
	if p.start == 0 {
		// It was gone before newProcess read it, or /proc is not mounted.
		return unix.Kill(p.pid, 0) != unix.ESRCH
	}
	st, err := proc.Read(p.pid)
	return err == nil && st.Start == p.start && st.Alive()
}
