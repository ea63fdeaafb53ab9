package handoff

import (
	"errors"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/order"
	"github.com/hotinit/hotinit/internal/programs"
	"github.com/hotinit/hotinit/internal/sockets"
)

// A program that a file made has a plan for each version of the file that is in use.
// A changed file starts a candidate with the new plan; what runs goes on with its own,
// and its sockets, until the candidate is current. That is all that a swap of settings
// is: the machine knows nothing of it, since the settings are a part of the name of a
// release (release.Release.Settings). So settings that failed are rejected, and a
// rollback leads to the settings that were good, as with an executable.

// membership is what there is to know of a program that a file made. Of the program of
// the command line it is a plan that never changes.
type membership struct {
	next  *plan            // what its file says: for the next generation
	plans map[string]*plan // those that may be needed, by hash
	uses  map[int]*plan    // which one each generation runs with

	fresh  bool      // next was not tried yet
	missed bool      // nor by the last handoff, which may have been lost before it could
	failed string    // why next failed, "" where it did not
	gone   bool      // its file was removed
	why    string    // the last line about its end
	ticked time.Time // from when on its schedule counts

	was   *order.Facts                   // what the last handoff knew of its place
	facts func(*program) order.Facts     // its place in the order, for the record
	place func(*program, *machine.State) // tells the order where it is

	disposed bool  // there is no such program any more
	fault    error // why its file cannot be used as it is now

	inherited func() map[int]int // what hotinit was started with
	settled   func()             // called once it is over and nothing of it is left
	recalled  bool               // the state directory is read, or is being read
	recalling bool               // and the program is started after that
}

// programVariable has a program's name in the environment of its processes.
const programVariable = "HOTINIT_PROGRAM"

// planOf returns what generation n runs with.
func (s *program) planOf(n int) *plan {
	if pl := s.uses[n]; pl != nil {
		return pl
	}
	return s.plan
}

// choose returns the plan of a generation that is to be started.
func (s *program) choose(e machine.Effect) *plan {
	if e.Source == machine.Held {
		if r := s.releases.held[e.Release]; r != nil && s.plans[r.file.Settings] != nil {
			return s.plans[r.file.Settings]
		}
		return s.next
	}
	switch e.Cause {
	case machine.ByRestart, machine.ByAutoRestart, machine.ByStall:
		if s.failed != "" && !s.fresh {
			return s.plan // what serves, or did, and not what failed
		}
	}
	return s.next
}

func (s *program) prepareMember(e machine.Effect) (machine.Event, bool) {
	pl := s.choose(e)
	fresh := s.fresh && pl == s.next
	if pl == s.next {
		s.fresh = false
	}
	s.uses[e.N] = pl
	if err := s.open(pl, s.inherited(), nil); err != nil {
		return machine.Event{Kind: machine.NotStarted, N: e.N, Status: statusOfError(err), Reason: err.Error()}, true
	}
	s.lead().watchFiles()
	s.passes(e.N, pl)
	return s.starts.with(pl).prepare(e, fresh)
}

// toDeploy returns what a deployed release will run with: what the file says, not what a
// rollback has led to. It is a copy, as the loop may bind its sockets meanwhile.
func (s *program) toDeploy() (*plan, error) {
	pl := *s.next
	if pl.opened {
		return &pl, nil
	}
	return &pl, s.describe(&pl, nil)
}

func statusOfError(err error) int {
	var e interface{ ExitCode() int }
	if errors.As(err, &e) {
		return e.ExitCode()
	}
	return exitcode.Failure
}

// passes notes which sockets a generation gets.
func (s *program) passes(n int, pl *plan) {
	var fds []int
	for _, sock := range pl.contract.Sockets {
		fds = append(fds, sock.FD)
	}
	s.adoption.passed.Store(n, fds)
}

// retune has the policy follow from the plans that are in use.
func (s *program) retune() {
	if !s.member {
		s.engine.policy.Ready = readyMode(s.cfg, s.adoption.has(s.plan))
		return
	}
	serves, starts := s.inUse()
	if serves != s.plan {
		s.activate(serves)
	}
	p := newPolicy(serves.cfg, s.adoption.has(serves))
	if starts != serves {
		// The candidate has to show what its own settings ask for. All else is of
		// the generation that serves, until it does not any more.
		c := newPolicy(starts.cfg, s.adoption.has(starts))
		p.Ready, p.Interval, p.ReadyTimeout = c.Ready, c.Interval, c.ReadyTimeout
	}
	p.Quiet = p.Quiet && s.engine.policy.Quiet
	p.Rolling = p.InTurn && s.group != nil && s.group.rolling
	*s.engine.policy = *p
}

// inUse returns the plans of the generation that serves and of the one that is being
// started, as far as there are any.
func (s *program) inUse() (serves, starts *plan) {
	st := &s.engine.state
	for i := range st.Gens {
		switch g := &st.Gens[i]; g.Phase {
		case machine.Current:
			serves = s.planOf(g.N)
		case machine.Candidate, machine.Preparing:
			starts = s.planOf(g.N)
		}
	}
	switch {
	case serves == nil && starts != nil:
		serves = starts
	case serves == nil:
		serves = s.plan
	}
	if starts == nil {
		starts = serves
	}
	return serves, starts
}

// activate makes another plan that of the program.
func (s *program) activate(pl *plan) {
	before := s.plan
	s.common.plan = pl
	if before.cfg.StatusFile != pl.cfg.StatusFile {
		s.statusFile.remove()
		s.statusFile.path, s.statusFile.text = s.fromStart(pl.cfg.StatusFile), nil
	}
	if before.cfg.StallTimeout != pl.cfg.StallTimeout {
		s.queues.stop()
	}
	s.releases.unwatch()
	if s.engine.state.Current() != nil {
		s.starts.with(pl).watchResumed()
	}
}

// tune is called after each event.
func (s *program) tune(st machine.State) {
	s.outputs.tune(st)
	if !s.member {
		if s.place != nil {
			s.place(s, &st)
		}
		return
	}
	for n := range s.uses {
		if st.Find(n) == nil {
			delete(s.uses, n)
			s.adoption.passed.Delete(n)
		}
	}
	s.retune()
	s.freePlans(st)
	s.place(s, &st)
	s.touch()
}

// freePlans lets go of plans that nothing leads to, and of sockets that no generation
// of a plan has any more.
func (s *program) freePlans(st machine.State) {
	if st.Over && s.adoption.adopter != nil {
		s.adoption.letAllGo()
		for _, pl := range s.plans {
			pl.opened = false
		}
	}
	needed := map[string]bool{s.next.hash: true, s.plan.hash: true}
	for _, pl := range s.uses {
		needed[pl.hash] = true
	}
	for _, r := range s.releases.held {
		if r.file != nil {
			needed[r.file.Settings] = true
		}
	}
	for hash := range s.plans {
		if !needed[hash] {
			delete(s.plans, hash)
		}
	}
	s.lead().freeSockets()
}

// freeSockets lets go of the sockets that no generation of any instance has any more.
func (s *program) freeSockets() {
	keeps := make(map[string]bool)
	keep := func(pl *plan) {
		for _, spec := range pl.cfg.Sockets {
			keeps[spec.Key()] = true
		}
	}
	for _, p := range s.siblings() {
		if p.engine.state.Over {
			continue // where all are, who connects is refused
		}
		for _, pl := range p.uses {
			keep(pl)
		}
		if len(p.uses) == 0 {
			keep(p.plan) // another generation is about to be started
		}
	}
	freed := false
	for key, b := range s.bound {
		if !keeps[key] {
			s.free(key, b)
			freed = true
		}
	}
	if !freed {
		return
	}
	for _, p := range s.siblings() {
		for _, pl := range p.plans {
			if slices.ContainsFunc(pl.cfg.Sockets, func(spec sockets.Spec) bool { return s.bound[spec.Key()] == nil }) {
				pl.opened = false
			}
		}
	}
}

// free closes a socket for good: who connects from now on is refused.
func (s *program) free(key string, b *boundSocket) {
	delete(s.bound, key)
	if b.files != nil {
		b.files.release(b.spec)
		_ = unix.Chdir(s.home) // its path may be relative
		_ = sockets.Remove(b.spec)
		_ = unix.Chdir("/")
		s.kept.drop("file/" + key)
	}
	// Init closes its copy a moment later, and who starts the program again until then
	// must not find the port in use: a socket that does not listen any more lets
	// another one have it (SO_REUSEADDR).
	_ = unix.Shutdown(b.fd, unix.SHUT_RDWR)
	s.kept.drop("socket/" + key)
	unix.Close(b.fd)
}

// revise takes in that the program's file says something else.
func (s *program) revise(pl *plan) {
	if same := s.plans[pl.hash]; same != nil {
		same.cfg.After, same.cfg.Essential, same.text = pl.cfg.After, pl.cfg.Essential, pl.text
		pl = same
	}
	s.plans[pl.hash] = pl
	s.next, s.failed, s.fresh, s.missed = pl, "", true, false
}

// moves takes in that the program's file says another place among the others. Nothing
// of a generation follows from that, so the plan stays.
func (s *program) moves(d *programs.Definition) {
	s.next.cfg.After, s.next.cfg.Essential, s.next.text = d.Config.After, d.Config.Essential, d.Text
}

// swap starts a generation with the settings that the file says now.
func (s *program) swap() {
	pl, st := s.next, &s.engine.state
	ev := machine.Event{Kind: machine.Changed}
	if current := st.Current(); current != nil && s.planOf(current.N) == pl {
		// It is as it was: what was being started is not wanted any more.
		ev.Release, s.fresh = current.Release, false
		if len(st.Gens) == 1 {
			s.engine.record()
			return
		}
	}
	if s.recalling {
		return // it is started with what its file says by then
	}
	s.note("its file changed")
	s.engine.act(ev)
}

// start starts a program that is over, or was never started.
func (s *program) start() {
	if s.engine.state.Over {
		s.engine.state = s.engine.state.Revived()
		// What was left of a generation may have ended since; nobody took note.
		s.engine.state.Gens = slices.DeleteFunc(s.engine.state.Gens, func(g machine.Gen) bool { return s.processes.all[g.N] == nil })
		s.stopped = time.Time{}
	}
	switch {
	case s.recalling: // and then it is started
	case !s.recalled && s.starts.recall(true):
		s.recalled, s.recalling = true, true
	default:
		s.engine.act(machine.Event{Kind: machine.Boot})
	}
}

// recallResumed reads the state directory of a program that the last handoff has left. It
// may have left it before it was started.
func (s *program) recallResumed() {
	st := &s.engine.state
	if !st.Over {
		s.recalled = true
		s.recalling = s.starts.recall(st.Stop == 0 && len(st.Gens) == 0 && !st.RestartDue)
	}
}

// boot starts a program once its state directory is read. Meanwhile it may have been
// told to stop, or its file may have changed.
func (s *program) boot(ev machine.Event) {
	s.recalling = false
	if st := &s.engine.state; !s.member || !st.Over && st.Stop == 0 && len(st.Gens) == 0 {
		s.engine.act(ev)
	}
}

// halt stops the program. why ends its last line.
func (s *program) halt(why string) {
	s.engine.act(machine.Event{Kind: machine.Halt, Signal: int(unix.SIGTERM), Reason: why})
}

// over is called once the program has ended. What its generations have left may take
// as long as they might.
func (s *program) over() {
	grace := max(s.grace(), time.Second)
	time.AfterFunc(grace, func() {
		s.engine.do(func() {
			if s.engine.state.Over {
				for n := range s.processes.all {
					s.processes.kill(n)
				}
			}
		})
	})
}

// empty reports whether nothing of the program runs.
func (s *program) empty() bool { return s.engine.state.Over && len(s.processes.all) == 0 }

// dispose frees all that there is of a program whose file is gone.
func (s *program) dispose() {
	s.disposed = true
	s.releases.unwatch()
	s.queues.stop()
	s.adoption.letAllGo()
	s.closeNotifier()
	s.outputs.dispose()
	for key, b := range s.bound {
		s.free(key, b)
	}
	s.statusFile.remove()
	s.releases.removeCopies()
	for _, r := range s.releases.held {
		r.file.Close()
	}
	for _, t := range s.engine.timers {
		t.Stop()
	}
	s.kept.forget(s.name)
}

// outcomeOf notes what became of the settings that a generation was started with.
func (s *program) outcomeOf(e machine.Effect) {
	if e.None || s.planOf(e.N) != s.next {
		return
	}
	s.failed = ""
	if !e.OK {
		s.failed = e.Text
		if s.plan != s.next {
			s.line("its settings stay as they were until its file changes")
		}
	}
}

// recordPlans adds the plans that are in use to the record.
func (s *program) recordPlans(r *snapshot) {
	r.Order, r.Next, r.Fresh, r.Failed = s.facts(s), s.next.hash, s.fresh, s.failed
	if !s.ticked.IsZero() {
		r.Ticked = s.ticked.Unix()
	}
	r.Plans, r.Runs = make(map[string]planRecord), make(map[int]string)
	for hash, pl := range s.plans {
		r.Plans[hash] = planRecord{Text: string(pl.text), User: recordUser(pl.contract.Identity)}
	}
	for n, pl := range s.uses {
		r.Runs[n] = pl.hash
	}
}

// resumeMember takes over a program that a file made.
func (s *program) resumeMember(r *snapshot, recorded []byte, parse func(text string) (*programs.Definition, error)) error {
	s.failed, s.fresh, s.missed = r.Failed, r.Fresh, r.Fresh
	for hash, rec := range r.Plans {
		pl := s.plans[hash]
		if pl == nil {
			d, err := parse(rec.Text)
			if err != nil {
				s.line("the settings that it was started with cannot be read any more: %v; those of its file are used", err)
				continue
			}
			pl = planOf(s.home, d)
			pl.hash = hash
			s.plans[hash] = pl
		}
		if rec.User.Known {
			pl.user = rec.User.identity()
		}
	}
	if pl := s.plans[r.Next]; pl != nil {
		s.next = pl
	}
	for _, n := range slices.Sorted(maps.Keys(r.Runs)) {
		pl := s.plans[r.Runs[n]]
		if pl == nil {
			pl = s.next
		}
		s.uses[n] = pl
		if r.State.Find(n) == nil {
			continue
		}
		if err := s.open(pl, s.inherited(), recorded); err != nil {
			s.line("%v", err)
			continue
		}
		s.passes(n, pl)
	}
	s.engine.state = r.State
	if serves, _ := s.inUse(); serves != s.plan {
		s.common.plan = serves
	}
	if err := s.resumeFrom(r); err != nil {
		return err
	}
	if s.engine.state.Over {
		s.engine.first = machine.Event{Kind: machine.Noted}
	}
	s.retune()
	if s.engine.state.Current() != nil {
		s.starts.with(s.plan).watchResumed()
	}
	s.listen()
	return nil
}

// planOf returns the plan of what a file says.
func planOf(home string, d *programs.Definition) *plan {
	pl := newPlan(home, d.Config)
	pl.hash, pl.text = d.Hash, d.Text
	return pl
}
