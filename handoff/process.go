package handoff

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/proc"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/threads"
	"github.com/hotinit/hotinit/reaper"
)

// process is the loop's view of one generation's processes.
type process struct {
	n     int
	pid   int
	group int // its process group, the first main process's PID
	main  *reaper.Process
	since time.Time

	told   map[string]bool // those besides the main one that had a SIGTERM, by proc.Stat.Key
	status string          // its last STATUS=
	note   string          // stopping or reloading, as it said
	ended  bool
	stop   func() // ends what waits for its readiness, nil where nothing does
}

// attach makes p known and has Exited follow once its main process has ended.
func (s *supervisor) attach(p *process) {
	s.procs[p.n] = p
	s.await(p)
	s.reserve.Do(func() { go threads.Reserve(spareThreads) })
}

// spareThreads are for reading files and for two system calls that happen to
// take long.
const spareThreads = 3

func (s *supervisor) await(p *process) {
	main := p.main
	go func() {
		exit := main.Wait()
		s.loop.inputs <- input{call: func() { s.exited(p, main, exit) }}
	}()
}

func (s *supervisor) exited(p *process, main *reaper.Process, exit reaper.Exit) {
	if p.main != main {
		main.Close() // it named another process as its main one since
		return
	}
	p.ended = true
	if p.stop != nil {
		p.stop()
	}
	s.notePast(p.n, exit)
	s.loop.act(machine.Event{Kind: machine.Exited, N: p.n, Status: statusOf(exit), Reason: exit.String()})
}

// statusOf is what hotinit exits with for an app that ended so. Where that is
// not known it must not look like success.
func statusOf(exit reaper.Exit) int {
	if !exit.Known {
		return exitcode.Failure
	}
	return exit.Status()
}

// replaceMain has another process count as a generation's main one.
func (s *supervisor) replaceMain(n, pid int) {
	p := s.procs[n]
	main := reaper.Adopt(pid, -1)
	old := p.main
	p.main, p.pid = main, pid
	if g := s.loop.state.Find(n); g != nil {
		g.PID = pid
		if st, err := proc.Read(pid); err == nil {
			g.Start = st.Start
		}
	}
	s.keepProcess(p)
	s.await(p)
	_ = old // its own wait ends by itself, and reaps it
}

// keepProcess has init hold the pidfd of a generation's main process, so that
// the next handoff can tell how it ended though it was reaped in between.
func (s *supervisor) keepProcess(p *process) {
	fd := p.main.PIDFD()
	if fd < 0 {
		return
	}
	if err := s.link.keep(processName(p.n), fd); err != nil {
		say.Line("%v", err)
	}
}

// sayWithoutPIDFDs says what is less exact where the kernel, or a filter, has no
// pidfds. Nobody who runs another tool by its name has asked for them.
func (s *supervisor) sayWithoutPIDFDs() {
	if s.cfg.Compat != "" || s.cfg.Verbosity == 0 {
		return
	}
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err == nil {
		err = unix.PidfdSendSignal(fd, 0, nil, 0)
		unix.Close(fd)
	}
	if err == unix.ENOSYS || err == unix.EPERM {
		say.Line("there are no pidfds here (pidfd_open: %v; Linux 5.3 has them): processes are told by PID and start time, each generation costs a thread, and how it ended is not known where the handoff was lost meanwhile", err)
	}
}

func processName(n int) string { return "generation/" + strconv.Itoa(n) }

func (s *supervisor) tell(n, sig int) {
	p := s.procs[n]
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
			p.noteTold()
		}
		err = p.main.SignalGroup(p.group, signal)
	} else {
		err = p.main.Signal(signal)
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		say.Line("cannot send %s to generation %d: %v", machine.SignalName(sig), n, err)
	}
}

// noteTold notes which processes are in the group now, and are about to get
// SIGTERM by it. To many a daemon a second one means "at once", so they get none
// when the main process has ended. One that comes into the group just now has
// two rather than none.
func (p *process) noteTold() {
	for _, st := range proc.Descendants(os.Getppid()) {
		if st.Group == p.group && st.PID != p.pid {
			p.hasTold(st)
		}
	}
}

func (p *process) hasTold(st proc.Stat) {
	if p.told == nil {
		p.told = make(map[string]bool)
	}
	p.told[st.Key()] = true
}

// mostTold bounds how many processes the verdict names. Any more would not fit
// into a message, and have a second SIGTERM.
const mostTold = 2048

// toldOf returns those of all generations that had a SIGTERM.
func (s *supervisor) toldOf() (keys []string) {
	for _, p := range s.procs {
		for key := range p.told {
			if len(keys) < mostTold {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// kill sends SIGKILL to everything that belongs to a generation.
func (s *supervisor) kill(n int) {
	p := s.procs[n]
	if p == nil {
		return
	}
	if !p.ended {
		_ = p.main.SignalGroup(p.group, unix.SIGKILL)
		_ = p.main.Signal(unix.SIGKILL)
	}
	s.killCgroup(n)
	for _, pid := range s.members(p) {
		signalProcess(pid, unix.SIGKILL)
	}
}

// members returns the processes that a generation consists of besides its
// main one: those of its group, those below it, those that left both but still
// have its number in their environment, and whatever is in its cgroup.
func (s *supervisor) members(p *process) []int {
	init, self := os.Getppid(), os.Getpid()
	all := proc.Descendants(init)
	mine := make(map[int]bool)
	groups := make(map[int]bool)
	for _, o := range s.procs {
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
	for _, pid := range s.inCgroup(p.n) {
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
	_ = unix.PidfdSendSignal(fd, sig, nil, 0)
}

// sweep has what is left of a generation whose main process ended go, and
// Empty follow once it has.
func (s *supervisor) sweep(n int) {
	p := s.procs[n]
	if p == nil {
		go s.loop.post(machine.Event{Kind: machine.Empty, N: n})
		return
	}
	if p.main == nil {
		// The handoff before has told them. Twice would be one too many: to
		// many a daemon the second means "at once".
		s.awaitEmpty(n, s.inCgroup(n), false)
		return
	}
	if s.loop.state.Over {
		// The verdict comes next, and init tells all that is left, once.
		p.main.Close()
		return
	}
	left := s.members(p)
	p.main.Close()
	s.awaitEmpty(n, left, true)
	s.link.drop(processName(n))
}

// awaitEmpty waits for these processes of a generation, and for those that come
// to be in its cgroup meanwhile, and has Empty follow. tell has them go.
func (s *supervisor) awaitEmpty(n int, pids []int, tell bool) {
	var waits []*reaper.Process
	for _, pid := range pids {
		w := reaper.Adopt(pid, -1)
		if tell {
			st, err := proc.Read(pid)
			if p := s.procs[n]; p == nil || err != nil || !p.told[st.Key()] {
				_ = w.Signal(unix.SIGTERM)
				if p != nil && err == nil {
					p.hasTold(st)
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
		s.loop.inputs <- input{call: func() {
			if more := s.inCgroup(n); len(more) > 0 {
				s.awaitEmpty(n, more, true)
				return
			}
			delete(s.procs, n)
			s.removeCgroup(n)
			s.loop.act(machine.Event{Kind: machine.Empty, N: n})
		}}
	}()
}

func (s *supervisor) say(text string) {
	s.reopenLog()
	say.Line("%s", text)
}

// findTerminal notes the controlling terminal, if hotinit is in its
// foreground: one that was started in the background must not take it.
func (s *supervisor) findTerminal() {
	for fd := range 3 {
		group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		if err == nil && (group == unix.Getpgrp() || len(s.procs) > 0) {
			s.terminal = fd
			if s.cfg.Session {
				s.freeTerminal()
			}
			return
		}
	}
}

// freeTerminal has init, where it leads the session, let go of its controlling
// terminal, and waits until it has: only then the app's own session can have it
// (--setsid).
func (s *supervisor) freeTerminal() {
	if leader, err := unix.Getsid(0); err != nil || leader != os.Getppid() {
		return // it is a shell's, and stays so
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return
	}
	defer unix.Close(pipe[0])
	err := s.link.SendWait(&message.Terminal{Number: s.terminal, FD: pipe[1]})
	unix.Close(pipe[1])
	if err == nil {
		_, _ = unix.Read(pipe[0], make([]byte, 1)) // its end
	}
}

// foreground gives the terminal to a generation. The handoff is in the
// background, where the kernel would send SIGTTOU; that is blocked.
func (s *supervisor) foreground(n int) {
	p := s.procs[n]
	if s.terminal < 0 || p == nil {
		return
	}
	_ = unix.IoctlSetPointerInt(s.terminal, unix.TIOCSPGRP, p.group)
}
