package handoff

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/entry"
	"github.com/hotinit/hotinit/proc"
	"github.com/hotinit/hotinit/reaper"
	"github.com/hotinit/hotinit/say"
	"github.com/hotinit/hotinit/spawn"
	"github.com/hotinit/hotinit/watch"
)

// job is one generation on its way to a process.
type job struct {
	n      int
	source Source
	key    string // of a Held release
	env    []string
	self   []string // variables that get its PID
	path   string   // what is executed
	argv   []string
	script int         // index in argv of the file that is watched, -1: it is path itself
	file   *watch.File // what was checked, nil where nothing is
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

func (s *supervisor) prepare(n int, source Source, key string) (Event, bool) {
	j := &job{n: n, source: source, key: key, script: -1, cancel: make(chan struct{})}
	if err := s.resolve(j); err != nil {
		return s.refused(j, err), true
	}
	if source == Held || !s.checked(j) {
		return s.launch(j)
	}
	s.cancels[n] = j.cancel
	go func() {
		err := s.examine(j)
		s.loop.inputs <- input{call: func() {
			delete(s.cancels, n)
			if err != nil {
				s.loop.act(s.refused(j, err))
			} else if ev, ok := s.launch(j); ok {
				s.loop.act(ev)
			}
		}}
	}()
	return Event{}, false
}

func (s *supervisor) cancel(n int) {
	if c, ok := s.cancels[n]; ok {
		delete(s.cancels, n)
		close(c)
	}
}

// refused is the event of a release that was not started.
func (s *supervisor) refused(j *job, err error) Event {
	ev := Event{Kind: NotStarted, N: j.n, Status: ownFailure, Reason: err.Error()}
	var r *refusal
	if errors.As(err, &r) {
		ev.Status = r.status
	}
	if j.file != nil {
		ev.Release = s.keyOf(j)
		if j.source == Newest {
			j.file.Close()
		}
	}
	return ev
}

// resolve works out what to execute, in which environment.
func (s *supervisor) resolve(j *job) error {
	var err error
	if j.env, j.self, err = s.contract.environment(j.n); err != nil {
		return err
	}
	if s.identity.home != "" {
		j.env = setenv(j.env, "HOME", []byte(s.identity.home))
		j.env = setenv(j.env, "USER", []byte(s.identity.name))
		j.env = setenv(j.env, "LOGNAME", []byte(s.identity.name))
	}
	j.argv = slices.Clone(s.cfg.Command)
	if j.source == Held {
		r := s.releases[j.key]
		if r == nil || r.file == nil {
			return &refusal{ownFailure, "the last good release is not held any more"}
		}
		j.file = r.file
	}
	path := ""
	for _, v := range j.env {
		if p, ok := strings.CutPrefix(v, "PATH="); ok {
			path = p
		}
	}
	j.path, err = spawn.LookPath(j.argv[0], path, s.dir)
	if err != nil {
		if j.source == Held && j.file != nil && s.watchedIndex(j) < 0 {
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
	script, ok := watch.Script(j.argv)
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
	return s.cfg.Watch && (j.script >= 0 || watch.Watchable(s.target(j)))
}

// target is the path of the file that a generation runs.
func (s *supervisor) target(j *job) string {
	if j.script >= 0 {
		return s.absolute(j.argv[j.script])
	}
	return s.absolute(j.path)
}

// examine opens the release and checks it, beside the loop.
func (s *supervisor) examine(j *job) error {
	opts := watch.CheckOptions{NoExec: j.script >= 0, Done: j.cancel}
	if c := s.identity.credential; c != nil {
		opts.As = &watch.Credential{UID: c.UID, GID: c.GID, Groups: c.Groups}
	}
	target := s.target(j)
	var err error
	if j.file, err = watch.Open(target, opts); err != nil {
		status := 126
		if errors.Is(err, unix.ENOENT) {
			status = 127
		}
		return &refusal{status, fmt.Sprintf("%s: %v", target, err)}
	}
	if s.cfg.Check != "" {
		if err := s.runCheck(j); err != nil {
			return &refusal{ownFailure, fmt.Sprintf("--check of %s: %v", target, err)}
		}
	}
	if s.cfg.Snapshot {
		copied, err := watch.Snapshot(j.file, s.absolute(s.cfg.SnapshotDir))
		if err != nil {
			return &refusal{ownFailure, fmt.Sprintf("cannot make the private copy of %s (--snapshot): %v", target, err)}
		}
		j.file.Close()
		j.file = copied
	}
	return nil
}

// keyOf names the release of a job.
func (s *supervisor) keyOf(j *job) string {
	if j.file == nil {
		return ""
	}
	if j.source == Held {
		return j.key
	}
	return keyOf(j.file.Release)
}

// keyOf names a release by its content, or where that could not be read (one
// may execute a file that one may not read) by its file.
func keyOf(r watch.Release) string {
	if r.Digest.Known() {
		return r.Digest.String()
	}
	return fmt.Sprintf("%d:%d:%d:%d", r.Dev, r.Ino, r.Size, r.MTime)
}

// launch forks and executes. It runs in the loop, so that nothing happens
// between a process that is there and a state that knows of it.
func (s *supervisor) launch(j *job) (Event, bool) {
	g := s.loop.state.find(j.n)
	if g == nil || g.Phase != Preparing {
		if j.file != nil && j.source == Newest {
			j.file.Close()
		}
		return Event{}, false
	}
	select {
	case <-j.cancel:
		return s.refused(j, &refusal{128 + s.loop.state.Stop, "it was stopped"}), true
	default:
	}
	spec, ready, err := s.spec(j)
	if err != nil {
		return s.refused(j, err), true
	}
	key := s.keyOf(j)
	p := &process{n: j.n, since: time.Now()}
	spec.Forked = func(c spawn.Child) {
		// The child waits until this returns. From here on the next handoff
		// would know of it; before, it ends without having executed anything.
		p.pid, p.group = c.PID, c.PID
		st, _ := proc.Read(c.PID)
		started := s.loop.state.clone()
		sg := started.find(j.n)
		sg.Phase, sg.Release, sg.PID, sg.Start = Candidate, key, c.PID, st.Start
		if c.PIDFD >= 0 {
			_ = s.link.keep(processName(j.n), c.PIDFD)
		}
		s.hold(key, j)
		s.recordForked(started, j.n)
	}
	child, err := spawn.Start(spec)
	ready.closeChild()
	if err != nil {
		ready.close()
		s.link.drop(processName(j.n))
		return s.startFailed(j, err)
	}
	p.main = reaper.Own(child.PID, child.PIDFD)
	if !s.proveExecutable(j, child.PID) {
		// Somebody replaced the file between the check and the execution.
		_ = p.main.Signal(unix.SIGKILL)
		go func() { p.main.Wait(); p.main.Close() }()
		ready.close()
		return s.again(j, fmt.Errorf("%s was replaced while it was started", s.target(j)))
	}
	s.attach(p)
	s.awaitReady(p, ready)
	s.follow(j)
	st, _ := proc.Read(child.PID)
	return Event{Kind: Started, N: j.n, Release: key, PID: child.PID, Start: st.Start}, true
}

// hold keeps a release open from now on, also by init.
func (s *supervisor) hold(key string, j *job) {
	if key == "" || j.source == Held {
		return
	}
	if r := s.releases[key]; r != nil {
		if r.file != j.file {
			// The same content in another file. The newer file is the one
			// that the path leads to.
			s.link.drop(releaseName(key))
			r.file.Close()
			r.file = j.file
			_ = s.link.keep(releaseName(key), j.file.FD())
		}
		return
	}
	s.releases[key] = &release{file: j.file, path: s.target(j)}
	_ = s.link.keep(releaseName(key), j.file.FD())
}

func releaseName(key string) string { return "release/" + key }

// spec says how a generation is started.
func (s *supervisor) spec(j *job) (*spawn.Spec, *readiness, error) {
	ready, err := s.newReadiness(j.n)
	if err != nil {
		return nil, nil, err
	}
	spec := &spawn.Spec{
		Path:        j.path,
		FD:          -1,
		Argv:        j.argv,
		Env:         j.env,
		SelfPID:     j.self,
		Files:       s.contract.files(s.std(), ready.childFD()),
		Dir:         s.dir,
		Umask:       s.cfg.Umask,
		Signals:     entry.Inherited(),
		Credential:  s.identity.credential,
		NoNewPrivs:  s.cfg.NoNewPrivs,
		Setpgid:     true,
		Setsid:      s.cfg.Session,
		Foreground:  -1,
		CgroupProcs: -1,
	}
	if s.terminal >= 0 && s.loop.state.in(Current) == nil {
		spec.Foreground = s.terminal
	}
	if j.file == nil {
		return spec, ready, nil
	}
	switch {
	case j.script >= 0:
		if j.source == Held || s.cfg.Snapshot {
			// The folder that the script was in when it was good: through a
			// symbolic link the path leads to another by now.
			spec.Argv[j.script] = j.file.Real
		}
	case s.cfg.Snapshot || j.source == Held && !leadsTo(j.path, j.file):
		if j.source == Held && leadsTo(j.file.Real, j.file) {
			spec.Path = j.file.Real
		} else {
			spec.FD = j.file.FD()
		}
	}
	return spec, ready, nil
}

func leadsTo(path string, f *watch.File) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && uint64(st.Dev) == f.Dev && st.Ino == f.Ino
}

// proveExecutable tells whether what runs is the file that was checked. One
// that has ended, or may not be looked at, proves nothing, and one that an
// interpreter runs cannot be proven; see docs/design.md.
func (s *supervisor) proveExecutable(j *job, pid int) bool {
	if j.file == nil || j.script >= 0 || j.file.Kind != watch.KindELF {
		return true
	}
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/exe", pid), &st); err != nil {
		return true
	}
	return uint64(st.Dev) == j.file.Dev && st.Ino == j.file.Ino
}

// startFailed decides what follows an error of spawn.Start.
func (s *supervisor) startFailed(j *job, err error) (Event, bool) {
	var e *spawn.Error
	if errors.As(err, &e) {
		switch {
		case e.Op == "fork" && (e.Err == unix.EAGAIN || e.Err == unix.ENOMEM):
			return s.again(j, err)
		case e.Op == "exec" && e.Err == unix.ETXTBSY:
			// A writer has it open still.
			return s.again(j, err)
		}
		return s.refused(j, exitRefusal(err)), true
	}
	return s.refused(j, err), true
}

// again tries to start a generation once more, after a growing delay. The
// loop goes on in the meantime.
func (s *supervisor) again(j *job, err error) (Event, bool) {
	j.tries++
	delay := min(20*time.Millisecond<<min(j.tries-1, 8), 2*time.Second)
	if !j.told && j.tries > 3 {
		j.told = true
		say.Line("generation %d cannot be started yet: %v; it is tried again", j.n, err)
	}
	s.cancels[j.n] = j.cancel
	time.AfterFunc(delay, func() {
		s.loop.inputs <- input{call: func() {
			delete(s.cancels, j.n)
			if ev, ok := s.launch(j); ok {
				s.loop.act(ev)
			}
		}}
	})
	return Event{}, false
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

// follow tells the watcher what runs now.
func (s *supervisor) follow(j *job) {
	if s.watcher == nil {
		s.startWatch(j)
	}
	if s.watcher != nil && j.file != nil {
		s.watcher.Running(j.file.Release)
	}
}
