package handoff

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/kernel"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/proc"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/threads"
	"github.com/hotinit/hotinit/reaper"
)

// process is one generation's main process, and what is known about the others.
type process struct {
	n     int
	pid   int
	group int // its process group, the first main process's PID
	main  *reaper.Process
	since time.Time

	terminated map[string]bool // the others that got SIGTERM, by proc.Stat.Key
	status     string          // its last STATUS=
	note       string          // stopping or reloading, as it said
	ended      bool
	stop       func() // ends the wait for its readiness, nil where nothing waits
}

// processes are the processes of a program's generations.
type processes struct {
	*common
	cgroups *cgroups
	all     map[int]*process // by the generation's number
	past    []control.Past   // generations that have ended, for status
	reserve sync.Once        // threads are kept in reserve once an app runs
}

// attach registers p and posts Exited when its main process ends.
func (s *processes) attach(p *process) {
	s.all[p.n] = p
	s.await(p)
	s.reserve.Do(func() { go threads.Reserve(spareThreads) })
}

// spareThreads are for reading files, and for two system calls that happen to take
// long.
const spareThreads = 3

func (s *processes) await(p *process) {
	main := p.main
	go func() {
		exit := main.Wait()
		s.engine.do(func() { s.exited(p, main, exit) })
	}()
}

func (s *processes) exited(p *process, main *reaper.Process, exit reaper.Exit) {
	if p.main != main {
		main.Close() // it named another process as its main one since
		return
	}
	p.ended = true
	if p.stop != nil {
		p.stop()
	}
	s.notePast(p.n, exit)
	s.engine.act(machine.Event{Kind: machine.Exited, N: p.n, Status: statusOf(exit), Reason: exit.String()})
}

// statusOf is what hotinit exits with for an app that ended so. A status that is
// not known must not look like success.
func statusOf(exit reaper.Exit) int {
	if !exit.Known {
		return exitcode.Failure
	}
	return exit.Status()
}

// replaceMain makes another process a generation's main one.
func (s *processes) replaceMain(n, pid int) {
	p := s.all[n]
	main := reaper.Adopt(pid, -1)
	old := p.main
	p.main, p.pid = main, pid
	if g := s.engine.state.Find(n); g != nil {
		g.PID = pid
		if st, err := proc.Read(pid); err == nil {
			g.Start = st.Start
		}
	}
	s.keepProcess(p)
	s.await(p)
	_ = old // its own wait ends by itself, and reaps it
}

// keepProcess makes init keep the pidfd of a generation's main process. The next
// handoff learns from it how the process ended, even if it was reaped meanwhile.
func (s *processes) keepProcess(p *process) {
	fd := p.main.PIDFD()
	if fd < 0 {
		return
	}
	if err := s.kept.keep(processName(p.n), fd); err != nil {
		say.Line("%v", err)
	}
}

func processName(n int) string { return "pidfd/" + strconv.Itoa(n) }

func (s *processes) tell(n, sig int) {
	p := s.all[n]
	if p == nil || p.ended {
		return
	}
	signal := unix.Signal(sig)
	if s.cfg.Verbosity > 2 {
		say.Line("generation %d gets %s", n, machine.SignalName(sig))
	}
	var err error
	if s.cfg.Group {
		if signal == unix.SIGTERM {
			p.noteTerminated()
		}
		err = p.main.SignalGroup(p.group, signal)
	} else {
		err = p.main.Signal(signal)
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		say.Line("cannot send %s to generation %d: %v", machine.SignalName(sig), n, err)
	}
}

// noteTerminated notes which processes are in the group now and are about to get
// SIGTERM with it. To many a daemon a second SIGTERM means "at once", so they
// get no other when the main process has ended. A process that joins the group
// just now may get two.
func (p *process) noteTerminated() {
	for _, st := range proc.Descendants(os.Getppid()) {
		if st.Group == p.group && st.PID != p.pid {
			p.wasTerminated(st)
		}
	}
}

func (p *process) wasTerminated(st proc.Stat) {
	if p.terminated == nil {
		p.terminated = make(map[string]bool)
	}
	p.terminated[st.Key()] = true
}

// mostTerminated bounds how many processes the verdict names. More would not fit
// into a message; they get a second SIGTERM.
const mostTerminated = 2048

// terminated returns the processes of all generations that got SIGTERM.
func (s *processes) terminated() (keys []string) {
	for _, p := range s.all {
		for key := range p.terminated {
			if len(keys) < mostTerminated {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// kill sends SIGKILL to everything that belongs to a generation.
func (s *processes) kill(n int) {
	p := s.all[n]
	if p == nil {
		return
	}
	if !p.ended {
		_ = p.main.SignalGroup(p.group, unix.SIGKILL)
		_ = p.main.Signal(unix.SIGKILL)
	}
	s.cgroups.kill(n)
	for _, pid := range s.members(p) {
		signalProcess(pid, unix.SIGKILL)
	}
}

// members returns a generation's processes besides its main one: those of its
// process group, those below it, those that left both but still have its number
// in their environment, and those in its cgroup.
func (s *processes) members(p *process) []int {
	init, self := os.Getppid(), os.Getpid()
	all := proc.Descendants(init)
	mine := make(map[int]bool)
	groups := make(map[int]bool)
	for _, o := range s.all {
		groups[o.group] = o != p
	}
	for _, st := range proc.Below(all, p.pid) {
		mine[st.PID] = true
	}
	generation := strconv.Itoa(p.n)
	for _, st := range all {
		switch others, known := groups[st.Group]; {
		case !st.Alive() || st.PID == self || mine[st.PID]:
		case known && others:
		case st.Group == p.group:
			mine[st.PID] = true
		default:
			if v, ok := proc.Getenv(st.PID, "HOTINIT_GENERATION"); ok && v == generation {
				mine[st.PID] = true
			}
		}
	}
	var pids []int
	for _, st := range all {
		if mine[st.PID] && st.Alive() {
			pids = append(pids, st.PID)
		}
	}
	for _, pid := range s.cgroups.members(p.n) {
		if !mine[pid] {
			pids = append(pids, pid)
		}
	}
	return slices.DeleteFunc(pids, func(pid int) bool { return pid == p.pid || pid == self })
}

// signalProcess signals a process of which only the PID is known, by way of a
// pidfd where there are any, so that the time in which the PID can become
// another's is as short as can be.
func signalProcess(pid int, sig unix.Signal) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		if err != unix.ESRCH {
			_ = unix.Kill(pid, sig)
		}
		return
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); kernel.Missing(err) {
		_ = unix.Kill(pid, sig)
	}
}

// sweep terminates what is left of a generation whose main process ended, and
// posts Empty once nothing is.
func (s *processes) sweep(n int) {
	p := s.all[n]
	if p == nil {
		go s.engine.post(machine.Event{Kind: machine.Empty, N: n})
		return
	}
	if p.main == nil {
		// The last handoff sent SIGTERM. To many a daemon a second one means
		// "at once".
		s.awaitEmpty(n, s.cgroups.members(n), false)
		return
	}
	if s.engine.state.Over {
		// The verdict comes next, and init terminates all that is left, once.
		p.main.Close()
		return
	}
	left := s.members(p)
	p.main.Close()
	s.awaitEmpty(n, left, true)
	s.kept.drop(processName(n))
}

// awaitEmpty waits until these processes of a generation have ended, and those
// that appear in its cgroup meanwhile, and posts Empty. terminate says whether
// they get SIGTERM first.
func (s *processes) awaitEmpty(n int, pids []int, terminate bool) {
	var waits []*reaper.Process
	for _, pid := range pids {
		w := reaper.Adopt(pid, -1)
		if terminate {
			st, err := proc.Read(pid)
			if p := s.all[n]; p == nil || err != nil || !p.terminated[st.Key()] {
				_ = w.Signal(unix.SIGTERM)
				if p != nil && err == nil {
					p.wasTerminated(st)
				}
			}
			_ = w.Signal(unix.SIGCONT) // one that is stopped could not act on it
		}
		waits = append(waits, w)
	}
	go func() {
		for _, w := range waits {
			w.Wait()
			w.Close()
		}
		s.engine.do(func() {
			if more := s.cgroups.members(n); len(more) > 0 {
				s.awaitEmpty(n, more, true)
				return
			}
			delete(s.all, n)
			s.cgroups.remove(n)
			s.engine.act(machine.Event{Kind: machine.Empty, N: n})
		})
	}()
}

// ownerOf returns the generation that a process belongs to, or 0: it is the
// generation's main process, in its group, below it, or else has its number
// in its environment.
func (s *processes) ownerOf(pid int) int {
	for at, steps := pid, 0; at > 1 && steps < 64; steps++ {
		st, err := proc.Read(at)
		if err != nil {
			break
		}
		for n, p := range s.all {
			if p.pid == at || p.group == st.Group {
				return n
			}
		}
		at = st.Parent
	}
	if v, ok := proc.Getenv(pid, "HOTINIT_GENERATION"); ok {
		if n, err := strconv.Atoi(v); err == nil && s.all[n] != nil && below(pid) {
			return n
		}
	}
	return 0
}

// below reports whether a process descends from init.
func below(pid int) bool {
	for init, steps := os.Getppid(), 0; pid > 1 && steps < 256; steps++ {
		st, err := proc.Read(pid)
		if err != nil {
			return false
		}
		if st.Parent == init {
			return true
		}
		pid = st.Parent
	}
	return false
}

// mostPast is how many ended generations are remembered for status.
const mostPast = 10

func (s *processes) notePast(n int, exit reaper.Exit) {
	s.past = append(s.past, control.Past{N: n, Ended: time.Now(), How: exit.String(), Status: statusOf(exit)})
	if len(s.past) > mostPast {
		s.past = s.past[len(s.past)-mostPast:]
	}
	if g := s.engine.state.Find(n); g != nil && (g.Phase == machine.Retiring || s.cfg.Verbosity > 1) {
		say.Line("generation %d ended: %s", n, exit)
	}
}
