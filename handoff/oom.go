package handoff

import (
	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/cgroup"
	"github.com/hotinit/hotinit/reaper"
)

// killer tells who sent a SIGKILL that hotinit did not send: the kernel's
// out-of-memory killer, as far as its counters tell. It belongs to the loop.
type killer struct {
	looked bool
	before cgroup.Kills
}

// look notes what the counters say before anything was killed.
func (k *killer) look() {
	if !k.looked {
		k.looked, k.before = true, cgroup.OOMKills()
	}
}

// say returns what there is to say of a process that ended so, beside that.
func (k *killer) say(exit reaper.Exit, sent bool) string {
	if !exit.Known || exit.Signal != unix.SIGKILL || sent {
		return ""
	}
	before, now := k.before, cgroup.OOMKills()
	known := k.looked
	k.looked, k.before = true, now
	if !known {
		before = now
	}
	return who(before, now)
}

// who says whether the out-of-memory killer sent a SIGKILL, by what it had killed
// when that was looked at last, and now.
func who(before, now cgroup.Kills) string {
	own, machine := now.Own-before.Own, now.Machine-before.Machine
	switch {
	case now.Own >= 0 && own > 0:
		return ": out of memory (the kernel killed it for its cgroup's limit, or the machine's)"
	case now.Machine < 0:
		return ""
	case machine > 0 && now.Own < 0:
		return ", perhaps by the out-of-memory killer, which has killed on this machine meanwhile"
	}
	return ", neither by hotinit nor by the out-of-memory killer"
}
