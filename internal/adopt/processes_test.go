package adopt

import (
	"os"
	"slices"
	"testing"

	"github.com/hotinit/hotinit/internal/poller"
	"github.com/hotinit/hotinit/internal/proc"
)

func TestWhoseAProcessIs(t *testing.T) {
	const init = 1
	self := os.Getpid()
	r := &rig{t: t, foreign: 500}
	a := New(r, new(poller.Set), false, map[string]int{})
	first, second, ended := Gen{N: 1}, Gen{N: 2}, Gen{N: 3}
	a.gens[first] = &generation{n: first, pid: 100}
	a.gens[second] = &generation{n: second, pid: 200}
	a.gens[ended] = &generation{n: ended, pid: 300} // its main process
	all := a.whose([]proc.Stat{
		{PID: self, Parent: init, Group: self},
		{PID: 100, Parent: init, Group: 100},
		{PID: 900, Parent: init, Group: 900}, // left everything
		{PID: 301, Parent: init, Group: 300}, // its parent has ended
		{PID: 501, Parent: init, Group: 500}, // of another program, whose parent goes on elsewhere
		{PID: 500, Parent: init, Group: 500}, // another program
		{PID: 200, Parent: self, Group: 200},
		{PID: 77, Parent: self, Group: self}, // was just forked
		{PID: 101, Parent: 100, Group: 101},
		{PID: 102, Parent: 100, State: 'Z'},
		{PID: 103, Parent: 100, Group: 200}, // below one, in the group of the other
		{PID: 901, Parent: 900, Group: 900},
		{PID: 902, Parent: 900, Group: 100},
		{PID: 502, Parent: 500, Group: 502},
		{PID: 104, Parent: 101, Group: 104},
		{PID: 503, Parent: 502, Group: 100},
		{PID: 302, Parent: 301, Group: 302},
		{PID: 78, Parent: 77, Group: 900},
		{PID: 201, Parent: 200, Group: 201},
		{PID: 202, Parent: 201, Group: 202},
		{PID: 105, Parent: 104, Group: self},
		{PID: 903, Parent: 901, Group: self},
		{PID: 504, Parent: 503, Group: 200},
		{PID: 106, Parent: 105, Group: 500},
		{PID: 904, Parent: 903, Group: 500}, // of whoever was in that group
		{PID: 905, Parent: 903, State: 'Z'},
		{PID: 906, Parent: 902, Group: 10000},
	})
	free := []int{900, 901, 903}
	for n, want := range map[Gen][]int{
		first:  {100, 101, 103, 902, 104, 105, 106, 906},
		second: {200, 201, 202},
		ended:  {301, 302},
	} {
		got, ok := all.of(n)
		if want = append(want, free...); !ok || !slices.Equal(got, want) {
			t.Errorf("generation %d has %v (%v), not %v", n.N, got, ok, want)
		}
	}
	if got, ok := all.of(Gen{N: 4}); ok {
		t.Errorf("a generation that is not known has %v", got)
	}
	if got, ok := a.whose(nil).of(first); ok {
		t.Errorf("where nothing is seen there are %v", got)
	}
}

// A thousand programs that bind nothing are not looked for in all processes, each of them.
func TestWhereNothingIsHeldNoProcessIsLookedAt(t *testing.T) {
	r := newRig(t, false)
	n := Gen{N: 1}
	app, fd := r.spawn(n)
	r.a.Resume(map[Gen]int{n: app.pid}, map[Gen]int{n: fd}, func() []proc.Stat {
		t.Error("all processes are looked at")
		return nil
	})
	app.serve("tcp", "127.0.0.1:0") // its calls are answered
}
