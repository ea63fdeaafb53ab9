package reaper

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/proc"
	"github.com/hotinit/hotinit/internal/spawn"
)

func TestExitIsWorded(t *testing.T) {
	for want, e := range map[string]struct {
		exit   Exit
		status int
	}{
		"exited with status 3":            {Exit{Code: 3, Known: true}, 3},
		"killed by signal 9 (SIGKILL)":    {Exit{Signal: unix.SIGKILL, Known: true}, 137},
		"killed by signal 40":             {Exit{Signal: 40, Known: true}, 168},
		"ended (its status is not known)": {Exit{}, 0},
	} {
		if got := e.exit.String(); got != want || e.exit.Status() != e.status {
			t.Errorf("%q, %d", got, e.exit.Status())
		}
	}
}

func TestOwnGivesTheExactStatus(t *testing.T) {
	both := func(t *testing.T, exit func(*Process) <-chan Exit) {
		for command, want := range map[string]Exit{
			"exit 0":        {Known: true},
			"exit 255":      {Code: 255, Known: true},
			"kill -TERM $$": {Signal: unix.SIGTERM, Known: true},
			"kill -ABRT $$": {Signal: unix.SIGABRT, Known: true},
			"kill -KILL $$": {Signal: unix.SIGKILL, Known: true},
			"kill -40 $$":   {Signal: 40, Known: true},
		} {
			p := own(shell(t, command))
			if got := <-exit(p); got != want {
				t.Errorf("%s: %v, not %v", command, got, want)
			}
			if err := p.Signal(unix.SIGTERM); err != unix.ESRCH {
				t.Error(err)
			}
			p.Close()
		}
	}
	fallback(t, func(t *testing.T) { waiting(t, both) })
}

func TestEveryWaiterGetsTheStatus(t *testing.T) {
	p := own(shell(t, "exit 7"))
	defer p.Close()
	got := make(chan Exit)
	for range 5 {
		go func() { got <- p.Wait() }()
	}
	for range 5 {
		if e := <-got; e.Code != 7 || !e.Known {
			t.Error(e)
		}
	}
}

func TestAnEndedProcessIsAZombieUntilRelease(t *testing.T) {
	fallback(t, func(t *testing.T) {
		p := own(shell(t, "exit 0"))
		defer p.Close()
		p.Wait()
		if st, _ := proc.Read(p.PID()); st.State != 'Z' {
			t.Errorf("its state is %c", st.State)
		}
		p.Release()
		if _, err := StartTime(p.PID()); err == nil {
			t.Error("it is there still")
		}
	})
}

func TestReleaseLeavesARunningProcess(t *testing.T) {
	p := own(shell(t, "exec sleep 60"))
	defer p.Close()
	p.Release()
	if err := p.Signal(unix.SIGTERM); err != nil {
		t.Error(err)
	}
	if got := p.Wait(); got.Signal != unix.SIGTERM {
		t.Error(got)
	}
}

func TestSignalIsESRCHOnceItEnded(t *testing.T) {
	fallback(t, func(t *testing.T) {
		p := own(shell(t, "exit 0"))
		p.Wait()
		for _, step := range []func(){func() {}, p.Release, p.Close} {
			step()
			if err := p.Signal(unix.SIGTERM); err != unix.ESRCH {
				t.Error(err)
			}
		}
	})
}

// survivor is a group whose leader ends at once, while a member stays. The
// member holds the pipe's writing end: its end is the pipe's.
func survivor(t *testing.T) (p *Process, gone func()) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	name := "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(fds[1])
	p = own(shell(t, "exec 5>"+name+"; sleep 60 & exit 0"))
	p.Wait()
	_ = unix.Close(fds[1])
	r := os.NewFile(uintptr(fds[0]), "pipe")
	return p, func() {
		t.Helper()
		if n, _ := r.Read(make([]byte, 1)); n != 0 {
			t.Error("the member wrote something")
		}
		_ = r.Close()
	}
}

func TestSignalGroupReachesTheGroupOfAnEndedLeader(t *testing.T) {
	fallback(t, func(t *testing.T) {
		p, gone := survivor(t)
		defer p.Close()
		if err := p.SignalGroup(p.PID(), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		gone()
	})
}

func TestSignalGroupReachesTheGroupOfAReleasedLeader(t *testing.T) {
	fallback(t, func(t *testing.T) {
		p, gone := survivor(t)
		defer p.Close()
		p.Release()
		if err := p.SignalGroup(p.PID(), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		gone()
	})
}

func TestSignalGroupIsESRCHForAGroupThatIsGone(t *testing.T) {
	fallback(t, func(t *testing.T) {
		p := own(shell(t, "exit 0"))
		defer p.Close()
		p.Wait()
		p.Release()
		if err := p.SignalGroup(p.PID(), unix.SIGKILL); err != unix.ESRCH {
			t.Error(err)
		}
	})
}

func TestSignalGroupRefusesAnothersGroup(t *testing.T) {
	p := own(shell(t, "exec sleep 60"))
	defer p.Close()
	other := own(shell(t, "exec sleep 60"))
	defer other.Close()
	if err := p.SignalGroup(other.PID(), unix.SIGKILL); err != unix.ESRCH {
		t.Error(err)
	}
	for _, pgid := range []int{-1, 0, 1} {
		if err := p.SignalGroup(pgid, unix.SIGKILL); err != unix.EINVAL {
			t.Error(pgid, err)
		}
	}
	for _, q := range []*Process{p, other} {
		if err := q.Signal(unix.SIGTERM); err != nil {
			t.Error(err)
		}
		q.Wait()
	}
}

func TestAdoptLearnsTheStatusWhenTheParentCollects(t *testing.T) {
	needExitInfo(t)
	waiting(t, func(t *testing.T, exit func(*Process) <-chan Exit) {
		pid, end := stranger(t, "exec sleep 60", true)
		defer end()
		p := Adopt(pid, -1)
		defer p.Close()
		exits := exit(p)
		if err := p.Signal(unix.SIGKILL); err != nil {
			t.Error(err)
		}
		if got, want := <-exits, (Exit{Signal: unix.SIGKILL, Known: true}); got != want {
			t.Errorf("%v, not %v", got, want)
		}
	})
}

func TestAdoptLearnsTheStatusOfOneThatIsLongGone(t *testing.T) {
	needExitInfo(t)
	waiting(t, func(t *testing.T, exit func(*Process) <-chan Exit) {
		c := shell(t, "exit 42")
		kept, err := unix.FcntlInt(uintptr(c.PIDFD), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		p := own(c)
		p.Wait()
		p.Close()
		q := Adopt(c.PID, kept)
		defer q.Close()
		if got := <-exit(q); got != (Exit{Code: 42, Known: true}) {
			t.Error(got)
		}
		if err := q.Signal(unix.SIGTERM); err != unix.ESRCH {
			t.Error(err)
		}
	})
}

func TestAdoptOfAProcessThatIsGoneDoesNotKnow(t *testing.T) {
	fallback(t, func(t *testing.T) {
		c := shell(t, "exit 0")
		p := Own(c.PID, c.PIDFD)
		p.Wait()
		p.Close()
		q := Adopt(c.PID, -1)
		defer q.Close()
		if got := q.Wait(); got.Known {
			t.Error(got)
		}
	})
}

func TestAdoptWithoutPIDFDNoticesTheEnd(t *testing.T) {
	forceNoPIDFD = true
	defer func() { forceNoPIDFD = false }()
	pid, end := stranger(t, "exec sleep 60", true)
	defer end()
	p := Adopt(pid, -1)
	defer p.Close()
	if err := p.Signal(unix.SIGTERM); err != nil {
		t.Error(err)
	}
	if got := p.Wait(); got.Known {
		t.Error(got)
	}
}

func TestCloseEndsWait(t *testing.T) {
	for _, no := range []bool{false, true} {
		forceNoPIDFD = no
		pid, end := stranger(t, "exec sleep 60", true)
		p := Adopt(pid, -1)
		got := make(chan Exit)
		go func() { got <- p.Wait() }()
		p.Close()
		if e := <-got; e.Known {
			t.Error(e)
		}
		forceNoPIDFD = false
		end()
	}
}

func TestWaitingForManyNeedsFewThreads(t *testing.T) {
	const processes, threads = 300, 60
	// Each reads from a pipe that nobody writes to, so that it stays however
	// long it takes to start them all, and ends with the test at the latest.
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fds[0]) }()
	defer func() { _ = unix.Close(fds[1]) }()
	exits := make(chan Exit)
	var all []*Process
	for range processes {
		c, err := spawn.Start(&spawn.Spec{
			Path: "/bin/cat", FD: -1, Argv: []string{"cat"}, Files: []int{fds[0], 2, 2},
			Umask: -1, Foreground: -1, Cgroup: -1,
		})
		if err != nil {
			t.Fatal(err)
		}
		p := own(c)
		all = append(all, p)
		go func() { exits <- p.Wait() }()
	}
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "Threads:\t")
	line, _, _ := strings.Cut(rest, "\n")
	if n, err := strconv.Atoi(line); err != nil || n > threads {
		t.Errorf("%d threads (%v)", n, err)
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
	for _, p := range all {
		p.Close()
	}
}
