package handoff

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/adopt"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/proc"
	"github.com/hotinit/hotinit/internal/settings"
	"github.com/hotinit/hotinit/internal/spawn"
)

// adoption takes over the sockets that the app binds itself (--adopt). Its
// fields belong to the loop; the Adopter has goroutines of its own, which reach
// the loop by the methods of adoptionHost. The instances of a program have one
// Adopter, which is their leader's.
type adoption struct {
	*common
	processes *processes
	await     func(p *process, sockets func() []int) // posts what is seen of p
	changed   func()                                 // tells those who look at the sockets

	adopter  *adopt.Adopter // nil: no call of the app is notified
	lead     func() *adoption
	together adopting // of the leader
	off      bool     // no more filters: the kernel did not take one
	why      string   // why a generation goes without, as it was last said
	alive    []int    // the generations that the adopter was told last
	current  int

	plans  func(n int) *plan // that of a generation
	passed sync.Map          // the sockets that a generation gets, []int by its number; of a member
	retune func()            // has the policy follow from what is known now
	hint   func(n int, ok bool)
}

// adopting is what the instances of a program adopt sockets by.
type adopting struct {
	adopter *adopt.Adopter // nil: none of them does
	// listeners are the notification descriptors that the last handoff left.
	listeners map[string]int
	mu        sync.Mutex
	instances map[int]*adoption // those that take part; changed by the loop, guarded by mu
}

// adoptionHost is what the adopter sees of the handoff. It is the leader's.
type adoptionHost struct{ *adoption }

// of returns what a generation's instance has to do with it.
func (h adoptionHost) of(n adopt.Gen) *adoption {
	h.together.mu.Lock()
	defer h.together.mu.Unlock()
	return h.together.instances[n.Instance]
}

// Keep and Drop do not go by kept, which belongs to the loop.
func (h adoptionHost) Keep(name string, fd int) error {
	if err := h.link.SendWait(&message.Keep{Name: h.kept.prefix + name, FD: fd}); err != nil {
		return fmt.Errorf("cannot make init keep %s: %w", name, err)
	}
	return nil
}

func (h adoptionHost) Drop(name string) {
	_ = h.link.SendWait(&message.Drop{Name: h.kept.prefix + name})
}

func (h adoptionHost) Say(n adopt.Gen, format string, args ...any) {
	if d := h.of(n); d != nil {
		d.line(format, args...)
		return
	}
	h.line(format, args...)
}

// Listens does not wait for the loop, which may be about to ask the adopter.
func (h adoptionHost) Listens(n adopt.Gen, socket string, adopted bool) {
	if d := h.of(n); d != nil {
		go d.engine.do(func() { d.listens(n.N, socket, adopted) })
	}
}

func (h adoptionHost) Foreign(pid int) bool { return h.mains.foreign(pid, h.name) }

// number is which instance of its program this is.
func (d *adoption) number() int {
	_, n := fileOf(d.name)
	return n
}

// gen names a generation of this instance.
func (d *adoption) gen(n int) adopt.Gen { return adopt.Gen{Instance: d.number(), N: n} }

func (d *adoption) host() adoptionHost { return adoptionHost{d.lead()} }

// join has the instance take part in what the others share. take says that the app's
// sockets can be taken.
func (d *adoption) join(take bool) {
	if d.adopter != nil {
		return
	}
	lead := d.lead()
	s := &lead.together
	if s.adopter == nil {
		s.listeners = lead.kept.takeAll(adopt.Kept)
		s.adopter = adopt.New(adoptionHost{lead}, &lead.poller, take, s.listeners)
	}
	s.mu.Lock()
	if s.instances == nil {
		s.instances = make(map[int]*adoption)
	}
	s.instances[d.number()] = d
	s.mu.Unlock()
	d.adopter = s.adopter
	d.adopter.Join(d.number())
}

// start finds out whether the calls of an app that runs with a plan are notified.
func (d *adoption) start(pl *plan) error {
	on := pl.cfg.Adopt == settings.AdoptOn
	wanted := false
	if pl.calls, wanted = pl.adopts(); !wanted {
		return nil
	}
	if err := adopt.Supported(); err != nil {
		if on {
			return fmt.Errorf("cannot adopt the app's sockets (--adopt on): %w", err)
		}
		d.without(pl, err.Error())
		return nil
	}
	other := pl.credential() != nil && int(pl.credential().UID) != os.Geteuid()
	take := adopt.CanTake(other)
	if !take && pl.calls&adopt.Bind != 0 {
		pl.calls |= adopt.Options
	}
	d.join(take)
	for _, sock := range pl.contract.Sockets {
		d.adopter.Passed(sock.FD)
	}
	return nil
}

// adopts says which calls of the app are to be notified, if any.
func (p *plan) adopts() (calls adopt.Calls, wanted bool) {
	on := p.cfg.Adopt == settings.AdoptOn
	switch {
	case p.cfg.Adopt == settings.AdoptOff, !on && p.cfg.Compat != "":
		return 0, false
	case len(p.contract.Sockets)+len(p.cfg.Sockets) > 0 && !on:
		return adopt.Shutdown, true // of a socket that is passed, none may end it for all
	case !on && !p.swaps():
		return 0, false
	}
	return adopt.Bind | adopt.Shutdown, true
}

// swaps reports whether anything but a client's request replaces a generation.
func (p *plan) swaps() bool {
	return p.cfg.Watch || p.cfg.ReloadSignal != 0 || p.cfg.AutoRestart || len(p.cfg.WatchPaths) > 0
}

// without says once why the app's own sockets are not adopted. Where it
// gets its sockets by descriptor, nothing is missing.
func (d *adoption) without(pl *plan, why string) {
	if why != d.why && pl.calls&adopt.Bind != 0 && pl.cfg.Verbosity > 0 {
		d.line("a server that binds its own port cannot be swapped here: %s (pass it its sockets by --port, or see --adopt)", why)
	}
	d.why = why
}

// takes reports whether a socket that the app binds itself is adopted.
func (d *adoption) takes() bool { return d.adopter != nil && !d.off && d.plan.calls&adopt.Bind != 0 }

// filter gives a generation the filter by which its calls are notified.
func (d *adoption) filter(spec *spawn.Spec, pl *plan) {
	if d.adopter == nil || d.off || pl.calls == 0 {
		return
	}
	if pl.cfg.Adopt != settings.AdoptOn && !pl.cfg.NoNewPrivs {
		command := spec.Path
		if !filepath.IsAbs(command) {
			command = filepath.Join(spec.Dir, command)
		}
		if harm := adopt.Harm(command, pathOf(spec.Env)); harm != "" {
			d.without(pl, harm+", and the kernel asks for no_new_privs; --adopt on accepts that")
			return
		}
	}
	if pl.calls&adopt.Bind != 0 {
		d.adopter.Swapping(d.number())
	}
	spec.Filter = adopt.Program(pl.calls)
	spec.FilterFlags = adopt.Flags()
	spec.FilterPrivs = adopt.NeedsPrivs()
}

// pathOf is the PATH of an environment.
func pathOf(env []string) string {
	path := ""
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, "PATH="); ok {
			path = value
		}
	}
	return path
}

// unfiltered turns adoption off where the kernel does not take the filter, and
// reports whether to start the generation without.
func (d *adoption) unfiltered(e *spawn.Error, pl *plan) bool {
	if e.Op != "seccomp" || pl.cfg.Adopt == settings.AdoptOn {
		return false
	}
	why := e.Err.Error()
	if e.Err == unix.EBUSY {
		why = "hotinit itself runs under a filter with notifications"
	}
	d.without(pl, why)
	d.off = true
	return true
}

// keep makes init keep what a generation's calls are answered by, before
// there is a program that makes one.
func (d *adoption) keep(n, fd int) {
	if fd >= 0 {
		if err := d.host().Keep(adopt.ListenerName(d.gen(n)), fd); err != nil {
			d.line("%v", err)
		}
	}
}

// drop is for a generation that was not started.
func (d *adoption) drop(n int) {
	if d.adopter != nil {
		d.host().Drop(adopt.ListenerName(d.gen(n)))
	}
}

// answer answers the calls of a generation that was started.
func (d *adoption) answer(n int, c spawn.Child) {
	if c.Listener >= 0 {
		d.adopter.Add(d.gen(n), c.PID, c.Listener)
	}
}

// resumeAdopted answers the calls of the generations that the last handoff started.
// all are the instances of a program: the adopter has to know all of them before it
// answers. below returns the processes below init.
func resumeAdopted(all []*program, below func() []proc.Stat) {
	s := &all[0].adoption.lead().together
	if s.adopter == nil {
		return
	}
	pids, fds := make(map[adopt.Gen]int), make(map[adopt.Gen]int)
	for name, fd := range s.listeners {
		if n, ok := adopt.ListenerOf(name); ok {
			pids[n], fds[n] = -1, fd
		}
	}
	s.listeners = nil
	for _, p := range all {
		st, d := &p.engine.state, p.adoption
		if !st.Over {
			d.join(false) // one that is about to be started again has sockets that wait for it
		}
		for _, g := range st.Gens {
			if _, ok := fds[d.gen(g.N)]; ok {
				pids[d.gen(g.N)] = g.PID
			}
		}
	}
	s.adopter.Resume(pids, fds, below)
	for _, p := range all {
		p.adoption.retune()
		for _, g := range p.engine.state.Gens {
			p.adoption.awaitReady(g.N)
		}
	}
}

// tell tells which generations there are.
func (d *adoption) tell(st machine.State) {
	if d.adopter == nil {
		return
	}
	if st.Stop != 0 {
		if d.current >= 0 {
			d.current = -1
			d.adopter.Stop(d.number())
		}
		return
	}
	alive, current := make([]int, 0, len(st.Gens)), 0
	for _, g := range st.Gens {
		alive = append(alive, g.N)
		if g.Phase == machine.Current {
			current = g.N
		}
	}
	if current == d.current && slices.Equal(alive, d.alive) {
		return
	}
	d.alive, d.current = alive, current
	d.adopter.Generations(d.number(), alive, current)
	d.retune()
}

// letAllGo closes what was adopted, and what no other instance has: this one is over. It
// may be started again.
func (d *adoption) letAllGo() {
	if d.adopter == nil {
		return
	}
	d.adopter.Stop(d.number())
	d.adopter, d.alive, d.current = nil, nil, 0
	s := &d.lead().together
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.instances, d.number())
	if len(s.instances) == 0 {
		s.adopter = nil
	}
}

// end comes before the verdict: nobody answers then.
func (d *adoption) end() {
	if a := d.together.adopter; a != nil { // the leader's, for all
		a.End()
	}
}

// sockets are the descriptors of what generation n is to serve: the sockets that
// it was passed, and those that it listens on itself. It may be called from any
// goroutine.
func (d *adoption) sockets(n int) (fds []int) {
	if passed, ok := d.passed.Load(n); ok {
		fds = append(fds, passed.([]int)...)
	} else if !d.member {
		for _, sock := range d.contract.Sockets {
			fds = append(fds, sock.FD)
		}
	}
	if a := d.adopter; a != nil {
		fds = append(fds, a.Descriptors(d.gen(n))...)
	}
	return fds
}

// letGo closes the sockets that the app has closed, and reports whether there were
// any. It may be called from any goroutine.
func (d *adoption) letGo() bool { return d.adopter != nil && d.adopter.LetGo() }

// has reports whether the policy has to ask for a generation that waits for
// connections and accepts them: whether the program has sockets.
func (d *adoption) has(pl *plan) bool {
	if len(pl.contract.Sockets) > 0 {
		return true
	}
	for _, g := range d.engine.state.Gens {
		starts := g.Phase == machine.Current || g.Phase == machine.Candidate
		if starts && d.adopter != nil && len(d.adopter.Descriptors(d.gen(g.N))) > 0 {
			return true
		}
	}
	return false
}

// listens acts upon the news that generation n listens on a socket of its own.
func (d *adoption) listens(n int, socket string, adopted bool) {
	if d.cfg.Compat == "" {
		d.engine.policy.Quiet = false // hotinit is more than an init here
	}
	if adopted {
		d.note("generation %d listens on %s; the next one will share it (--adopt)", n, socket)
	}
	d.changed()
	d.retune()
	d.awaitReady(n)
	if g := d.engine.state.Current(); adopted && g != nil && g.N == n {
		d.hint(n, true) // it was ready before it had a socket
	}
	d.engine.act(machine.Event{Kind: machine.Noted}) // other timers may run now
}

// awaitReady observes a candidate: what counts is whether it waits for connections
// once it has bound all that the current generation listens on.
func (d *adoption) awaitReady(n int) {
	p := d.processes.all[n]
	g, current, pl := d.engine.state.Find(n), d.engine.state.Current(), d.plans(n)
	switch {
	case d.adopter == nil, len(pl.contract.Sockets) > 0:
	case pl.cfg.Ready.Mode != settings.ReadyAuto && pl.cfg.Ready.Mode != settings.ReadyAccept:
	case p == nil, p.stop == nil, p.awaited, g == nil, g.Phase != machine.Candidate && g.Phase != machine.Preparing:
	case current == nil && len(d.adopter.Descriptors(d.gen(n))) > 0:
		p.awaited = true
		d.await(p, func() []int { return d.adopter.Descriptors(d.gen(n)) })
	case current != nil && len(d.adopter.Descriptors(d.gen(current.N))) > 0:
		p.awaited = true
		of := current.N
		d.await(p, func() []int {
			if !d.adopter.Binds(d.gen(n), d.gen(of)) {
				return nil
			}
			return d.adopter.Descriptors(d.gen(n))
		})
	}
}

// names are the addresses of the instance's sockets that were adopted.
func (d *adoption) names() (names []string) {
	if a := d.adopter; a != nil {
		for _, sock := range a.Sockets() {
			mine := func(n adopt.Gen) bool { return n.Instance == d.number() }
			if len(sock.By) == 0 || slices.ContainsFunc(sock.By, mine) {
				names = append(names, sock.Name)
			}
		}
	}
	return names
}
