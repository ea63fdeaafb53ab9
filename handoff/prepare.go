package handoff

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/contract"
	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/hook"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/proc"
	"github.com/hotinit/hotinit/internal/release"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/spawn"
	"github.com/hotinit/hotinit/reaper"
)

// job is one generation on its way to a process.
type job struct {
	n      int
	source machine.Source
	key    string // of a Held release
	env    []string
	self   []string // variables that get its PID
	path   string   // what is executed
	argv   []string
	script int           // index in argv of the file that is watched, -1: it is path itself
	file   *release.File // what was checked, nil where nothing is
	byFD   bool          // the descriptor is executed, not the path

	// command is what is executed: path, argv and the working directory as they
	// are resolved when the generation is started, or were for a Held release.
	command release.Command

	tries  int
	told   bool // that it has to wait
	cancel chan struct{}
}

// refusal is a release that was not started, and the status to exit with
// where it was the first.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

func (s *supervisor) prepare(n int, source machine.Source, key string) (machine.Event, bool) {
	j := &job{n: n, source: source, key: key, script: -1, cancel: make(chan struct{})}
	if err := s.resolve(j); err != nil {
		return s.refused(j, err), true
	}
	return s.proceed(j)
}

// errBusy is that a file is being written.
var errBusy = errors.New("somebody has it open for writing")

// proceed starts a job, after checks that run beside the loop where there are
// any to be made.
func (s *supervisor) proceed(j *job) (machine.Event, bool) {
	var examine func() error
	switch {
	case j.source == machine.Held && (j.file == nil || intact(j.file)):
		return s.launch(j)
	case j.source == machine.Held:
		read, err := reread(j.file)
		if err != nil {
			return s.refused(j, err), true
		}
		examine = func() error { return s.stillGood(j, read) }
	case !s.checked(j):
		return s.launch(j)
	default:
		j.file = s.takeOffered(s.target(j))
		if j.file != nil && s.cfg.Check == "" && !s.copies(j) {
			return s.launch(j)
		}
		examine = func() error { return s.examine(j) }
	}
	s.cancels[j.n] = j.cancel
	go func() {
		err := examine()
		s.loop.inputs <- input{call: func() {
			delete(s.cancels, j.n)
			if ev, ok := s.examined(j, err); ok {
				s.loop.act(ev)
			}
		}}
	}()
	return machine.Event{}, false
}

// examined goes on with a job once it was checked.
func (s *supervisor) examined(j *job, err error) (machine.Event, bool) {
	switch {
	case err == nil:
		return s.launch(j)
	case errors.Is(err, errBusy), errors.Is(err, unix.EAGAIN):
		return s.again(j, true, fmt.Errorf("%s: %w", s.target(j), err))
	}
	return s.refused(j, err), true
}

func (s *supervisor) cancel(n int) {
	if c, ok := s.cancels[n]; ok {
		delete(s.cancels, n)
		close(c)
	}
}

// refused is the event of a release that was not started.
func (s *supervisor) refused(j *job, err error) machine.Event {
	ev := machine.Event{Kind: machine.NotStarted, N: j.n, Status: exitcode.Failure, Reason: err.Error()}
	s.removeCgroup(j.n) // of a start that failed
	var r *refusal
	if errors.As(err, &r) {
		ev.Status = r.status
	}
	if j.file != nil {
		ev.Release = s.keyOf(j)
		s.putBack(j)
	}
	return ev
}

// resolve works out what to execute, in which environment.
func (s *supervisor) resolve(j *job) error {
	var err error
	if j.env, j.self, err = s.contract.Environment(j.n); err != nil {
		return err
	}
	j.argv = slices.Clone(s.cfg.Command)
	if j.source == machine.Held {
		r := s.releases[j.key]
		if r == nil || r.file == nil {
			return &refusal{exitcode.Failure, "the last good release is not held any more"}
		}
		j.file = r.file
	}
	j.path, err = spawn.LookPath(j.argv[0], j.env, s.dir)
	if err != nil {
		if j.source == machine.Held && j.file != nil && s.watchedIndex(j) < 0 {
			// The command is gone; what was checked of it is still held.
			j.path = j.file.Path
			return nil
		}
		return exitRefusal(err)
	}
	j.script = s.watchedIndex(j)
	return nil
}

// watchedIndex returns which argument is the file that a generation runs, -1
// where that is the command itself.
func (s *supervisor) watchedIndex(j *job) int {
	script, ok := release.Script(j.argv)
	if !ok {
		return -1
	}
	return slices.Index(j.argv, script)
}

func exitRefusal(err error) error {
	var e *spawn.Error
	if errors.As(err, &e) {
		return &refusal{e.ExitCode(), e.Error()}
	}
	return err
}

// checked tells whether the release is hotinit's to check: whether it is
// watched, or a command says whether it is good.
func (s *supervisor) checked(j *job) bool {
	if s.cfg.Check != "" || s.cfg.Snapshot {
		return true
	}
	return s.cfg.Watch && (j.script >= 0 || release.Watchable(s.target(j)))
}

// target is the path of the file that a generation runs.
func (s *supervisor) target(j *job) string {
	path := j.path
	if j.script >= 0 {
		path = j.argv[j.script]
	}
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(s.dir, path)
}

// check runs --check for a release. It runs as the app would, on the file that
// was checked, so its answer holds for what will run.
func (s *supervisor) check(j *job) error {
	c := s.hook(s.cfg.Check)
	c.Path, c.Env = j.file.Real, contract.WithoutSockets(j.env)
	c.Timeout, c.Cancel = s.cfg.CheckTimeout, j.cancel
	return c.Run()
}

// hook returns a command that runs as the app does.
func (s *supervisor) hook(text string) *hook.Command {
	return &hook.Command{Text: text, Dir: s.dir, Umask: s.cfg.Umask,
		Credential: s.credential(), NoNewPrivs: s.cfg.NoNewPrivs}
}

// examine opens the release, unless the watcher did, and checks it. It runs
// beside the loop.
func (s *supervisor) examine(j *job) error {
	target := s.target(j)
	if j.file == nil {
		opts := release.CheckOptions{As: s.credential(), NoExec: j.script >= 0, Done: j.cancel,
			Undigested: j.n == 1 && !s.cfg.Snapshot}
		var err error
		if j.file, err = release.Open(target, opts); err != nil {
			status := exitcode.NotExecutable
			switch {
			case errors.Is(err, unix.EAGAIN):
				return err
			case errors.Is(err, unix.ENOENT):
				status = exitcode.NotFound
			}
			return &refusal{status, fmt.Sprintf("%s: %v", target, err)}
		}
	}
	if busy, _ := j.file.BeingWritten(); busy && j.script < 0 {
		return errBusy // execve(2) would say ETXTBSY
	}
	if s.cfg.Check != "" {
		if err := s.check(j); err != nil {
			return &refusal{exitcode.Failure, fmt.Sprintf("--check of %s: %v", target, err)}
		}
	}
	if s.copies(j) {
		copied, err := release.Snapshot(j.file, s.fromStart(s.cfg.SnapshotDir))
		if err != nil {
			return &refusal{exitcode.Failure, fmt.Sprintf("cannot make the private copy of %s (--snapshot): %v", target, err)}
		}
		j.file.Close()
		j.file = copied
	}
	return nil
}

// copies tells whether a generation runs from a private copy. A script does
// not: its interpreter would look beside the copy for what belongs to it.
func (s *supervisor) copies(j *job) bool {
	return s.cfg.Snapshot && j.script < 0 && j.file.Kind != release.KindScript
}

// launch forks and executes. It runs in the loop, so that nothing happens
// between a process that is there and a state that knows of it.
func (s *supervisor) launch(j *job) (machine.Event, bool) {
	g := s.loop.state.Find(j.n)
	if g == nil || g.Phase != machine.Preparing {
		s.putBack(j)
		return machine.Event{}, false
	}
	select {
	case <-j.cancel:
		return s.refused(j, &refusal{exitcode.Signaled(unix.Signal(s.loop.state.Stop)), "it was stopped"}), true
	default:
	}
	if j.file != nil && j.source == machine.Newest && !copied(j.file) && !unmodified(s.target(j), j.file) {
		return s.again(j, true, fmt.Errorf("%s was replaced after it was checked", s.target(j)))
	}
	if moved := s.resolveLinks(j); moved {
		return s.again(j, true, fmt.Errorf("%s leads to another file than the one that was checked", s.target(j)))
	}
	s.reopenLog()
	spec, ready, err := s.spec(j)
	if err != nil {
		return s.refused(j, err), true
	}
	key := s.keyOf(j)
	p := &process{n: j.n, since: time.Now()}
	spec.Cgroup = s.makeCgroup(j.n)
	spec.Forked = func(c spawn.Child) {
		// The child waits until this returns. From here on the next handoff
		// would know of it; before, it ends without having executed anything.
		p.pid, p.group = c.PID, c.PID
		st, _ := proc.Read(c.PID)
		started := s.loop.state.Clone()
		sg := started.Find(j.n)
		sg.Phase, sg.Release, sg.PID, sg.Start = machine.Candidate, key, c.PID, st.Start
		if c.PIDFD >= 0 {
			_ = s.link.keep(processName(j.n), c.PIDFD)
		}
		s.hold(key, j)
		s.enterCgroup(j.n, spec.Cgroup, c)
		s.recordForked(started, j.n)
	}
	child, err := spawn.Start(spec)
	ready.closeChild()
	if spec.Cgroup >= 0 {
		unix.Close(spec.Cgroup)
	}
	if err != nil {
		ready.close()
		s.link.drop(processName(j.n))
		return s.startFailed(j, err)
	}
	p.main = reaper.Own(child.PID, child.PIDFD)
	if !s.proveExecutable(j, child.PID) {
		// Somebody replaced the file between the check and the execution.
		_ = p.main.SignalGroup(p.group, unix.SIGKILL)
		_ = p.main.Signal(unix.SIGKILL)
		s.killCgroup(j.n)
		s.link.drop(processName(j.n))
		go func() { p.main.Wait(); p.main.Close() }()
		ready.close()
		return s.again(j, true, fmt.Errorf("%s was replaced while it was started", s.target(j)))
	}
	s.attach(p)
	if s.cfg.Verbosity > 1 {
		say.Line("generation %d is started: %q, with PID %d", p.n, spec.Argv[0], p.pid)
	}
	s.awaitReady(p, ready)
	s.putBack(j)
	if s.watcher == nil {
		s.startWatch(j)
	}
	st, _ := proc.Read(child.PID)
	return machine.Event{Kind: machine.Started, N: j.n, Release: key, PID: child.PID, Start: st.Start}, true
}

// resolveLinks sets the command of a job: that of its release, or else what its
// paths lead to now. It reports whether a symbolic link was turned since the file
// was checked. A command that hotinit does not check is executed as it was given.
func (s *supervisor) resolveLinks(j *job) (moved bool) {
	j.command = release.Command{Path: j.path, Argv: j.argv, Dir: s.dir}
	if j.source == machine.Held {
		if r := s.releases[j.key]; r != nil && len(r.command.Argv) > 0 {
			j.command = r.command
		}
		return false
	}
	if j.file == nil {
		return false
	}
	resolved, target := j.command.Resolve(j.script)
	j.command = resolved
	return target != j.file.Real
}

// spec says how a generation is started.
func (s *supervisor) spec(j *job) (*spawn.Spec, *readiness, error) {
	ready, err := s.newReadiness(j.n)
	if err != nil {
		return nil, nil, err
	}
	spec := &spawn.Spec{
		Path:       j.command.Path,
		FD:         -1,
		Argv:       slices.Clone(j.command.Argv),
		Env:        j.env,
		SelfPID:    j.self,
		Files:      s.contract.Files(s.std(), ready.childFD()),
		Dir:        j.command.Dir,
		Umask:      s.cfg.Umask,
		Signals:    entry.Inherited(),
		Credential: s.credential(),
		NoNewPrivs: s.cfg.NoNewPrivs,
		Setpgid:    true,
		Setsid:     s.cfg.Session,
		Foreground: -1,
		Cgroup:     -1,
	}
	if s.terminal >= 0 && s.loop.state.In(machine.Current) == nil {
		spec.Foreground = s.terminal
	}
	if j.file == nil {
		return spec, ready, nil
	}
	j.byFD = copied(j.file)
	switch {
	case j.byFD:
		spec.FD = j.file.FD()
	case j.source == machine.Newest:
		// By its path, so that it has its own name in ps(1). What then runs is
		// compared with what was checked.
	case j.script >= 0 && leadsTo(j.file.Real, j.file):
		spec.Argv[j.script] = j.file.Real
	case j.script >= 0:
		ready.closeChild()
		ready.close()
		return nil, nil, &refusal{exitcode.Failure, fmt.Sprintf("the last good release of %s was replaced, and %s can only read what is at a path", j.file.Path, j.argv[0])}
	case leadsTo(spec.Path, j.file):
	case leadsTo(j.file.Real, j.file):
		spec.Path = j.file.Real
	default:
		j.byFD = true
		spec.FD = j.file.FD()
	}
	return spec, ready, nil
}

// proveExecutable tells whether what runs is the file that was checked, as it
// was checked: since it runs, nobody can write to it. One that has ended, or
// may not be looked at, proves nothing, and one that an interpreter runs
// cannot be proven; it was compared just before.
func (s *supervisor) proveExecutable(j *job, pid int) bool {
	if j.file == nil || j.byFD || j.script >= 0 || j.file.Kind != release.KindELF {
		return true
	}
	exe := fmt.Sprintf("/proc/%d/exe", pid)
	var st unix.Stat_t
	if err := unix.Stat(exe, &st); err != nil {
		return true
	}
	if j.source == machine.Held {
		return leadsTo(exe, j.file)
	}
	return unmodified(exe, j.file)
}

// startFailed decides what follows an error of spawn.Start.
func (s *supervisor) startFailed(j *job, err error) (machine.Event, bool) {
	var e *spawn.Error
	if errors.As(err, &e) {
		switch {
		case e.Op == "fork" && (e.Err == unix.EAGAIN || e.Err == unix.ENOMEM):
			return s.again(j, false, err)
		case e.Op == "exec" && e.Err == unix.ETXTBSY:
			// A writer has it open still, and what it writes is to be checked.
			return s.again(j, true, err)
		}
		return s.refused(j, exitRefusal(err)), true
	}
	return s.refused(j, err), true
}

// again tries to start a generation once more, after a growing delay, and
// checks what there is then anew where that may be something else. The loop
// goes on in the meantime.
func (s *supervisor) again(j *job, anew bool, err error) (machine.Event, bool) {
	j.tries++
	delay := min(20*time.Millisecond<<min(j.tries-1, 8), 2*time.Second)
	if !j.told && j.tries > 3 {
		j.told = true
		say.Line("generation %d cannot be started yet: %v; it is tried again", j.n, err)
	}
	if anew {
		s.putBack(j)
	}
	s.cancels[j.n] = j.cancel
	go func() {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		next := s.launch
		select {
		case <-timer.C:
			if anew {
				next = s.proceed
			}
		case <-j.cancel: // launch says so
		}
		s.loop.inputs <- input{call: func() {
			delete(s.cancels, j.n)
			if ev, ok := next(j); ok {
				s.loop.act(ev)
			}
		}}
	}()
	return machine.Event{}, false
}

// std returns hotinit's own first three descriptors, -1 for a closed one.
func (s *supervisor) std() [3]int {
	std := [3]int{0, 1, 2}
	for i := range std {
		if _, err := unix.FcntlInt(uintptr(i), unix.F_GETFD, 0); err != nil {
			std[i] = -1
		}
	}
	return std
}
