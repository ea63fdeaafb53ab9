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
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/proc"
	"github.com/hotinit/hotinit/internal/release"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/spawn"
	"github.com/hotinit/hotinit/reaper"
)

// A start goes through these steps, each a method:
//
//	resolve   what to execute, with which environment       (in the loop)
//	proceed   chooses examine, or launch where nothing is to be checked
//	examine   opens and checks the release, --check, --snapshot   (beside the loop)
//	launch    forks, tells init, executes, waits for readiness    (in the loop)
//	again     after a delay back to proceed, or to launch where only the fork failed
//
// It ends with the event Started or NotStarted. cancel makes it end soon.

// starts are the generations of a program that are on their way to a process.
type starts struct {
	*common
	cgroups   *cgroups
	processes *processes
	releases  *releases
	probes    *probes
	adoption  *adoption
	// recordForked records a state in which a generation has a process that may
	// not have executed the app yet.
	recordForked func()
	cancels      map[int]chan struct{} // closed for a start that is no longer wanted
}

// job is one generation on its way to a process.
type job struct {
	n          int
	source     machine.Source
	key        string // of a Held release
	cause      machine.Cause
	foreground bool // it gets the terminal, if there is one
	forked     bool // the machine knows of a process of it
	env        []string
	self       []string // variables that get its PID
	path       string   // what is executed
	argv       []string
	script     int           // index in argv of the file that is watched, -1: it is path itself
	file       *release.File // what was checked, nil where nothing is
	byFD       bool          // the descriptor is executed, not the path

	// command is what is executed: path, argv and the working directory as they
	// are resolved when the generation is started, or were for a Held release.
	command release.Command
	// origin is the command without a private copy of the watched directory, copy
	// that copy, and before an earlier one.
	origin release.Command
	copy   *release.Private
	before string

	proven *heldRelease // what was opened of one that the state directory kept

	verified bool // what is executed was signed by a trusted key, or need not be

	tries  int
	said   bool // that it has to wait
	cancel chan struct{}
}

// refusal is a release that was not started, and the status to exit with
// where it was the first.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

func (s *starts) prepare(e machine.Effect) (machine.Event, bool) {
	j := &job{n: e.N, source: e.Source, key: e.Release, cause: e.Cause, foreground: e.Foreground, script: -1, cancel: make(chan struct{}), before: s.releases.before()}
	if err := s.resolve(j); err != nil {
		return s.refused(j, err), true
	}
	return s.proceed(j)
}

// errBusy is that a file is being written.
var errBusy = errors.New("somebody has it open for writing")

// proceed launches a job, after checks beside the loop where there are any.
func (s *starts) proceed(j *job) (machine.Event, bool) {
	var examine func() error
	switch {
	case j.source == machine.Held && s.releases.isKept(j.key):
		prove, err := s.proveKept(s.releases.held[j.key])
		if err != nil {
			return s.refused(j, err), true
		}
		examine = func() (err error) {
			j.proven, err = prove(j.cancel)
			return err
		}
	case j.source == machine.Held && s.trust != nil:
		var err error
		if examine, err = s.verifyAgain(j); err != nil {
			return s.refused(j, err), true
		}
	case j.source == machine.Held && (j.file == nil || intact(j.file) && (j.copy != nil || j.file.Root == "")):
		return s.launch(j)
	case j.source == machine.Held:
		read, err := reread(j.file, s.counts())
		if err != nil {
			return s.refused(j, err), true
		}
		// One that was overwritten in place is not what was good. The state directory
		// may have it.
		kept, err := s.proveKept(s.releases.held[j.key])
		if err != nil {
			return s.refused(j, err), true
		}
		stored := s.releases.memory.keeps(j.key)
		examine = func() error { return s.stillGood(j, read, stored, kept) }
	case !s.checked(j):
		return s.launch(j)
	default:
		j.file = s.releases.takeOffered(s.target(j))
		if _, tree := s.tree(); j.file != nil && s.trust == nil && s.cfg.Check == "" && !s.copies(j) && !tree {
			return s.launch(j)
		}
		examine = func() error { return s.examine(j) }
	}
	s.cancels[j.n] = j.cancel
	go func() {
		err := examine()
		s.engine.do(func() {
			delete(s.cancels, j.n)
			if ev, ok := s.examined(j, err); ok {
				s.engine.act(ev)
			}
		})
	}()
	return machine.Event{}, false
}

// examined goes on with a job once it was checked.
func (s *starts) examined(j *job, err error) (machine.Event, bool) {
	switch {
	case err == nil && (s.rejectedBefore(j) || s.runsAlready(j)):
		ev := machine.Event{Kind: machine.NotStarted, N: j.n, Release: j.file.Name(), Status: exitcode.Failure}
		s.putBack(j)
		return ev, true
	case err == nil:
		s.releases.take(j)
		return s.launch(j)
	case errors.Is(err, errBusy), errors.Is(err, unix.EAGAIN):
		return s.again(j, true, fmt.Errorf("%s: %w", s.target(j), err))
	}
	return s.refused(j, err), true
}

// rejectedBefore reports whether a change led to content that was rejected before.
func (s *starts) rejectedBefore(j *job) bool {
	return j.cause == machine.ByChange && s.named(j) && s.engine.state.Rejection(j.file.Name()) != nil
}

// runsAlready reports whether a change led to what runs: somebody put it there and
// asked for it, and the watcher saw it too.
func (s *starts) runsAlready(j *job) bool {
	current := s.engine.state.Current()
	return j.cause == machine.ByChange && s.named(j) && current != nil && !current.Stalled && !current.Hung &&
		current.Release == j.file.Name()
}

// named reports whether all that is watched is in the name of a job's release.
// Where other paths are watched besides the release's directory, it may be these
// that changed.
func (s *starts) named(j *job) bool {
	paths := 0
	for _, p := range s.cfg.WatchPaths {
		if p.Signal == 0 {
			paths++
		}
	}
	return paths == 0 || paths == 1 && j.file.Root != ""
}

func (s *starts) cancel(n int) {
	if c, ok := s.cancels[n]; ok {
		delete(s.cancels, n)
		close(c)
	}
}

// refused is the event of a release that was not started.
func (s *starts) refused(j *job, err error) machine.Event {
	ev := machine.Event{Kind: machine.NotStarted, N: j.n, Status: exitcode.Failure, Reason: err.Error()}
	s.cgroups.remove(j.n) // of a start that failed
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
func (s *starts) resolve(j *job) error {
	var err error
	if j.env, j.self, err = s.contract.Environment(j.n); err != nil {
		return err
	}
	j.argv = slices.Clone(s.cfg.Command)
	if j.source == machine.Held {
		r := s.releases.held[j.key]
		if r == nil || r.file == nil {
			return &refusal{exitcode.Failure, fmt.Sprintf("release %s is not held any more", machine.Short(j.key))}
		}
		j.file, j.copy = r.file, r.copy
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
func (s *starts) watchedIndex(j *job) int {
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

// checked reports whether the release is hotinit's to check: whether it is
// watched, or a command says whether it is good.
func (s *starts) checked(j *job) bool {
	if s.cfg.Check != "" || s.cfg.Snapshot {
		return true
	}
	if _, tree := s.tree(); tree {
		return true
	}
	return s.watchable(j)
}

// watchable reports whether the file that a generation runs is watched.
func (s *starts) watchable(j *job) bool {
	return s.cfg.Watch && (j.script >= 0 || release.Watchable(s.target(j)))
}

// target is the path of the file that a generation runs.
func (s *starts) target(j *job) string {
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
func (s *starts) check(j *job) error {
	c := s.hook(s.cfg.Check)
	c.Path, c.Env = j.file.Real, contract.WithoutSockets(j.env)
	c.Timeout, c.Cancel = s.cfg.CheckTimeout, j.cancel
	if s.trust != nil {
		s.checkCopy(j, c)
	}
	if err := c.Run(); err != nil {
		return &refusal{exitcode.Failure, fmt.Sprintf("--check of %s: %v", s.target(j), err)}
	}
	return nil
}

// examine opens the release, unless the watcher did, and checks it. It runs
// beside the loop.
func (s *starts) examine(j *job) error {
	if s.trust != nil {
		return s.examineSigned(j)
	}
	target := s.target(j)
	if err := s.open(j); err != nil {
		return err
	}
	if s.cfg.Check != "" {
		if err := s.check(j); err != nil {
			return err
		}
	}
	if err := s.examineTree(j); err != nil {
		return err
	}
	if s.copies(j) && !copied(j.file) {
		copied, err := release.Snapshot(j.file, s.fromStart(s.cfg.SnapshotDir), false)
		if err != nil {
			return &refusal{exitcode.Failure, fmt.Sprintf("cannot make the private copy of %s (--snapshot): %v", target, err)}
		}
		j.file.Close()
		j.file = copied
	}
	return nil
}

// open opens the release, unless the watcher did, and checks that file.
func (s *starts) open(j *job) error {
	target := s.target(j)
	if j.file == nil {
		opts := release.CheckOptions{As: s.credential(), NoExec: j.script >= 0, Done: j.cancel,
			Undigested:    j.n == 1 && !s.cfg.Snapshot,
			KernelDecides: j.n == 1 || s.releases.doubtful()}
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
	return nil
}

// copies reports whether a generation runs from a private copy. A script does
// not: its interpreter would look for its other files beside the copy.
func (s *starts) copies(j *job) bool {
	return s.cfg.Snapshot && j.script < 0 && j.file.Kind != release.KindScript
}

// launch forks and executes. It runs in the loop, so that no event comes between
// the process and the state that knows about it.
func (s *starts) launch(j *job) (machine.Event, bool) {
	select {
	case <-j.cancel:
		return s.refused(j, errors.New("it was stopped")), true
	default:
	}
	if j.file != nil && j.source == machine.Newest && !copied(j.file) && !unmodified(s.target(j), j.file) {
		return s.again(j, true, fmt.Errorf("%s was replaced after it was checked", s.target(j)))
	}
	if moved := s.resolveLinks(j); moved {
		return s.again(j, true, fmt.Errorf("%s leads to another file than the one that was checked", s.target(j)))
	}
	if s.trust != nil && !j.verified {
		return s.refused(j, fmt.Errorf("%s was not verified, which is an error of hotinit", s.target(j))), true
	}
	s.shareCopy(j)
	s.logs.reopen()
	spec, ready, err := s.spec(j)
	if err != nil {
		return s.refused(j, err), true
	}
	key := s.keyOf(j)
	p := &process{n: j.n, since: time.Now()}
	spec.Cgroup = s.cgroups.make(j.n)
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
		s.recordForked()
	}
	var child spawn.Child
	s.thread.do(func() { child, err = spawn.Start(spec) })
	ready.closeChild()
	if spec.Cgroup >= 0 {
		unix.Close(spec.Cgroup)
	}
	if err != nil {
		ready.close()
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
		s.kept.drop(processName(j.n))
		go func() { p.main.Wait(); p.main.Close() }()
		ready.close()
		return s.again(j, true, fmt.Errorf("%s was replaced while it was started", s.target(j)))
	}
	s.processes.attach(p)
	s.probes.await(p, ready)
	if j.source == machine.Held && s.releases.memory.store == nil {
		say.Note("generation %d is an older release: after a restart, hotinit will start %s again (--state-dir remembers what was rejected)", j.n, s.target(j))
	}
	s.noteSigned(j)
	s.putBack(j)
	s.watch(j)
	return machine.Event{Kind: machine.Started, N: j.n, Release: key, PID: child.PID, Start: p.start}, true
}

// resolveLinks sets the command of a job: that of its release, or else what its
// paths lead to now. It reports whether a symbolic link was turned since the file
// was checked. A command that hotinit does not check is executed as it was given.
func (s *starts) resolveLinks(j *job) (moved bool) {
	if j.copy != nil && j.source == machine.Newest {
		return false // examine has done it
	}
	j.command = release.Command{Path: j.path, Argv: j.argv, Dir: s.dir}
	if j.source == machine.Held {
		if r := s.releases.held[j.key]; r != nil && len(r.command.Argv) > 0 {
			j.command = r.command
		}
		return false
	}
	if j.file == nil {
		return false
	}
	resolved, target := j.command.Resolve(j.script)
	j.command, j.origin = resolved, resolved
	return target != j.file.Real
}

// spec says how a generation is started.
func (s *starts) spec(j *job) (*spawn.Spec, *readiness, error) {
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
		Files:      s.contract.Files(std(), ready.childFD()),
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
	if j.foreground && s.processes.mayTake(s.terminal, j.n) {
		spec.Foreground = s.terminal.fd
	}
	defer func() { s.adoption.filter(spec) }()
	if j.file == nil {
		return spec, ready, nil
	}
	spec.NoShell = j.script < 0 && (j.file.Kind == release.KindELF || j.file.Kind == release.KindDoubtful)
	j.byFD = copied(j.file) && j.copy == nil
	switch {
	case j.copy != nil:
		// By its path in the copy, where it finds what lies beside it.
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

// proveExecutable reports whether the process runs the file that was checked, as
// it was checked: nobody can write to a file that runs. A process that has ended,
// or cannot be inspected, proves nothing. Neither does an interpreter; its script
// was compared just before.
func (s *starts) proveExecutable(j *job, pid int) bool {
	if j.file == nil || j.byFD || j.copy != nil || j.script >= 0 || j.file.Kind != release.KindELF {
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
func (s *starts) startFailed(j *job, err error) (machine.Event, bool) {
	var e *spawn.Error
	if errors.As(err, &e) {
		switch {
		case s.adoption.unfiltered(e):
			return s.launch(j)
		case e.Op == "fork" && (e.Err == unix.EAGAIN || e.Err == unix.ENOMEM):
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

// again tries to start a generation once more, after a growing delay. anew says
// that the release may have changed and must be checked again. The loop goes on
// in the meantime.
func (s *starts) again(j *job, anew bool, err error) (machine.Event, bool) {
	j.tries++
	delay := min(20*time.Millisecond<<min(j.tries-1, 8), 2*time.Second)
	if !j.said && j.tries > 3 {
		j.said = true
		say.Note("generation %d cannot be started yet: %v; it is tried again", j.n, err)
	}
	if j.forked {
		j.forked = false
		s.engine.apply(machine.Event{Kind: machine.Retried, N: j.n})
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
		s.engine.do(func() {
			delete(s.cancels, j.n)
			if ev, ok := next(j); ok {
				s.engine.act(ev)
			}
		})
	}()
	return machine.Event{}, false
}

// keyOf names the release of a job.
func (s *starts) keyOf(j *job) string {
	switch {
	case j.file == nil:
		return ""
	case j.source == machine.Held:
		return s.releases.nameOf(j.file, j.key)
	}
	return j.file.Name()
}

// putBack gives up what a job has checked.
func (s *starts) putBack(j *job) {
	if j.file != nil && j.source == machine.Newest {
		if r := s.releases.held[j.file.Name()]; j.copy != nil && (r == nil || r.copy != j.copy) {
			go j.copy.Remove()
		}
		s.releases.giveBack(j.file)
		j.file, j.copy, j.verified = nil, nil, false
	}
}

// watch watches what a job was started from, if nothing is watched yet.
func (s *starts) watch(j *job) {
	if !s.cfg.Watch && len(s.cfg.WatchPaths) == 0 || s.releases.watches {
		return
	}
	command := ""
	if s.cfg.Watch && (s.watchable(j) || s.cfg.Check != "" || s.cfg.Snapshot) {
		command = s.target(j)
	}
	s.releases.watch(command, j.script >= 0)
}

// watchResumed is watch for a handoff that takes over, which need not start
// anything.
func (s *starts) watchResumed() {
	j := &job{script: -1}
	if err := s.resolve(j); err != nil {
		say.Line("cannot watch for new releases: %v; a new generation is started when asked for", err)
		return
	}
	s.watch(j)
}

// stillGood returns why a held release cannot be started any more, nil where it
// can. stored says that the state directory has it, too, and kept opens that.
func (s *starts) stillGood(j *job, read func(<-chan struct{}) (release.Release, error), stored bool, kept func(<-chan struct{}) (*heldRelease, error)) error {
	now, err := read(j.cancel)
	if stored && (err != nil || now.Digest != j.file.Digest || j.copy == nil && now.Tree != j.file.Tree) {
		if opened, err := kept(j.cancel); err == nil {
			j.proven = opened
			return nil
		}
	}
	if err == nil && now.Digest != j.file.Digest {
		err = fmt.Errorf("its file was overwritten in place (deploy by renaming, or use --snapshot)")
	}
	if err == nil && j.copy == nil && now.Tree != j.file.Tree {
		say.Note("%s is not as it was when this release was good: the release is started with what is there (use --snapshot, or a directory and a link for each release)", j.file.Root)
	}
	if err != nil {
		return &refusal{exitcode.Failure, fmt.Sprintf("the last good release of %s cannot be started again: %v", j.file.Path, err)}
	}
	return nil
}
