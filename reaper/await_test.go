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

// waiting runs a test with each way to learn how a process ends. exit begins to wait.
func waiting(t *testing.T, f func(t *testing.T, exit func(*Process) <-chan Exit)) {
	t.Run("Wait", func(t *testing.T) {
		f(t, func(p *Process) <-chan Exit {
			exits := make(chan Exit, 1)
			go func() { exits <- p.Wait() }()
			return exits
		})
	})
	t.Run("Await", func(t *testing.T) {
		var set poller.Set
		f(t, func(p *Process) <-chan Exit { return awaits(&set, p) })
	})
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
