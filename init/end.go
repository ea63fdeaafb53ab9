package pid1

import (
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/cgroup"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/proc"
)

// afterKill is how many milliseconds SIGKILL has to take effect.
const afterKill = 1000

// end ends whatever is left of the app and returns the status to exit with.
// What is left gets SIGTERM and then grace milliseconds to run its handlers
// before SIGKILL. Those that told names had a SIGTERM already.
func (p *pid1) end(status int, grace uint64, told []string) int {
	if p.hand != nil {
		p.hand.kill()
	}
	if grace == message.LeaveRest {
		return status
	}
	if childless() {
		return status
	}
	killed := grace == 0
	if killed {
		grace = afterKill
		tellAll(unix.SIGKILL)
	} else {
		terminate(told)
		tellAll(unix.SIGCONT) // one that is stopped could not act on it
	}
	wait := time.NewTimer(time.Duration(grace) * time.Millisecond)
	defer wait.Stop()
	for !childless() {
		select {
		case <-p.reaped:
			if killed {
				// Children of what was killed are init's now.
				tellAll(unix.SIGKILL)
			}
		case sig := <-p.signals:
			// Whoever stops hotinit a second time means what is left.
			tellAll(sig)
		case <-wait.C:
			if killed {
				// What SIGKILL cannot end waits for a device in the kernel;
				// the PID namespace waits for it, init need not.
				return status
			}
			killed = true
			tellAll(unix.SIGKILL)
			wait.Reset(afterKill * time.Millisecond)
		case r := <-p.messages:
			r.discard()
		}
	}
	return status
}

// removeCgroups removes what is left of those that generations were in. One
// that something is in still stays.
func (p *pid1) removeCgroups() {
	for _, k := range p.kept {
		if prefix, ok := strings.CutPrefix(k.name, message.Cgroup); ok {
			cgroup.RemoveAll(k.fd, prefix)
		}
	}
}

// childless tells whether init has no child left, without reaping one
// (waitid(2) with WNOWAIT), since go-reap does that.
func childless() bool {
	for {
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err == unix.ECHILD
		}
	}
}

const mostLooks = 10

// terminate sends SIGTERM to everything that is left but what told names.
func terminate(told []string) {
	self := os.Getpid()
	link, _ := os.Readlink("/proc/self")
	if len(told) == 0 || link != strconv.Itoa(self) { // a /proc of other PIDs, or none
		tellAll(unix.SIGTERM)
		return
	}
	done := make(map[string]bool)
	for _, key := range told {
		done[key] = true
	}
	// What is forked meanwhile is seen by another look. What forks on and on is
	// left to SIGKILL.
	for range mostLooks {
		more := false
		all := proc.All()
		if self != 1 {
			all = proc.Below(all, self)
		}
		for _, st := range all {
			if st.PID != self && st.State != 'Z' && !done[st.Key()] {
				more, done[st.Key()] = true, true
				_ = unix.Kill(st.PID, unix.SIGTERM)
			}
		}
		if !more {
			return
		}
	}
}

// tellAll signals everything that is left.
func tellAll(sig unix.Signal) {
	if os.Getpid() == 1 {
		// All processes of the namespace but init itself, kill(2).
		_ = unix.Kill(-1, sig)
		return
	}
	for _, pid := range proc.Descendants(os.Getpid()) {
		_ = unix.Kill(pid, sig)
	}
}
