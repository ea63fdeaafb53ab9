package handoff

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/hotinit/hotinit/internal/contract"
	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/release"
)

// deploys answer `hotinit deploy`, which puts a release in place by itself: where
// that belongs, whether it is a good one, and that it is to run.
type deploys struct {
	*common
	starts  *starts
	clients *clients
	// next is what the next generation of a program that a file made runs with. It
	// is called in the loop.
	next func() (*plan, error)
}

// answer acts upon a request, and reports whether it is one of these. It runs on a
// goroutine of its own.
func (s *deploys) answer(r control.Request, reply func(control.Response) bool, gone <-chan struct{}) bool {
	if s.member {
		var pl *plan
		var err error
		s.engine.ask(func() { pl, err = s.next() })
		if err != nil {
			reply(control.Response{Text: err.Error()})
			return true
		}
		s = &deploys{common: s.as(pl), starts: s.starts.with(pl), clients: s.clients}
	}
	switch r.Op {
	case "target":
		reply(control.Response{OK: true, Target: s.target()})
	case "prove":
		if err := s.prove(r.Path, gone); err != nil {
			reply(control.Response{Text: err.Error()})
			break
		}
		reply(control.Response{OK: true})
	case "deploy":
		ev, content := machine.Event{Kind: machine.Reload}, release.Release{}
		if f := s.starts.newest(nil); f != nil {
			ev = machine.Event{Kind: machine.Deployed, Release: f.Name()}
			content = f.Release
			f.Close()
		}
		if s.forNextRun() {
			reply(control.Response{OK: true, Text: "it is in place, and the next run takes it"})
			break
		}
		if a := s.clients.decidedSince(r.After, ev.Release); a != nil {
			reply(*a)
			break
		}
		s.clients.answerSwap(ev, content, r, reply, gone)
	case "back":
		s.back()
		reply(control.Response{OK: true})
	default:
		return false
	}
	return true
}

// back takes note that what runs is at its path again. The watch has no news of that, as
// it may not have seen that it was replaced.
func (s *deploys) back() {
	f := s.starts.newest(nil)
	if f == nil {
		return
	}
	defer f.Close()
	s.engine.ask(func() {
		st := &s.engine.state
		if g := st.Current(); g != nil && st.Situation() == machine.Serving && s.starts.releases.runs(g.Release, f.Release) {
			s.engine.act(machine.Event{Kind: machine.Changed, Release: g.Release})
		}
	})
}

// forNextRun reports whether the program runs once, or at times, and does not run now.
func (s *deploys) forNextRun() (over bool) {
	s.engine.ask(func() { over = s.member && s.cfg.Once && s.engine.state.Over })
	return over
}

// target says what is deployed to this program.
func (s *deploys) target() *control.Target {
	t := &control.Target{}
	s.engine.ask(func() { t.Next = s.engine.state.Next })
	for _, p := range s.cfg.WatchPaths {
		if _, ok := s.tree(); ok && p.Signal == 0 {
			t.Dir = s.fromStart(p.Path)
			break
		}
	}
	j := s.job()
	if err := s.starts.resolve(j); err != nil {
		return t // the command is not there, and may be what is deployed
	}
	if s.starts.checked(j) {
		t.File = s.starts.target(j)
		if real, err := filepath.EvalSymlinks(t.File); err == nil {
			t.Real = real
		}
	}
	return t
}

// runsOther reports whether a release that the kernel runs by another format of files
// was started before (binfmt_misc), so that another one may be too.
func (s *deploys) runsOther() (runs bool) {
	s.engine.ask(func() {
		for _, r := range s.starts.releases.held {
			if r.file != nil && r.file.Kind == release.KindOther {
				runs = true
			}
		}
	})
	return runs
}

// job is one that is not started. Its number only says that it is not the first.
func (s *deploys) job() *job {
	return &job{n: 2, source: machine.Newest, cause: machine.ByDeploy, script: -1, cancel: make(chan struct{})}
}

// prove returns why what lies at a path would not be started in the place of what
// runs. It is asked before anything is replaced.
func (s *deploys) prove(path string, gone <-chan struct{}) error {
	if !filepath.IsAbs(path) {
		return errors.New("the path is not absolute")
	}
	j := s.job()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-gone:
			close(j.cancel)
		case <-ended:
		}
	}()
	resolved := true
	if err := s.starts.resolve(j); err != nil {
		resolved = false
		j.env, _, _ = s.contract.Environment(j.n)
	}
	f, err := release.Open(path, release.CheckOptions{As: s.credential(), NoExec: j.script >= 0, KernelDecides: s.starts.releases.doubtful(), Done: j.cancel})
	if err != nil {
		return err
	}
	defer f.Close()
	if resolved && j.script < 0 && f.Kind == release.KindOther && f.Digest.Known() && !s.runsOther() {
		return errors.New("neither an ELF file nor a #! script")
	}
	if _, tree := s.tree(); s.trust != nil && !tree {
		if err := f.LoadSignature(); err != nil {
			return err
		}
		if err := f.Verify(s.trust, false, j.cancel); err != nil {
			return err
		}
	}
	if s.cfg.Check == "" {
		return nil
	}
	c := s.checker()
	c.Path, c.Env = path, contract.WithoutSockets(j.env)
	c.Timeout, c.Cancel = s.cfg.CheckTimeout, j.cancel
	if err := c.Run(); err != nil {
		return fmt.Errorf("--check: %v", err)
	}
	return nil
}
