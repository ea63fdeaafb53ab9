package handoff

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/cgroup"
	"github.com/hotinit/hotinit/reaper"
)

func TestWhoSentSIGKILLIsSaidAsFarAsItIsKnown(t *testing.T) {
	for _, c := range []struct {
		before, now cgroup.Kills
		want        string
	}{
		{cgroup.Kills{Own: 1, Machine: 5}, cgroup.Kills{Own: 2, Machine: 6}, "out of memory"},
		{cgroup.Kills{Own: 1, Machine: 5}, cgroup.Kills{Own: 1, Machine: 6}, "neither"},
		{cgroup.Kills{Own: -1, Machine: 5}, cgroup.Kills{Own: -1, Machine: 6}, "perhaps"},
		{cgroup.Kills{Own: -1, Machine: 5}, cgroup.Kills{Own: -1, Machine: 5}, "neither"},
		{cgroup.Kills{Own: -1, Machine: -1}, cgroup.Kills{Own: -1, Machine: -1}, ""},
	} {
		if got := who(c.before, c.now); !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%+v, %+v: %q, not %q", c.before, c.now, got, c.want)
		}
	}
	k := &killer{}
	k.look()
	killed := reaper.Exit{Known: true, Signal: unix.SIGKILL}
	if got := k.say(killed, true); got != "" {
		t.Errorf("hotinit sent it: %q", got)
	}
	for _, exit := range []reaper.Exit{{Known: true, Signal: unix.SIGTERM}, {Known: true, Code: 137}, {Signal: unix.SIGKILL}} {
		if got := k.say(exit, false); got != "" {
			t.Errorf("%v: %q", exit, got)
		}
	}
}
