package pid1

import (
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/cgroup"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/proc"
	"github.com/hotinit/hotinit/internal/say"
)

const (
	// afterKill is how long SIGKILL may take to have its effect.
	afterKill = time.Second
	// withoutHandoff is how long init waits for the handoff to be reaped.
	withoutHandoff = 100 * time.Millisecond
	// lastGrace is what the app gets where init ends everything by itself and no
	// --stop-timeout is known.
	lastGrace = 9 * time.Second
)

// endAlone ends everything where no handoff gives the verdict, and says so in the line
// that the handoff would. That comes first: it may be that --log-file is a command, and
// that nobody reads lines once everything has ended.
func (p *pid1) endAlone(status int, grace time.Duration, why string) int {
	say.Line("ends with status %d: %s", status, why)
	return p.end(&message.Exit{Status: status, Grace: grace})
}

// end ends everything that is left of the app and returns the status to exit
// with. What is left gets SIGTERM, and SIGKILL after the grace.
func (p *pid1) end(m *message.Exit) int {
	if m.Alone && os.Getpid() == 1 {
		return m.Status // the kernel ends the handoff with init, pid_namespaces(7)
	}
	if p.hand != nil {
		p.hand.kill()
	}
	if m.Leave || p.alone() {
		return m.Status
	}
	grace := m.Grace
	killed := grace <= 0
	if killed {
		grace = afterKill
		signalAll(unix.SIGKILL)
	} else {
		terminate(m.Terminated)
	}
	wait := time.NewTimer(grace)
	defer wait.Stop()
	for !childless() {
		select {
		case <-p.reaped:
			if killed {
				// The children of what was killed are init's now.
				signalAll(unix.SIGKILL)
			}
		case r := <-p.signals:
			// Whoever stops hotinit a second time means what is left.
			signalAll(r.sig)
		case <-wait.C:
			if killed {
				// SIGKILL does not end a process that waits for a device in the
				// kernel, and it may not be sent to a process of another user. The
				// PID namespace waits for such processes; init need not.
				say.Line("some processes did not end %v after SIGKILL; hotinit exits without them", afterKill)
				return m.Status
			}
			killed = true
			signalAll(unix.SIGKILL)
			wait.Reset(afterKill)
		case r := <-p.messages:
			r.discard()
		}
	}
	return m.Status
}

// alone reports whether nothing is left but the handoff that was just killed.
// To know that, it waits until the handoff is gone, and collects it, unless go-reap
// did: then a single system call answers, where the processes of the machine would
// have to be read otherwise.
func (p *pid1) alone() bool {
	if p.hand == nil || p.hand.child.PIDFD < 0 {
		return childless()
	}
	if !p.hand.awaitEnd(withoutHandoff) {
		return false
	}
	for {
		_, err := unix.Wait4(p.hand.child.PID, nil, unix.WNOHANG, nil)
		if err != unix.EINTR {
			return childless()
		}
	}
}

// awaitEnd waits until the handoff has ended, with this thread: that takes less time
// than to pass the news through the goroutines of go-reap.
func (h *handoff) awaitEnd(limit time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(h.child.PIDFD), Events: unix.POLLIN}}
	for end := time.Now().Add(limit); ; {
		left := unix.NsecToTimespec(max(time.Until(end), 0).Nanoseconds())
		n, err := unix.Ppoll(fds, &left, nil)
		if err != unix.EINTR {
			return n > 0
		}
	}
}

// removeCgroups removes the generations' cgroups. One that still has a process
// in it stays.
func (p *pid1) removeCgroups() {
	for name, fd := range p.kept {
		if prefix, ok := strings.CutPrefix(name, message.Cgroup); ok {
			cgroup.RemoveAll(fd, prefix)
		}
	}
}

// childless reports whether init has no child left. It reaps none (waitid(2)
// with WNOWAIT), since go-reap does that.
func childless() bool {
	for {
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err == unix.ECHILD
		}
	}
}

// mostLooks bounds how often terminate looks for processes that were forked
// since it looked last. What forks on and on is left to SIGKILL.
const mostLooks = 10

// terminate sends SIGTERM to everything that is left but the processes that
// terminated names, and SIGCONT to all, since a stopped process could not act
// upon SIGTERM.
func terminate(terminated []string) {
	if os.Getpid() == 1 && len(terminated) == 0 {
		signalAll(unix.SIGTERM)
		signalAll(unix.SIGCONT)
		return
	}
	before := make(map[string]bool)
	for _, key := range terminated {
		before[key] = true
	}
	seen := make(map[string]bool)
	for range mostLooks {
		more := false
		for _, st := range others() {
			if !st.Alive() || seen[st.Key()] {
				continue
			}
			more, seen[st.Key()] = true, true
			if !before[st.Key()] {
				_ = unix.Kill(st.PID, unix.SIGTERM)
			}
			_ = unix.Kill(st.PID, unix.SIGCONT)
		}
		if !more {
			break
		}
	}
	if len(seen) == 0 { // there is no /proc to find them in
		signalAll(unix.SIGTERM)
		signalAll(unix.SIGCONT)
	}
}

// others returns the processes that init ends: those below it and, where init is
// PID 1, those that were put into its PID namespace from outside.
func others() []proc.Stat {
	if os.Getpid() != 1 {
		return proc.Descendants(os.Getpid())
	}
	if self, err := os.Readlink("/proc/self"); err != nil || self != "1" {
		return nil // a /proc of another PID namespace, or none
	}
	return slices.DeleteFunc(proc.All(), func(st proc.Stat) bool { return st.PID == 1 })
}

// signalAll signals everything that is left.
func signalAll(sig unix.Signal) {
	if os.Getpid() == 1 {
		// These are all processes of the PID namespace but init itself, kill(2).
		_ = unix.Kill(-1, sig)
		return
	}
	for _, st := range others() {
		if st.Alive() {
			_ = unix.Kill(st.PID, sig)
		}
	}
}
