package handoff

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/order"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/version"
)

// What is asked of several programs at once, or of the set of them. It runs on the
// goroutine of the request.

// answerSeveral answers what no program can by itself, and reports whether it did.
func (s *supervisor) answerSeveral(r *control.Request, reply func(control.Response) bool, gone <-chan struct{}) bool {
	if r.Op == "rollback" && r.Program == "" && r.Release != "" {
		s.loop.ask(func() {
			if s.find(r.Release) != nil {
				r.Program, r.Release = r.Release, "" // `hotinit rollback web`
			}
		})
	}
	files := s.cfg.Programs != ""
	var meant []*program
	s.loop.ask(func() { meant = s.meant(r.Program) })
	several := len(meant) > 1 // instances
	switch {
	case r.Op == "status" && (several || r.Program == "") && files:
		s.answerTable(r, reply, gone)
	case r.Op == "health" && (several || r.Program == "") && files:
		var a control.Response
		s.loop.ask(func() {
			if !several {
				meant = s.programs
			}
			a = s.health(meant)
		})
		reply(a)
	case r.Op == "reload" && r.All:
		var a control.Response
		if r.Wait {
			var all []*program
			s.loop.ask(func() { all = s.reloadable() })
			s.askEach(all, control.Request{Op: "reload", Wait: true}, reply, gone)
			return true
		}
		s.loop.ask(func() { a = s.reloadAll() })
		reply(a)
	case r.Op == "stop" && r.Program != "", r.Op == "start":
		var a control.Response
		s.loop.ask(func() { a = s.byHand(r) })
		if a.OK && r.Op == "start" && !several {
			s.loop.ask(func() { a = s.begun(r.Program, a) }) // what follows was done meanwhile
		}
		reply(a)
	case r.Op == "signal":
		var a control.Response
		s.loop.ask(func() { a = s.signalOne(r) })
		reply(a)
	case r.Op == "reload", r.Op == "rollback", r.Op == "target", r.Op == "deploy":
		why := ""
		s.loop.ask(func() {
			if several {
				return
			}
			p := s.find(r.Program)
			if p != nil && (r.Op == "target" || r.Op == "deploy") && s.betweenRuns(p) {
				return
			}
			if p != nil && p.member && p.engine.state.Over {
				why = fmt.Sprintf("program %s does not run: %s", *p.title.Load(), s.whyNot(p))
			}
		})
		if why == "" {
			return several && s.answerInstances(meant, r, reply, gone)
		}
		reply(control.Response{Text: why})
	default:
		return several && s.answerInstances(meant, r, reply, gone)
	}
	return true
}

// betweenRuns reports whether a program runs once, or at times, and has ended. What is
// deployed then is for its next run.
func (s *supervisor) betweenRuns(p *program) bool {
	if !p.member || !p.engine.state.Over {
		return false
	}
	o := s.order.Find(p.name)
	return o != nil && o.Once && !o.Held && o.Phase == order.Down
}

// summary is a program's row in the table.
func (s *supervisor) summary(p *program) control.Program {
	st := &p.engine.state
	row := control.Program{Name: *p.title.Load(), State: st.Situation().String(), Sockets: len(p.listensOn())}
	for cause, n := range p.counts.Starts {
		switch machine.Cause(cause) {
		case machine.ByRestart, machine.ByFailure, machine.ByStall:
			row.Restarts += n
		}
	}
	g := st.Current()
	if g == nil && len(st.Gens) > 0 {
		g = &st.Gens[len(st.Gens)-1]
	}
	var why []string
	if p.member {
		if o := s.order.Find(p.name); o != nil && st.Over {
			row.State = "ended"
			switch {
			case o.Held:
				row.State = "stopped by hand"
			case o.Phase == order.Waiting:
				row.State = "waiting"
			case o.Result == order.Success:
				row.State = "done"
			case o.Result == order.NotRun && o.Scheduled:
				row.State = "scheduled"
			}
		}
		if text := strings.TrimPrefix(strings.TrimPrefix(s.whyNot(p), "done"), "; "); text != "" && row.State != "stopped by hand" {
			why = append(why, text)
		}
	}
	if st.Over {
		g = nil
	}
	if g != nil {
		row.Generation, row.PID, row.Release = g.N, g.PID, machine.Short(g.Release)
		if held := p.processes.all[g.N]; held != nil {
			row.Since = held.since
		}
		if g.Stalled {
			why = append(why, p.queues.text())
		}
	}
	if st.Reason != "" && !st.Over {
		why = append(why, "the last release that was rejected: "+st.Reason)
	}
	if text := p.clients.onHold(); text != "" {
		why = append(why, text)
	}
	if p.failed != "" {
		text := "what its file says now failed"
		for t, d := range machine.Timers(*st, *p.engine.policy) {
			if t.Kind == machine.RestartDelayOver {
				text += "; it is tried again " + d.String() + " after the last time"
			}
		}
		why = append(why, text)
	}
	if p.fault != nil {
		why = append(why, p.fault.Error())
	}
	row.Reason = strings.Join(why, "; ")
	return row
}

// answerTable answers with a row for each program.
func (s *supervisor) answerTable(r *control.Request, reply func(control.Response) bool, gone <-chan struct{}) {
	news := make(chan struct{}, 1)
	look := func() control.Response {
		t := &control.Table{Version: version.Number, PID: os.Getppid()}
		s.loop.ask(func() {
			t.Upgrade = upgradeText(s.link)
			for _, p := range s.programs {
				if file, _ := fileOf(p.name); r.Program == "" || r.Program == file {
					t.Programs = append(t.Programs, s.summary(p))
				}
			}
			if r.Program != "" {
				return
			}
			for name, err := range s.faults {
				if s.find(name) == nil {
					t.Programs = append(t.Programs, control.Program{Name: name, State: "not read", Reason: err.Error()})
				}
			}
		})
		slices.SortStableFunc(t.Programs, func(a, b control.Program) int { return byTitle(a.Name, b.Name) })
		return control.Response{OK: true, Table: t}
	}
	if r.Watch {
		s.loop.ask(func() { s.tables = append(s.tables, news) })
		defer s.loop.ask(func() {
			s.tables = slices.DeleteFunc(s.tables, func(c chan struct{}) bool { return c == news })
		})
	}
	for reply(look()) && r.Watch {
		select {
		case <-news:
		case <-gone:
			return
		}
		// Many programs change at once: that is one table.
		select {
		case <-time.After(tableEvery):
		case <-gone:
			return
		}
	}
}

// tableEvery is how often the table is sent at most.
const tableEvery = 200 * time.Millisecond

// byTitle compares titles; web/10 comes after web/9.
func byTitle(a, b string) int {
	fileA, numberA, _ := strings.Cut(a, "/")
	fileB, numberB, _ := strings.Cut(b, "/")
	return cmp.Or(strings.Compare(fileA, fileB), cmp.Compare(len(numberA), len(numberB)), strings.Compare(numberA, numberB))
}

// health says whether each program serves that is meant to.
func (s *supervisor) health(all []*program) control.Response {
	var bad []string
	for _, p := range all {
		if p.member {
			o := s.order.Find(p.name)
			if o == nil || o.Held || o.Once || o.Scheduled || p.gone {
				continue
			}
		}
		if g := p.engine.state.Current(); g == nil || g.Stalled {
			bad = append(bad, *p.title.Load())
		}
	}
	slices.Sort(bad)
	switch {
	case len(bad) == 0:
		return control.Response{OK: true, Text: fmt.Sprintf("all of %d programs serve, or are not meant to", len(all))}
	case len(bad) > 5:
		bad = append(bad[:5], fmt.Sprintf("and %d more", len(bad)-5))
	}
	return control.Response{Text: "no generation serves: " + strings.Join(bad, ", ")}
}

// reloadAll starts a new generation of each program that runs.
func (s *supervisor) reloadAll() control.Response {
	all := s.reloadable()
	for _, p := range all {
		p.engine.act(machine.Event{Kind: machine.Reload})
	}
	return control.Response{OK: true, Text: fmt.Sprintf("new generations of %d programs are being started", len(all))}
}

// reloadable are the programs that run, but for those that never run twice at a time.
func (s *supervisor) reloadable() (all []*program) {
	for _, p := range s.programs {
		if st := &p.engine.state; !st.Over && st.Stop == 0 && !p.cfg.Once {
			all = append(all, p)
		}
	}
	return all
}

// askEach asks several programs, and answers with the answer of each, as it comes.
func (s *supervisor) askEach(all []*program, r control.Request, reply func(control.Response) bool, gone <-chan struct{}) {
	r.Steps = false // of several at a time nobody would know whose they are
	outcomes := make(chan control.Response, len(all))
	for _, p := range all {
		go p.clients.answer(r, func(a control.Response) bool {
			a.Text = *p.title.Load() + ": " + a.Text
			outcomes <- a
			return true
		}, gone)
	}
	for left := len(all) - 1; left >= 0; left-- {
		select {
		case a := <-outcomes:
			a.More = left > 0
			if !reply(a) {
				return
			}
		case <-gone:
			return
		}
	}
	if len(all) == 0 {
		reply(control.Response{OK: true, Text: "no program runs that could be reloaded"})
	}
}

// byHand stops or starts one program. It stays so, whatever its file says.
func (s *supervisor) byHand(r *control.Request) control.Response {
	p, err := s.named(r.Program)
	if err != nil {
		return refuses(err)
	}
	title, all := *p.title.Load(), s.meant(r.Program)
	if len(all) > 1 {
		title = p.name
	}
	switch {
	case !p.member:
		return control.Response{Text: fmt.Sprintf("program %s is the command of hotinit, which ends with it: hotinit stop", title)}
	case s.stopping:
		return control.Response{Text: "hotinit is stopping"}
	}
	kind, text := order.Hold, fmt.Sprintf("program %s is told to stop, and stays so until hotinit start %s", title, title)
	if r.Op == "start" {
		kind, text = order.Release, fmt.Sprintf("program %s is being started", title)
		if !slices.ContainsFunc(all, func(p *program) bool { return p.engine.state.Over }) {
			text = fmt.Sprintf("program %s runs", title)
		}
	}
	for _, p := range all {
		s.happens(order.Event{Kind: kind, Name: p.name})
	}
	return control.Response{OK: true, Text: text}
}

// begun is the answer to who has a program started: where it waits, what for.
func (s *supervisor) begun(name string, a control.Response) control.Response {
	p := s.find(name)
	if p == nil {
		return a
	}
	if why := s.order.Why(p.name); why != "" {
		return control.Response{OK: !s.order.Stuck(p.name), Text: fmt.Sprintf("program %s %s", name, strings.Replace(why, "it comes", "comes", 1))}
	}
	return a
}

// signalOne sends a signal to what serves of one program, as it would be relayed.
func (s *supervisor) signalOne(r *control.Request) control.Response {
	p, err := s.named(r.Program)
	if err != nil {
		return refuses(err)
	}
	if all := s.meant(r.Program); len(all) > 1 {
		return s.signalEach(p.name, all, r.Signal)
	}
	st := &p.engine.state
	g := st.Current()
	if g == nil {
		g = st.In(machine.Candidate)
	}
	switch {
	case g == nil || st.Over:
		return control.Response{Text: fmt.Sprintf("program %s has no generation that could get it", *p.title.Load())}
	case r.Signal < 1 || r.Signal > 64:
		return control.Response{Text: fmt.Sprintf("there is no signal %d", r.Signal)}
	}
	p.engine.act(machine.Event{Kind: machine.Relay, Signal: r.Signal})
	say.Detail("%s is sent to program %s: hotinit signal", unix.SignalName(unix.Signal(r.Signal)), *p.title.Load())
	return control.Response{OK: true, Text: fmt.Sprintf("%s is sent to generation %d of program %s", machine.SignalName(r.Signal), g.N, *p.title.Load())}
}

// changedAny makes those who watch the table look again.
func (s *shared) changedAny() {
	for _, c := range s.tables {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
