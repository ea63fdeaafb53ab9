package reaper

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/poller"
)

// awaits returns what Await calls back with.
func awaits(set *poller.Set, p *Process) <-chan Exit {
	exits := make(chan Exit, 2)
	p.Await(set, func(e Exit) { exits <- e })
	return exits
}

func TestAwaitGivesTheExactStatus(t *testing.T) {
	fallback(t, func(t *testing.T) {
		var set poller.Set
		for command, want := range map[string]Exit{
			"exit 0":        {Known: true},
			"exit 255":      {Code: 255, Known: true},
			"kill -KILL $$": {Signal: unix.SIGKILL, Known: true},
		} {
			p := own(shell(t, command))
			if got := <-awaits(&set, p); got != want {
				t.Errorf("%s: %v, not %v", command, got, want)
			}
			if err := p.Signal(unix.SIGTERM); err != unix.ESRCH {
				t.Error(err)
			}
			p.Close()
		}
	})
}

func TestAwaitLearnsTheStatusOfAnothersChild(t *testing.T) {
	needExitInfo(t)
	pid, end := stranger(t, "exec sleep 60", true)
	defer end()
	var set poller.Set
	p := Adopt(pid, -1)
	defer p.Close()
	exits := awaits(&set, p)
	if err := p.Signal(unix.SIGKILL); err != nil {
		t.Error(err)
	}
	if got, want := <-exits, (Exit{Signal: unix.SIGKILL, Known: true}); got != want {
		t.Errorf("%v, not %v", got, want)
	}
}

func TestAwaitLearnsTheStatusOfOneThatIsLongGone(t *testing.T) {
	needExitInfo(t)
	c := shell(t, "exit 42")
	kept, err := unix.FcntlInt(uintptr(c.PIDFD), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := own(c)
	p.Wait()
	p.Close()
	var set poller.Set
	q := Adopt(c.PID, kept)
	defer q.Close()
	if got := <-awaits(&set, q); got != (Exit{Code: 42, Known: true}) {
		t.Error(got)
	}
}

func TestCloseEndsAwait(t *testing.T) {
	var set poller.Set
	p := own(shell(t, "exec sleep 60"))
	exits := awaits(&set, p)
	p.Close()
	if err := unix.Kill(p.PID(), unix.SIGKILL); err != nil {
		t.Error(err)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(p.PID(), &status, 0, nil); err != nil {
		t.Error(err)
	}
	q := own(shell(t, "exit 0")) // what came for the first one has come before
	defer q.Close()
	<-awaits(&set, q)
	select {
	case e := <-exits:
		t.Error("it is closed, and ends with", e)
	default:
	}
}

func TestAwaitOfOneThatIsClosedReturnsAtOnce(t *testing.T) {
	fallback(t, func(t *testing.T) {
		c := shell(t, "exec sleep 60")
		p := Adopt(c.PID, -1)
		p.Close()
		var set poller.Set
		if got := <-awaits(&set, p); got.Known {
			t.Error(got)
		}
		q := own(c)
		defer q.Close()
		if err := q.Signal(unix.SIGKILL); err != nil {
			t.Error(err)
		}
		<-awaits(&set, q)
	})
}

// TestAwaitingManyCostsNoGoroutines: 1,000 programs are one goroutine's work.
func TestAwaitingManyCostsNoGoroutines(t *testing.T) {
	const processes = 50
	var set poller.Set
	before := runtime.NumGoroutine()
	exits := make(chan Exit)
	var all []*Process
	for range processes {
		p := own(shell(t, "exec sleep 60"))
		defer p.Close()
		p.Await(&set, func(e Exit) { exits <- e })
		all = append(all, p)
	}
	if n := runtime.NumGoroutine() - before; n > 1 {
		t.Errorf("%d goroutines wait for %d processes", n, processes)
	}
	for _, p := range all {
		if err := p.Signal(unix.SIGTERM); err != nil {
			t.Error(err)
		}
	}
	for range all {
		if e := <-exits; e.Signal != unix.SIGTERM {
			t.Error(e)
		}
	}
}
