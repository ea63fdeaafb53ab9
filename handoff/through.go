package handoff

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/hook"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/spawn"
	"github.com/hotinit/hotinit/reaper"
)

// through runs the command of --swap-through, one at a time. What {} in it stands for
// is hotinit itself, as a client that gives leave and waits for the outcome of the
// swap (control.Leave).
//
// The command outlives its handoff: init keeps its pidfd, and the pipe that it
// writes to, before it is executed, and the next handoff waits for its end. Where
// there are no pidfds, it is not known to the next handoff, which runs the command
// once more; the leave of the first one is refused then.
type through struct {
	*common
	clients *clients
	cancels map[int]chan struct{} // closed for a run that is no longer wanted
}

// throughName begins the names under which init keeps a run; its number, its PID
// and what it is follow.
const throughName = "through/"

// ask runs the command for the nth time.
func (s *through) ask(n int) {
	c := s.hook(s.cfg.SwapThrough)
	c.Dir, c.Umask, c.Credential, c.NoNewPrivs = s.home, -1, nil, false // it may ask hotinit, which the app may not
	c.Path = fmt.Sprintf("/proc/%d/exe", os.Getppid())
	for _, v := range entry.Environ() {
		if !strings.HasPrefix(v, control.LeaveVariable+"=") && !strings.HasPrefix(v, control.Variable+"=") {
			c.Env = append(c.Env, v)
		}
	}
	c.Env = append(c.Env, control.LeaveVariable+"="+control.LeaveText(os.Getppid(), n, s.name), control.Variable+"="+strconv.Itoa(os.Getppid()))
	var kept []string
	c.Forked = func(child spawn.Child, output *os.File) {
		if child.PIDFD < 0 {
			return
		}
		name := fmt.Sprintf("%s%s%d/%d/", s.kept.prefix, throughName, n, child.PID)
		raw, err := output.SyscallConn()
		if err != nil {
			return
		}
		keep := func(what string, fd int) {
			if s.link.SendWait(&message.Keep{Name: name + what, FD: fd}) == nil {
				kept = append(kept, name+what)
			}
		}
		_ = raw.Control(func(fd uintptr) { keep("output", int(fd)) })
		keep("pidfd", child.PIDFD)
	}
	s.follow(n, c, func() error {
		err := c.Run()
		for _, name := range kept {
			_ = s.link.SendWait(&message.Drop{Name: name})
		}
		return err
	})
}

// follow posts the end of a run.
func (s *through) follow(n int, c *hook.Command, run func() error) {
	cancel := make(chan struct{})
	s.cancels[n], c.Cancel = cancel, cancel
	go func() {
		reason := "the command of --swap-through ended without a swap"
		if err := run(); err != nil {
			reason = "--swap-through: " + err.Error()
		}
		s.engine.do(func() {
			delete(s.cancels, n)
			s.engine.act(machine.Event{Kind: machine.LeaveEnded, N: n, Reason: reason})
		})
	}()
}

// end kills a run.
func (s *through) end(n int) {
	if c, ok := s.cancels[n]; ok {
		delete(s.cancels, n)
		close(c)
	}
}

// resume takes over the run that the last handoff has started.
func (s *through) resume(st *machine.State) {
	fds := map[string]int{}
	pid := 0
	for name, fd := range s.kept.takeAll(func(name string) bool { return strings.HasPrefix(name, throughName) }) {
		parts := strings.Split(strings.TrimPrefix(name, throughName), "/")
		if len(parts) == 3 && parts[0] == strconv.Itoa(st.LeaveN) && st.Leave != machine.NoLeave {
			fds[parts[2]] = fd
			pid, _ = strconv.Atoi(parts[1])
		} else {
			unix.Close(fd)
			s.kept.drop(name)
		}
	}
	if st.Leave == machine.NoLeave {
		return
	}
	pidfd, ok := fds["pidfd"]
	output, ok2 := fds["output"]
	if !ok || !ok2 {
		n := st.LeaveN
		go s.engine.post(machine.Event{Kind: machine.LeaveLost, N: n})
		return
	}
	_ = unix.SetNonblock(output, true)
	c := &hook.Command{}
	s.follow(st.LeaveN, c, func() error {
		file := os.NewFile(uintptr(output), "standard error")
		defer file.Close()
		err := c.Await(reaper.Adopt(pid, pidfd), file)
		for what := range fds {
			_ = s.link.SendWait(&message.Drop{Name: fmt.Sprintf("%s%s%d/%d/%s", s.kept.prefix, throughName, st.LeaveN, pid, what)})
		}
		return err
	})
}

// answer acts upon the request of who gives leave.
func (s *through) answer(r control.Request, reply func(control.Response) bool, gone <-chan struct{}) {
	result := make(chan control.Response, 1)
	err := errors.New("hotinit is stopping")
	var steps chan string
	end := func() {}
	s.engine.ask(func() {
		st := &s.engine.state
		w := waiter{min: st.Next, before: s.clients.describe(), result: result}
		switch {
		case st.Stop != 0:
			return
		case st.Leave == machine.NoLeave || st.LeaveN != r.Leave:
			err = errors.New("no swap waits for this leave any more")
			return
		case st.Leave == machine.LeaveUsed:
			err = errors.New("the swap that this leave was for is decided, or off")
			return
		case st.Leave == machine.LeaveGiven: // to a handoff that was lost
			for _, g := range st.Gens {
				if g.Phase == machine.Preparing || g.Phase == machine.Candidate {
					w.min = g.N
				}
			}
		}
		err = nil
		s.clients.waiters = append(s.clients.waiters, w)
		steps, end = s.clients.subscribe(r)
		s.engine.act(machine.Event{Kind: machine.LeaveCome, N: r.Leave})
	})
	defer end()
	if err != nil {
		reply(control.Response{Text: err.Error()})
		return
	}
	say.Detail("leave to swap is given")
	await(result, steps, reply, gone)
}
