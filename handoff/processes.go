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
	"github.com/hotinit/hotinit/internal/threads"
	"github.com/hotinit/hotinit/reaper"
)

// process is one generation's main process, and what is known about the others.
type process struct {
	n     int
	plan  *plan
	pid   int
	group int    // its process group, the first main process's PID
	start uint64 // when its first main process started, 0 if that is not known
	main  *reaper.Process
	since time.Time

	terminated map[string]bool // the others that got SIGTERM, by proc.Stat.Key
	status     string          // its last STATUS=
	note       string          // stopping or reloading, as it said
	ended      bool
	killed     bool          // hotinit sent SIGKILL to its main process
	awaited    bool          // something waits for it to accept on sockets of its own
	done       chan struct{} // closed by stop
	stop       func()        // ends the wait for its readiness, nil where nothing waits
}

// processes are the processes of a program's generations.
type processes struct {
	*common
	cgroups *cgroups
	all     map[int]*process // by the generation's number
	past    []control.Past   // generations that have ended, for status
	without sync.Once        // endWithout is under way
}

// attach registers p and posts Exited when its main process ends.
func (s *processes) attach(p *process) {
	s.all[p.n] = p
	s.mains.add(p, s.name)
	s.await(p)
	s.shared.attached.Do(func() {
		go func() {
			s.engine.do(s.killer.look)
			s.thread.releaseTraced()
		}()
	})
}

// reserveThreads is called while the kernel executes the first app, which may reach
// its limit of processes at once. To call it before that would add a third of a
// millisecond to every start.
func (s *shared) reserveThreads() {
	s.reserve.Do(func() { threads.Reserve(spareThreads) })
}

// spareThreads are for reading files, and for two system calls that happen to take
// long.
const spareThreads = 3

func (s *processes) await(p *process) {
	main := p.main
	main.Await(&s.poller, func(exit reaper.Exit) {
		s.engine.do(func() { s.exited(p, main, exit) })
	})
}

func (s *processes) exited(p *process, main *reaper.Process, exit reaper.Exit) {
	if p.main != main {
		main.Close() // it named another process as its main one since
		return
	}
	if p.ended {
		return // it ended after it was given up
	}
	how := exit.String() + s.killer.say(exit, p.killed)
	s.notePast(p, exit, how)
	s.ended(p, statusOf(exit), how)
}

func (s *processes) ended(p *process, status int, how string) {
	p.ended = true
	s.mains.remove(p)
	if p.stop != nil {
		p.stop()
	}
	s.engine.act(machine.Event{Kind: machine.Exited, N: p.n, Status: status, Reason: how})
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
	s.mains.remove(p)
	p.main, p.pid = main, pid
	s.mains.add(p, s.name)
	s.keepProcess(p)
	st, _ := proc.Read(pid)
	s.engine.act(machine.Event{Kind: machine.MainReplaced, N: n, PID: pid, Start: st.Start})
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
		s.line("%v", err)
	}
}

func processName(n int) string { return "pidfd/" + strconv.Itoa(n) }

func (s *processes) tell(n, sig int) {
	p := s.all[n]
	if p == nil || p.ended {
		return
	}
	signal := unix.Signal(sig)
	p.killed = p.killed || signal == unix.SIGKILL
	if s.cfg.Verbosity > 2 {
		s.line("generation %d gets %s", n, machine.SignalName(sig))
	}
	var err error
	if p.plan.cfg.Group {
		if signal == unix.SIGTERM {
			s.noteTerminated(p)
		}
		err = p.main.SignalGroup(p.group, signal)
	} else {
		err = p.main.Signal(signal)
	}
	if s.engine.state.Stop != 0 && err == nil {
		s.wake(p, signal)
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		s.line("cannot send %s to generation %d: %v", machine.SignalName(sig), n, err)
	}
}

// wake continues the processes of a generation that are stopped (somebody sent
// SIGSTOP), once hotinit stops: they could not act upon the signal that ends them.
func (s *processes) wake(p *process, sent unix.Signal) {
	switch sent {
	case unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		return
	}
	st, err := proc.Read(p.pid)
	if err != nil || st.State != 'T' {
		return
	}
	_ = p.main.Signal(unix.SIGCONT)
	if p.plan.cfg.Group {
		_ = p.main.SignalGroup(p.group, unix.SIGCONT)
	}
}

// noteTerminated notes which processes are in the group now and are about to get
// SIGTERM with it. To many a daemon a second SIGTERM means "at once", so they
// get no other when the main process has ended. A process that joins the group
// just now may get two.
func (s *processes) noteTerminated(p *process) {
	for _, st := range s.mains.near(p.pid, p.group, p.ended) {
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
	var failed error
	if !p.ended {
		p.killed = true
		_ = p.main.SignalGroup(p.group, unix.SIGKILL)
		failed = p.main.Signal(unix.SIGKILL)
	}
	s.cgroups.kill(n)
	for _, pid := range s.members(p) {
		signalProcess(pid, unix.SIGKILL)
	}
	if failed != nil && !errors.Is(failed, unix.ESRCH) {
		s.line("generation %d cannot be killed: process %d: %v", n, p.pid, failed)
	}
	if s.engine.state.Stop != 0 {
		s.without.Do(s.endWithout)
	}
}

// afterKill is how long SIGKILL may take to have its effect.
const afterKill = 500 * time.Millisecond

// endWithout treats what was killed since hotinit stops as ended, some time later:
// a process may belong to another user, so that SIGKILL was not allowed, or wait
// for a device in the kernel.
func (s *processes) endWithout() {
	time.AfterFunc(afterKill, func() {
		s.engine.do(func() {
			for n, p := range s.all {
				if g := s.engine.state.Find(n); !p.ended && g != nil && g.Killed {
					s.line("generation %d has not ended %v after SIGKILL; hotinit exits without it", n, afterKill)
					s.ended(p, exitcode.Signaled(unix.SIGKILL), "did not end upon SIGKILL")
				}
			}
		})
	})
}

// members returns a generation's processes besides its main one: those of its
// process group, those below it, those that left both but still have its number
// in their environment, and those in its cgroup.
func (s *processes) members(p *process) []int {
	self, all := os.Getpid(), s.mains.near(p.pid, p.group, p.ended)
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
			if s.named(st.PID) == generation {
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

// named returns which generation of this program a process has in its environment,
// "" for none. Below another hotinit, which an app may be, generations have the same
// numbers; NOTIFY_SOCKET tells whose they are.
func (s *processes) named(pid int) string {
	address, ok := proc.Getenv(pid, "NOTIFY_SOCKET")
	if ok && s.contract.Notify != "" && address != s.contract.Notify {
		return ""
	}
	// Several programs have generations of the same numbers, and what --check runs has
	// no NOTIFY_SOCKET.
	mine := os.Getenv(programVariable)
	if s.member {
		mine = s.cfg.Program
	}
	if program, _ := proc.Getenv(pid, programVariable); program != mine {
		return ""
	}
	if _, own := fileOf(s.name); s.member {
		number, _ := proc.Getenv(pid, instanceVariable)
		if n, _ := strconv.Atoi(number); n != own {
			return ""
		}
	}
	n, _ := proc.Getenv(pid, "HOTINIT_GENERATION")
	return n
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

// reapAfter is how long a main process stays a zombie once its end is known. The kernel
// says that a process has ended before its last thread is through with its entries of
// /proc, and wait(2) removes these as well, if somebody has ever read one of them: it
// spins until that thread is. Where the two share a processor, that is for a whole time
// slice, in the moment in which the new generation gets its first requests.
const reapAfter = 20 * time.Millisecond

// sweep terminates what is left of a generation whose main process ended, and
// posts Empty once nothing is.
func (s *processes) sweep(n int, last bool) {
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
	if last {
		// The verdict comes next, and init terminates all that is left, once.
		p.main.Close()
		return
	}
	left := s.members(p)
	time.AfterFunc(reapAfter, p.main.Close)
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

// ownerOf returns the generation that a process belongs to, or 0. The process
// is a generation's main process or below it; or else in its cgroup; or else, since
// an orphan is below none, in its process group or with its number in the
// environment.
//
// A process can join the group of another generation, and it can change its
// environment, but neither its ancestors nor its start time. So the first rule
// comes first, and the last one holds for no process that is older than the
// generation.
func (s *processes) ownerOf(pid int) int {
	line := lineage(pid)
	for _, st := range line {
		for n, p := range s.all {
			if p.pid == st.PID {
				return n
			}
		}
	}
	for n := range s.all {
		if slices.Contains(s.cgroups.members(n), pid) {
			return n
		}
	}
	if len(line) == 0 || line[len(line)-1].Parent != os.Getppid() {
		return 0 // it has ended, or is not below init
	}
	named := s.named(pid)
	for n, p := range s.all {
		if line[0].Start < p.start {
			continue
		}
		inGroup := slices.ContainsFunc(line, func(st proc.Stat) bool { return st.Group == p.group })
		if named == strconv.Itoa(n) || inGroup && named == "" {
			return n
		}
	}
	return 0
}

// lineage returns a process and its ancestors below init, as far as there are any.
func lineage(pid int) (line []proc.Stat) {
	for init := os.Getppid(); pid > 1 && pid != init && len(line) < 256; {
		st, err := proc.Read(pid)
		if err != nil {
			break
		}
		line = append(line, st)
		pid = st.Parent
	}
	return line
}

// mayTake reports whether the terminal may be given to generation n: whether its
// foreground group is hotinit's own, one of another generation, or gone. A group
// that n's own process has made (an interactive shell makes one for each job)
// keeps the terminal, and so does a group that is not below hotinit.
func (s *processes) mayTake(t *terminal, n int) bool {
	if t.fd < 0 {
		return false
	}
	if s.cfg.Session {
		return true // each generation takes the terminal for a session of its own
	}
	group, err := unix.IoctlGetInt(t.fd, unix.TIOCGPGRP)
	if err != nil {
		return false
	}
	if group == unix.Getpgrp() || unix.Kill(-group, 0) == unix.ESRCH {
		return true
	}
	for _, p := range s.all {
		if p.group == group {
			return true
		}
	}
	below := proc.Descendants(os.Getppid())
	inGroup := func(st proc.Stat) bool { return st.Group == group }
	if p := s.all[n]; p != nil && slices.ContainsFunc(proc.Below(below, p.pid), inGroup) {
		return false
	}
	return slices.ContainsFunc(below, inGroup)
}

// mostPast is how many ended generations are remembered for status.
const mostPast = 10

func (s *processes) notePast(p *process, exit reaper.Exit, how string) {
	s.past = append(s.past, control.Past{N: p.n, Since: p.since, Ended: time.Now(), How: how, Status: statusOf(exit)})
	if len(s.past) > mostPast {
		s.past = s.past[len(s.past)-mostPast:]
	}
}
