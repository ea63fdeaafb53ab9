package handoff

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/fault"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/proc"
	"github.com/hotinit/hotinit/internal/release"
	"github.com/hotinit/hotinit/internal/spawn"
	"github.com/hotinit/hotinit/reaper"
)

// launch finds out what the paths lead to, and starts that.
func (s *starts) launch(j *job) (machine.Event, bool) {
	select {
	case <-j.cancel:
		return s.refused(j, errors.New("it was stopped")), true
	default:
	}
	now, held := *j, release.Command{}
	if r := s.releases.held[j.key]; r != nil && j.source == machine.Held {
		held = r.command
	}
	before := s.releases.lookBefore(s.plan, s.watchedOf(j))
	return s.beside(j, func() func() (machine.Event, bool) {
		at := s.locate(&now, held)
		before.Wait(lookWithin)
		return func() (machine.Event, bool) { return s.start(j, at) }
	})
}

// start forks and executes. It runs in the loop, so that no event comes between
// the process and the state that knows about it.
func (s *starts) start(j *job, at located) (machine.Event, bool) {
	if at.log >= 0 {
		defer unix.Close(at.log)
	}
	select {
	case <-j.cancel:
		return s.refused(j, errors.New("it was stopped")), true
	default:
	}
	switch {
	case at.replaced:
		return s.again(j, true, fmt.Errorf("%s was replaced after it was checked", s.target(j)))
	case at.moved:
		return s.again(j, true, fmt.Errorf("%s leads to another file than the one that was checked", s.target(j)))
	}
	if j.copy == nil && j.source == machine.Newest && j.file != nil {
		j.origin = at.command
	}
	j.command = at.command
	if s.trust != nil && !j.verified {
		return s.refused(j, fmt.Errorf("%s was not verified, which is an error of hotinit", s.target(j))), true
	}
	if at.logErr != nil {
		return s.refused(j, at.logErr), true
	}
	s.shareCopy(j)
	s.logs.reopen()
	std, written, err := s.outputs.open(s.common, j.n, at.log)
	if err != nil {
		return s.unprepared(j, err)
	}
	spec, ready, err := s.spec(j, at, std)
	if err != nil {
		written()
		s.outputs.drop(j.n)
		return s.unprepared(j, err)
	}
	key := s.keyOf(j)
	p := &process{n: j.n, plan: s.plan, since: time.Now()}
	spec.Cgroup = s.cgroups.make(j.n)
	spec.Meanwhile = s.reserveThreads
	spec.Forked = func(c spawn.Child) {
		// The child waits until this returns. Once it is recorded, the next
		// handoff knows about it; before, it ends without executing anything.
		p.pid, p.group = c.PID, c.PID
		st, _ := proc.Read(c.PID)
		p.start = st.Start
		s.engine.apply(machine.Event{Kind: machine.Forked, N: j.n, Release: key, PID: c.PID, Start: st.Start})
		j.forked = true
		if c.PIDFD >= 0 {
			_ = s.kept.keep(processName(j.n), c.PIDFD)
		}
		s.adoption.keep(j.n, c.Listener)
		if j.source == machine.Newest {
			s.releases.hold(key, &heldRelease{file: j.file, path: s.target(j), command: j.command, origin: j.origin, copy: j.copy})
		}
		s.cgroups.enter(j.n, spec.Cgroup, c)
		_ = fault.At("effect", "before", "forked")
		s.recordForked()
		_ = fault.At("effect", "after", "forked")
	}
	var child spawn.Child
	s.thread.do(func() { child, err = spawn.Start(spec) })
	_ = fault.At("effect", "after", "executed")
	written()
	ready.closeChild()
	if spec.Cgroup >= 0 {
		unix.Close(spec.Cgroup)
	}
	if err != nil {
		ready.close()
		s.outputs.drop(j.n)
		s.kept.drop(processName(j.n))
		s.adoption.drop(j.n)
		return s.startFailed(j, err)
	}
	p.main = reaper.Own(child.PID, child.PIDFD)
	s.adoption.answer(j.n, child)
	if !s.proveExecutable(j, child.PID) {
		// Somebody replaced the file between the check and the execution.
		_ = p.main.SignalGroup(p.group, unix.SIGKILL)
		_ = p.main.Signal(unix.SIGKILL)
		s.cgroups.kill(j.n)
		s.outputs.drop(j.n)
		s.kept.drop(processName(j.n))
		go func() { p.main.Wait(); p.main.Close() }()
		ready.close()
		s.note("%s was replaced while generation %d was started from it: that process (PID %d) is ended, and the generation started anew", s.target(j), j.n, child.PID)
		return s.again(j, true, fmt.Errorf("%s was replaced while it was started", s.target(j)))
	}
	s.processes.attach(p)
	s.outputs.started(j.n)
	s.probes.await(p, ready)
	if j.source == machine.Held && s.releases.memory.store == nil {
		target := s.target(j)
		go s.engine.do(func() { // after the line that it is started
			s.note("generation %d is an older release: after a restart, hotinit will start %s again (--state-dir remembers what was rejected)", j.n, target)
		})
	}
	s.noteSigned(j)
	s.putBack(j)
	s.watch(j)
	return machine.Event{Kind: machine.Started, N: j.n, Release: key, PID: child.PID, Start: p.start}, true
}

// spec says how a generation is started.
func (s *starts) spec(j *job, at located, std [3]int) (*spawn.Spec, *readiness, error) {
	ready, err := s.probes.open(j.n)
	if err != nil {
		return nil, nil, err
	}
	spec := &spawn.Spec{
		Path:       j.command.Path,
		FD:         -1,
		Argv:       slices.Clone(j.command.Argv),
		Env:        j.env,
		SelfPID:    j.self,
		Files:      s.contract.Files(std, ready.childFD()),
		Dir:        j.command.Dir,
		Umask:      s.cfg.Umask,
		Signals:    entry.Inherited(),
		Credential: s.credential(),
		NoNewPrivs: s.cfg.NoNewPrivs,
		Setpgid:    true,
		Setsid:     s.cfg.Session,
		Foreground: -1,
		Limit:      executeWithin,
		Cgroup:     -1,
	}
	if j.foreground && !s.member && s.processes.mayTake(s.terminal, j.n) {
		spec.Foreground = s.terminal.fd
	}
	defer func() { s.adoption.filter(spec, s.plan) }()
	if j.file == nil {
		return spec, ready, nil
	}
	spec.NoShell = j.script < 0 && (j.file.Kind == release.KindELF || j.file.Kind == release.KindDoubtful)
	j.byFD = at.copied && j.copy == nil
	switch {
	case j.copy != nil:
		// By its path in the copy, where it finds what lies beside it.
	case j.byFD:
		spec.FD = j.file.FD()
	case j.source == machine.Newest:
		// By its path, so that it has its own name in ps(1). What then runs is
		// compared with what was checked.
	case j.script >= 0 && at.atReal:
		spec.Argv[j.script] = j.file.Real
	case j.script >= 0:
		ready.closeChild()
		ready.close()
		return nil, nil, &refusal{exitcode.Failure, fmt.Sprintf("the last good release of %s was replaced, and %s can only read what is at a path", j.file.Path, j.argv[0])}
	case at.atPath:
	case at.atReal:
		spec.Path = j.file.Real
	default:
		j.byFD = true
		spec.FD = j.file.FD()
	}
	return spec, ready, nil
}

// proveExecutable reports whether the process runs the file that was checked, as
// it was checked: nobody can write to a file that runs. A process that has ended,
// or cannot be inspected, proves nothing. Neither does an interpreter; its script
// was compared just before.
func (s *starts) proveExecutable(j *job, pid int) bool {
	if j.file == nil || !s.guarded(j, j.found.tree) || j.byFD || j.copy != nil || j.script >= 0 || j.file.Kind != release.KindELF {
		return true
	}
	exe := fmt.Sprintf("/proc/%d/exe", pid)
	var st unix.Stat_t
	if err := statCached(exe, &st); err != nil {
		return true
	}
	return isFile(&st, j.file) && (j.source == machine.Held || asWas(&st, j.file))
}

// startFailed decides what follows an error of spawn.Start.
func (s *starts) startFailed(j *job, err error) (machine.Event, bool) {
	var e *spawn.Error
	if errors.As(err, &e) {
		switch {
		case s.adoption.unfiltered(e, s.plan):
			return s.launch(j)
		case e.Op == "fork" && (e.Err == unix.EAGAIN || e.Err == unix.ENOMEM || j.short(err)):
			return s.again(j, false, err)
		case e.Op == "exec" && e.Err == unix.ENOEXEC && j.file != nil && j.file.Doubt != "":
			return s.refused(j, &refusal{exitcode.NotExecutable, fmt.Sprintf("%s: %s", s.target(j), j.file.Doubt)}), true
		case e.Op == "exec" && e.Err == unix.ETXTBSY:
			// A writer has it open still, and what it writes is to be checked.
			return s.again(j, true, err)
		}
		return s.refused(j, exitRefusal(err)), true
	}
	return s.refused(j, err), true
}

// short reports whether a start failed for want of descriptors. It may pass, and the
// release is not to blame for it; but a first start has nothing to wait for.
func (j *job) short(err error) bool {
	return j.n > 1 && (errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE))
}

// unprepared decides what follows where a start could not be prepared.
func (s *starts) unprepared(j *job, err error) (machine.Event, bool) {
	if j.short(err) {
		return s.again(j, false, err)
	}
	return s.refused(j, err), true
}

// watch watches what a job was started from, if nothing is watched yet.
func (s *starts) watch(j *job) {
	if !s.cfg.Watch && len(s.cfg.WatchPaths) == 0 || s.releases.watches || s.releases.plan != s.plan {
		return
	}
	s.releases.watch(s.watchedOf(j), j.script >= 0)
}

// watchedOf is the file of a job that is watched, "" for none.
func (s *starts) watchedOf(j *job) string {
	if s.cfg.Watch && (s.watchable(j) || s.cfg.Check != "" || s.cfg.Snapshot) {
		return s.target(j)
	}
	return ""
}

// watchResumed is watch for a handoff that takes over, which need not start
// anything.
func (s *starts) watchResumed() {
	j := &job{script: -1}
	go func() {
		err := s.resolve(j)
		s.engine.do(func() {
			if err != nil {
				s.line("cannot watch for new releases: %v; a new generation is started when asked for", err)
				return
			}
			s.watch(j)
		})
	}()
}
