package handoff

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/release"
)

// A start goes through these steps, each a method:
//
//	proceed   what to execute, with which environment: asked beside the loop (find)
//	chosen    chooses examine, or launch where nothing is to be checked
//	examine   opens and checks the release, --check, --snapshot: beside the loop
//	launch    whether that is still what the paths lead to: asked beside the loop (locate)
//	start     forks, tells init, executes, waits for readiness: in the loop
//	again     after a delay back to proceed, or to launch where only the fork failed
//
// It ends with the event Started or NotStarted. cancel makes it end soon. No file
// system is touched by the loop: see beside. Read resolve.go, examine.go and launch.go
// for the steps.

// starts are the generations of a program that are on their way to a process.
type starts struct {
	*common
	outputs   *outputs
	cgroups   *cgroups
	processes *processes
	releases  *releases
	probes    *probes
	adoption  *adoption
	// recordForked records a state in which a generation has a process that may
	// not have executed the app yet.
	recordForked func()
	boot         func(machine.Event)   // starts the program, once its state directory is read
	cancels      map[int]chan struct{} // closed for a start that is no longer wanted
	noExec       *sync.Once            // that copies cannot be executed was said
}

// job is one generation on its way to a process.
type job struct {
	n          int
	source     machine.Source
	key        string // of a Held release
	cause      machine.Cause
	fresh      bool // its settings were not tried yet
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

	found  found        // what the file system says of it
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

// with returns the same for generations of another plan. What goes on beside the loop
// goes by this copy.
func (s *starts) with(pl *plan) *starts {
	c := *s
	c.common = s.as(pl)
	c.probes = &probes{c.common, s.probes.sockets, s.probes.adopted}
	return &c
}

func (s *starts) prepare(e machine.Effect, fresh bool) (machine.Event, bool) {
	j := &job{n: e.N, fresh: fresh, source: e.Source, key: e.Release, cause: e.Cause, foreground: e.Foreground, script: -1, cancel: make(chan struct{}), before: s.releases.before()}
	if e.Source == machine.Held {
		r := s.releases.held[j.key]
		if r == nil || r.file == nil {
			return s.refused(j, &refusal{exitcode.Failure, fmt.Sprintf("release %s is not held any more", machine.Short(j.key))}), true
		}
		j.file, j.copy = r.file, r.copy
	}
	return s.proceed(j)
}

// errBusy is that a file is being written.
var errBusy = errors.New("somebody has it open for writing")

// proceed finds out what to execute.
func (s *starts) proceed(j *job) (machine.Event, bool) {
	now := *j
	return s.beside(j, func() func() (machine.Event, bool) {
		err := s.resolve(&now)
		if err == nil {
			now.found = s.find(&now)
		}
		return func() (machine.Event, bool) {
			*j = now
			if err != nil {
				return s.refused(j, err), true
			}
			return s.chosen(j)
		}
	})
}

// chosen launches a job, after checks beside the loop where there are any.
func (s *starts) chosen(j *job) (machine.Event, bool) {
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
	case j.source == machine.Held && (j.file == nil || j.found.intact && (j.copy != nil || j.file.Root == "")):
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
	case !s.checkedWith(j, j.found.tree):
		return s.launch(j)
	default:
		j.file = s.releases.takeOffered(s.target(j), j.found.target)
		if j.file != nil {
			j.file.Settings = s.plan.hash
		}
		if j.file != nil && s.trust == nil && s.cfg.Check == "" && !s.copies(j) && !j.found.tree {
			return s.launch(j)
		}
		examine = func() error { return s.examine(j) }
	}
	s.cancels[j.n] = j.cancel
	go func() {
		done := make(chan error, 1)
		go func() { done <- examine() }()
		err, ended := waitFor(done, j.cancel)
		s.engine.do(func() {
			delete(s.cancels, j.n)
			if !ended {
				// It goes on with the job, if it goes on at all.
				s.engine.act(s.refused(&job{n: j.n}, errStopped))
			} else if ev, ok := s.examined(j, err); ok {
				s.engine.act(ev)
			}
		})
		if !ended {
			<-done
			s.engine.do(func() { s.putBack(j) })
		}
	}()
	return machine.Event{}, false
}

// examined goes on with a job once it was checked.
func (s *starts) examined(j *job, err error) (machine.Event, bool) {
	if j.file != nil && j.source == machine.Newest {
		s.releases.saw(j.file.Release)
	}
	switch {
	case err == nil && (s.rejectedBefore(j) || s.runsAlready(j)):
		ev := machine.Event{Kind: machine.NotStarted, N: j.n, Release: j.file.Name(), Status: exitcode.Failure}
		s.putBack(j)
		return ev, true
	case err == nil:
		s.releases.take(j)
		return s.launch(j)
	case errors.Is(err, errBusy), errors.Is(err, unix.EAGAIN), j.short(err):
		return s.again(j, true, fmt.Errorf("%s: %w", s.target(j), err))
	}
	return s.refused(j, err), true
}

// rejectedBefore reports whether a change led to content that was rejected before.
func (s *starts) rejectedBefore(j *job) bool {
	return j.cause == machine.ByChange && s.named(j) && !j.fresh && s.engine.state.Rejection(j.file.Name()) != nil
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
	n := s.pathsOfGenerations()
	return n == 0 || n == 1 && j.file.Root != ""
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

// again tries to start a generation once more, after a growing delay. anew says
// that the release may have changed and must be checked again. The loop goes on
// in the meantime.
func (s *starts) again(j *job, anew bool, err error) (machine.Event, bool) {
	j.tries++
	delay := min(20*time.Millisecond<<min(j.tries-1, 8), 2*time.Second)
	if !j.said && j.tries > 3 {
		j.said = true
		s.note("generation %d cannot be started yet: %v; it is tried again", j.n, err)
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
