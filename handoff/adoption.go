package handoff

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/adopt"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/settings"
	"github.com/hotinit/hotinit/internal/spawn"
)

// adoption takes over the sockets that the app binds itself (--adopt). Its
// fields belong to the loop; the Adopter has goroutines of its own, which reach
// the loop by the methods of adoptionHost.
type adoption struct {
	*common
	processes *processes
	await     func(p *process, sockets func() []int) // posts what is seen of p
	changed   func()                                 // tells those who look at the sockets

	adopter *adopt.Adopter // nil: no call of the app is notified
	calls   adopt.Calls    // what a generation's filter notifies
	off     bool           // no more filters: the kernel did not take one
	why     string         // why a generation goes without, as it was last said
	// listeners are the notification descriptors that the last handoff left.
	listeners map[string]int
	alive     []int // the generations that the adopter was told last
	current   int
}

// adoptionHost is what the adopter sees of the handoff.
type adoptionHost struct{ *adoption }

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

func (h adoptionHost) Say(format string, args ...any) { say.Line(format, args...) }

// Listens does not wait for the loop, which may be about to ask the adopter.
func (h adoptionHost) Listens(n int, socket string, adopted bool) {
	go h.engine.do(func() { h.listens(n, socket, adopted) })
}

// start finds out whether the app's calls are notified.
func (d *adoption) start() error {
	on := d.cfg.Adopt == settings.AdoptOn
	wanted := false
	if d.calls, wanted = d.wanted(); !wanted {
		return nil
	}
	if err := adopt.Supported(); err != nil {
		if on {
			return fmt.Errorf("cannot adopt the app's sockets (--adopt on): %w", err)
		}
		d.without(err.Error())
		return nil
	}
	other := d.credential() != nil && int(d.credential().UID) != os.Geteuid()
	take := adopt.CanTake(other)
	if !take && d.calls&adopt.Bind != 0 {
		d.calls |= adopt.Options
	}
	kept := make(map[string]int)
	for name := range d.link.kept {
		if rest, ok := strings.CutPrefix(name, d.kept.prefix); ok && adopt.Kept(rest) {
			kept[rest] = d.link.take(name)
		}
	}
	d.adopter = adopt.New(adoptionHost{d}, take, kept)
	for _, sock := range d.contract.Sockets {
		d.adopter.Passed(sock.FD)
	}
	d.listeners = kept
	return nil
}

// wanted says which calls of the app are to be notified, if any.
func (d *adoption) wanted() (calls adopt.Calls, wanted bool) {
	on := d.cfg.Adopt == settings.AdoptOn
	switch {
	case d.cfg.Adopt == settings.AdoptOff, !on && d.cfg.Compat != "":
		return 0, false
	case len(d.contract.Sockets)+len(d.cfg.Sockets) > 0 && !on:
		return adopt.Shutdown, true // of a socket that is passed, none may end it for all
	case !on && !d.swaps():
		return 0, false
	}
	return adopt.Bind | adopt.Shutdown, true
}

// swaps reports whether anything but a client's request replaces a generation.
func (d *adoption) swaps() bool {
	return d.cfg.Watch || d.cfg.ReloadSignal != 0 || d.cfg.AutoRestart || len(d.cfg.WatchPaths) > 0
}

// without says once why the app's own sockets are not adopted. Where it
// gets its sockets by descriptor, nothing is missing.
func (d *adoption) without(why string) {
	if why != d.why && d.calls&adopt.Bind != 0 && d.cfg.Verbosity > 0 {
		say.Line("a server that binds its own port cannot be swapped here: %s (pass it its sockets by --port, or see --adopt)", why)
	}
	d.why = why
}

// takes reports whether a socket that the app binds itself is adopted.
func (d *adoption) takes() bool { return d.adopter != nil && !d.off && d.calls&adopt.Bind != 0 }

// filter gives a generation the filter by which its calls are notified.
func (d *adoption) filter(spec *spawn.Spec) {
	if d.adopter == nil || d.off {
		return
	}
	if d.cfg.Adopt != settings.AdoptOn && !d.cfg.NoNewPrivs {
		command := spec.Path
		if !filepath.IsAbs(command) {
			command = filepath.Join(spec.Dir, command)
		}
		if harm := adopt.Harm(command, pathOf(spec.Env)); harm != "" {
			d.without(harm + ", and the kernel asks for no_new_privs; --adopt on accepts that")
			return
		}
	}
	if d.calls&adopt.Bind != 0 {
		d.adopter.Swapping()
	}
	spec.Filter = adopt.Program(d.calls)
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
func (d *adoption) unfiltered(e *spawn.Error) bool {
	if e.Op != "seccomp" || d.cfg.Adopt == settings.AdoptOn {
		return false
	}
	why := e.Err.Error()
	if e.Err == unix.EBUSY {
		why = "hotinit itself runs under a filter with notifications"
	}
	d.without(why)
	d.off = true
	return true
}

// keep makes init keep what a generation's calls are answered by, before
// there is a program that makes one.
func (d *adoption) keep(n, fd int) {
	if fd >= 0 {
		if err := (adoptionHost{d}).Keep(adopt.ListenerName(n), fd); err != nil {
			say.Line("%v", err)
		}
	}
}

// drop is for a generation that was not started.
func (d *adoption) drop(n int) {
	if d.adopter != nil {
		adoptionHost{d}.Drop(adopt.ListenerName(n))
	}
}

// answer answers the calls of a generation that was started.
func (d *adoption) answer(n int, c spawn.Child) {
	if c.Listener >= 0 {
		d.adopter.Add(n, c.PID, c.Listener)
	}
}

// resume answers the calls of the generations that the last handoff started.
func (d *adoption) resume(st *machine.State) {
	if d.adopter == nil {
		return
	}
	pids, fds := make(map[int]int), make(map[int]int)
	for name, fd := range d.listeners {
		if n, ok := adopt.ListenerOf(name); ok {
			pids[n], fds[n] = -1, fd
			if g := st.Find(n); g != nil {
				pids[n] = g.PID
			}
		}
	}
	d.listeners = nil
	d.adopter.Resume(pids, fds)
	d.decide()
	for _, g := range st.Gens {
		d.awaitReady(g.N)
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
			d.adopter.Stop()
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
	d.adopter.Generations(alive, current)
	d.decide()
}

// end comes before the verdict: nobody answers then.
func (d *adoption) end() {
	if d.adopter != nil {
		d.adopter.End()
	}
}

// sockets are the descriptors of what generation n is to serve: the sockets that
// it was passed, and those that it listens on itself. It may be called from any
// goroutine.
func (d *adoption) sockets(n int) (fds []int) {
	for _, sock := range d.contract.Sockets {
		fds = append(fds, sock.FD)
	}
	if a := d.adopter; a != nil {
		fds = append(fds, a.Descriptors(n)...)
	}
	return fds
}

// letGo closes the sockets that the app has closed, and reports whether there were
// any. It may be called from any goroutine.
func (d *adoption) letGo() bool { return d.adopter != nil && d.adopter.LetGo() }

// decide makes the policy ask for a generation that waits for connections and
// accepts them, where the program has sockets.
func (d *adoption) decide() {
	has := len(d.contract.Sockets) > 0
	for _, g := range d.engine.state.Gens {
		starts := g.Phase == machine.Current || g.Phase == machine.Candidate
		has = has || starts && d.adopter != nil && len(d.adopter.Descriptors(g.N)) > 0
	}
	d.engine.policy.Ready = readyMode(d.cfg, has)
}

// listens acts upon the news that generation n listens on a socket of its own.
func (d *adoption) listens(n int, socket string, adopted bool) {
	if adopted && d.cfg.Compat == "" {
		d.engine.policy.Quiet = false // hotinit is more than an init here
	}
	if adopted {
		say.Note("generation %d listens on %s; the next one will share it (--adopt)", n, socket)
	}
	d.changed()
	d.decide()
	d.awaitReady(n)
	d.engine.act(machine.Event{Kind: machine.Noted}) // other timers may run now
}

// awaitReady observes a candidate: what counts is whether it waits for connections
// once it has bound all that the current generation listens on.
func (d *adoption) awaitReady(n int) {
	p := d.processes.all[n]
	g, current := d.engine.state.Find(n), d.engine.state.Current()
	switch {
	case d.adopter == nil, len(d.contract.Sockets) > 0:
	case d.cfg.Ready.Mode != settings.ReadyAuto && d.cfg.Ready.Mode != settings.ReadyAccept:
	case p == nil, p.stop == nil, p.awaited, g == nil, g.Phase != machine.Candidate && g.Phase != machine.Preparing:
	case current == nil && len(d.adopter.Descriptors(n)) > 0:
		p.awaited = true
		d.await(p, func() []int { return d.adopter.Descriptors(n) })
	case current != nil && len(d.adopter.Descriptors(current.N)) > 0:
		p.awaited = true
		of := current.N
		d.await(p, func() []int {
			if !d.adopter.Binds(n, of) {
				return nil
			}
			return d.adopter.Descriptors(n)
		})
	}
}

// names are the addresses of the sockets that were adopted.
func (d *adoption) names() (names []string) {
	if a := d.adopter; a != nil {
		for _, sock := range a.Sockets() {
			names = append(names, sock.Name)
		}
	}
	return names
}
