package handoff

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/order"
	"github.com/hotinit/hotinit/internal/programs"
	"github.com/hotinit/hotinit/internal/roll"
)

// instances are the programs that one file makes: with HOTINIT_INSTANCES several, else
// one. Each has an engine, a record and a place in the order of its own. The first one
// leads: it is there for as long as the file, and has the sockets of all of them. Which
// one may be replaced next is decided by package roll.
type instances struct {
	all     []*program // by number; those that have to go are in it until nothing of them is left
	rolling bool       // they are being replaced
	touched bool       // they are about to be looked at
	look    func(*instances)
	// stays reports that no further one may be replaced just now.
	stays func() bool
}

// instanceVariable has an instance's number in the environment of its processes.
const instanceVariable = "HOTINIT_INSTANCE"

// instanceMark is between a file's name and a number in the name of a program: nothing
// else may be in such a name, and it may be in that of a file or a cgroup.
const instanceMark = "+"

// instanceName is the name of a file's nth program.
func instanceName(file string, n int) string {
	if n == 0 {
		return file
	}
	return file + instanceMark + strconv.Itoa(n)
}

// fileOf returns whose instance a program is, and which one.
func fileOf(name string) (file string, n int) {
	file, number, ok := strings.Cut(name, instanceMark)
	if ok {
		n, _ = strconv.Atoi(number)
	}
	return file, n
}

// lead is the instance that has the sockets of all, of a program of its own that one.
func (s *program) lead() *program {
	if s.group == nil || len(s.group.all) == 0 {
		return s
	}
	return s.group.all[0]
}

// siblings are all instances of the program.
func (s *program) siblings() []*program {
	if s.group == nil {
		return []*program{s}
	}
	return s.group.all
}

// several reports whether the program's file says that it has instances, be it one.
func (s *program) several() bool { return s.next.cfg.Instances > 0 }

// entitle notes how the program is called, since its file may say that it is one of
// several now.
func (s *program) entitle() {
	title := s.name
	if file, n := fileOf(s.name); s.several() {
		title = file + "/" + strconv.Itoa(n)
	}
	s.title.Store(&title)
}

// instance is the number that the processes of a plan are told, "" for none.
func (s *common) instance() string {
	if !s.member || s.cfg.Instances == 0 {
		return ""
	}
	_, n := fileOf(s.name)
	return strconv.Itoa(n)
}

func (g *instances) add(p *program) {
	_, n := fileOf(p.name)
	i, _ := slices.BinarySearchFunc(g.all, n, func(o *program, n int) int {
		_, m := fileOf(o.name)
		return m - n
	})
	g.all = slices.Insert(g.all, i, p)
	p.group = g
}

// touch has the instances looked at once the loop is done with what it does.
func (s *program) touch() {
	st, g := &s.engine.state, s.group
	if g == nil || g.touched || !s.engine.policy.InTurn && (st.Leave == machine.NoLeave || s.engine.policy.Through) {
		return
	}
	g.touched = true
	g.look(g)
}

// step has the one replaced next whose turn it is.
func (g *instances) step() {
	g.touched = false
	states := make([]*machine.State, len(g.all))
	for i, p := range g.all {
		states[i] = &p.engine.state
	}
	for {
		step, ok := roll.Next(states)
		if !ok || step.Event.Kind == machine.LeaveCome && g.stays() {
			break
		}
		g.all[step.N].engine.act(step.Event)
	}
	if rolling := roll.Rolling(states); rolling != g.rolling {
		g.rolling = rolling
		for _, p := range g.all {
			p.engine.policy.Rolling = rolling && p.engine.policy.InTurn
			p.engine.arm()
		}
	}
}

// withdraw has the other instances leave a release that has failed in this one. They
// are told before this one's record says so: a handoff that takes over between the two
// does it again.
func (s *program) withdraw(e machine.Effect) {
	failed := s.planOf(e.N).hash
	for _, p := range s.siblings() {
		if p == s || p.engine.state.Over {
			continue
		}
		if p.engine.state.Due && p.next.hash == s.next.hash && failed != p.next.hash {
			continue // it waits to be started with newer settings than what failed
		}
		if e.Swap && failed == s.next.hash && s.plan != s.next && p.plan != p.next && p.next.hash == s.next.hash {
			p.failed, p.fresh = e.Text, false
		}
		p.engine.act(roll.Withdrawn(e, *s.title.Load()))
	}
}

// wanted is a program that the files ask for.
type wanted struct {
	*programs.Definition
	file string
}

// wantedBy are the programs that files ask for, by name.
func wantedBy(set *programs.Set) map[string]wanted {
	all := make(map[string]wanted, len(set.Programs))
	for file, d := range set.Programs {
		for n := range max(d.Config.Instances, 1) {
			all[instanceName(file, n)] = wanted{d, file}
		}
	}
	return all
}

// expand names the instances of programs.
func (s *supervisor) expand(names []string) (all []string) {
	for _, name := range names {
		lead := s.byName[name]
		if lead == nil {
			all = append(all, name)
			continue
		}
		for _, p := range lead.siblings() {
			if p == lead || !p.gone {
				all = append(all, p.name)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// respecify adds those that come after a program which has more or fewer instances now.
func (s *supervisor) respecify(ev *order.Event) {
	for _, p := range s.programs {
		o := s.order.Find(p.name)
		if !p.member || p.gone || o == nil || len(p.next.cfg.After) == 0 {
			continue
		}
		if slices.ContainsFunc(ev.Set, func(spec order.Spec) bool { return spec.Name == p.name }) {
			continue
		}
		if spec := s.spec(p); !slices.Equal(spec.After, o.After) {
			spec.Same = true
			ev.Set = append(ev.Set, spec)
		}
	}
}

// holdWithOthers has an instance that is new stay stopped, where somebody has stopped the
// program as a whole.
func (s *supervisor) holdWithOthers(p *program) *order.Facts {
	others := 0
	for _, o := range p.siblings() {
		at := s.order.Find(o.name)
		switch {
		case o == p || at == nil:
		case !at.Held:
			return nil
		default:
			others++
		}
	}
	if others == 0 {
		return nil
	}
	return &order.Facts{Held: true}
}

// meant returns the programs that a client names: web is all of its instances, and web/2
// one of them.
func (s *supervisor) meant(name string) []*program {
	p := s.find(name)
	switch {
	case p == nil:
		return nil
	case strings.Contains(name, "/") || p.group == nil:
		return []*program{p}
	}
	var all []*program
	for _, o := range p.siblings() {
		if o == p || !o.gone {
			all = append(all, o)
		}
	}
	return all
}

// findInstance returns the instance that a name like web/2 is of, nil if there is none.
func (s *supervisor) findInstance(name string) *program {
	file, number, ok := strings.Cut(name, "/")
	n, err := strconv.Atoi(number)
	if !ok || err != nil || n < 0 {
		return nil
	}
	if p := s.byName[instanceName(file, n)]; p != nil && p.several() {
		return p
	}
	return nil
}

// noInstance says why there is no such instance, nil where the name is not of one.
func (s *supervisor) noInstance(name string) error {
	file, _, ok := strings.Cut(name, "/")
	p := s.byName[file]
	switch {
	case !ok || p == nil:
		return nil
	case !p.several():
		return fmt.Errorf("program %s has no instances (HOTINIT_INSTANCES)", file)
	}
	return fmt.Errorf("there is no instance %q: program %s has %d, from %s/0 on", name, file, len(s.meant(file)), file)
}

// answerInstances answers what is asked of a program that has several instances, and
// reports whether it did: a swap of all of them, each in its turn, or a hold. What is the
// same for all is asked of the first one.
func (s *supervisor) answerInstances(all []*program, r *control.Request, reply func(control.Response) bool, gone <-chan struct{}) bool {
	switch r.Op {
	case "reload", "rollback":
		s.loop.ask(func() {
			all = slices.DeleteFunc(all, func(p *program) bool { return p.engine.state.Over })
		})
		if len(all) == 0 {
			reply(control.Response{Text: fmt.Sprintf("no instance of program %s runs", r.Program)})
			return true
		}
	case "hold", "resume", "wait":
	case "deploy":
		s.deployEach(all, r, reply, gone)
		return true
	default:
		return false
	}
	s.askEach(all, *r, reply, gone)
	return true
}

// deployEach has every instance take what was put in place, and answers once: by the
// one that failed, where one did.
func (s *supervisor) deployEach(all []*program, r *control.Request, reply func(control.Response) bool, gone <-chan struct{}) {
	var answer control.Response
	off := func(a control.Response) bool { return strings.Contains(a.Text, "the swap is off: ") }
	s.askEach(all, *r, func(a control.Response) bool {
		if answer.Text == "" || answer.OK && !a.OK || !answer.OK && !a.OK && off(answer) && !off(a) {
			answer = a
		}
		return true
	}, gone)
	answer.More = false
	if answer.OK && r.Wait {
		answer.Text = fmt.Sprintf("each of the %d instances: %s", len(all), answer.Text)
	}
	reply(answer)
}

// signalEach sends a signal to what serves of each instance.
func (s *supervisor) signalEach(name string, all []*program, signal int) control.Response {
	if signal < 1 || signal > 64 {
		return control.Response{Text: fmt.Sprintf("there is no signal %d", signal)}
	}
	sent := 0
	for _, p := range all {
		if st := &p.engine.state; !st.Over && (st.Current() != nil || st.In(machine.Candidate) != nil) {
			p.engine.act(machine.Event{Kind: machine.Relay, Signal: signal})
			sent++
		}
	}
	if sent == 0 {
		return control.Response{Text: fmt.Sprintf("program %s has no generation that could get it", name)}
	}
	return control.Response{OK: true, Text: fmt.Sprintf("%s is sent to %d of %d instances of program %s", machine.SignalName(signal), sent, len(all), name)}
}
