package handoff

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/order"
	"github.com/hotinit/hotinit/internal/record"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/schedule"
)

// ordering has the programs that files made start and stop in their order. Package
// order decides; here its effects are carried out, and what happens is told to it,
// once the event that it follows from was recorded.
type ordering struct {
	order  *order.State
	happen []order.Event // not told yet
	spaced *time.Timer
	timers []*time.Timer // of stopping
	clock  *schedule.Clock
	table  schedule.Table
	halted []byte        // what was recorded of stopping, nil before
	looks  []*instances  // those that something has happened to
	stopBy machine.Event // by which the command is to be stopped, the zero value for SIGTERM
}

// orderRecord is the name of the record of what belongs to no program. It cannot be a
// program's.
const orderRecord = "/order"

// haltRecord is what the next handoff has to know of stopping.
type haltRecord struct {
	Reason  string
	Status  int
	Decided bool
}

func (h *haltRecord) fields(c *record.Codec) {
	c.String("Reason", &h.Reason)
	record.Int(c, "Status", &h.Status)
	c.Bool("Decided", &h.Decided)
}

func (s *supervisor) newOrder() {
	starts := s.cfg.MaxStarts
	if starts < 0 {
		starts = 2 * max(runtime.NumCPU(), 1)
	}
	s.order = order.New(order.Policy{MaxStarts: starts, Spacing: s.cfg.StartSpacing > 0})
	s.loop.after = s.settle
}

// happens notes an event. It is told once the loop is done with what it does.
func (s *supervisor) happens(ev order.Event) { s.happen = append(s.happen, ev) }

// settle tells what has happened, and does what follows.
func (s *supervisor) settle() {
	for len(s.happen)+len(s.looks) > 0 {
		if len(s.looks) > 0 {
			g := s.looks[0]
			s.looks = s.looks[1:]
			g.step()
			continue
		}
		ev := s.happen[0]
		s.happen = s.happen[1:]
		effects := s.order.Next(ev)
		s.isKnown(ev)
		s.recordHalt()
		for _, e := range effects {
			s.carryOut(e)
		}
		s.recordOrder(ev)
	}
	s.happen, s.looks = nil, nil
}

// isKnown forgets what the order has been told of how programs were when this handoff
// began. A program may leave the order and come back, since its file does while something
// of it still runs: it does not run then, whatever it did once.
func (s *supervisor) isKnown(ev order.Event) {
	for _, spec := range ev.Set {
		if p := s.byName[spec.Name]; p != nil {
			p.was = nil
		}
	}
}

// look has instances looked at once the loop is done with what it does.
func (s *supervisor) look(g *instances) { s.looks = append(s.looks, g) }

func (s *supervisor) carryOut(e order.Effect) {
	p := s.byName[e.Name]
	if s.app != nil && e.Name == s.app.name {
		if e.Kind == order.Stop {
			s.haltApp()
		}
		return // all else it does by itself
	}
	switch e.Kind {
	case order.Start:
		if p != nil {
			p.start()
			s.pace()
		}
	case order.Stop:
		if p != nil {
			p.halt(s.whyStop(p))
		}
	case order.Swap:
		if p != nil {
			p.swap()
		}
	case order.Drop:
		if p != nil && p.empty() {
			s.leave(p)
		}
	case order.Say:
		if e.Problem {
			say.Line("%s", e.Text)
		} else {
			say.Note("%s", e.Text)
		}
	case order.Finish:
		s.ended()
	}
}

// placeOfApp is the place of the command beside --programs: it starts by itself, others
// may come after it, and it is stopped in order.
func (s *supervisor) placeOfApp(again bool) order.Spec {
	spec := s.spec(s.app)
	spec.After, spec.Essential, spec.Was = nil, false, &order.Facts{Phase: order.Starting}
	if again {
		spec.Was = resumed(order.Facts{Phase: order.Up}, &s.app.engine.state)
	}
	return spec
}

// haltApp stops the command, by the signal that stops everything, if there was one.
func (s *supervisor) haltApp() {
	switch {
	case s.app.engine.state.Over:
	case s.stopBy.Kind == machine.Halt:
		s.app.engine.act(s.stopBy)
	default:
		s.app.halt(s.order.Reason)
	}
}

func (s *supervisor) whyStop(p *program) string {
	switch o := s.order.Find(p.name); {
	case s.order.Halting:
		return s.order.Reason
	case p.gone && p != p.lead() && !p.lead().gone:
		return fmt.Sprintf("its file asks for %d now", len(s.meant(p.lead().name)))
	case p.gone:
		return "its file was removed"
	case o != nil && o.Held:
		return "hotinit stop " + *p.title.Load()
	}
	return "its file changed"
}

// pace has the next start wait for --start-spacing.
func (s *supervisor) pace() {
	if s.cfg.StartSpacing <= 0 {
		return
	}
	if s.spaced != nil {
		s.spaced.Stop()
	}
	s.spaced = time.AfterFunc(s.cfg.StartSpacing, func() {
		s.loop.do(func() { s.happens(order.Event{Kind: order.Spaced}) })
	})
}

// recordOrder records what an event has changed beside the program's own state.
func (s *supervisor) recordOrder(ev order.Event) {
	if p := s.byName[ev.Name]; p != nil {
		p.engine.record()
	}
	for _, spec := range ev.Set {
		if p := s.byName[spec.Name]; p != nil {
			p.engine.record()
		}
	}
	if s.order.Halting {
		s.stopAll(s.order.Reason)
	}
}

// recordHalt records that everything stops, before anything is done for it: it
// acknowledges the signal that asks for it, and whoever comes next goes on with it.
func (s *supervisor) recordHalt() {
	if !s.order.Halting || s.halted != nil {
		return
	}
	h := haltRecord{s.order.Reason, s.order.Status, s.order.Decided}
	s.halted = record.Write(h.fields)
	if err := s.link.SendRecord(message.Record{Program: orderRecord, Seq: s.loop.seq, State: s.halted}); err != nil {
		say.Line("cannot hand the record to init: %v", err)
	}
}

// resumeOrder goes on with what the last handoff was stopping.
func (s *supervisor) resumeOrder(recorded []byte) {
	var h haltRecord
	if err := record.Read(recorded, h.fields); err != nil {
		say.Line("cannot read the record of the last handoff about the order of programs: %v", err)
	}
	s.halted = recorded
	s.order.Status, s.order.Decided = h.Status, h.Decided
	s.order.Pacing = true // what does not run is told of first, and is not to be started
	s.stopAll(h.Reason)
}

// spec is what the order has to know of a program.
func (s *supervisor) spec(p *program) order.Spec {
	cfg := p.next.cfg
	spec := order.Spec{
		Name: p.name, Called: *p.title.Load(), After: s.expand(cfg.After), Once: cfg.Once, Essential: cfg.Essential,
		Scheduled: cfg.Schedule != "",
		Timed:     readyMode(cfg, len(cfg.Sockets) > 0) == machine.ReadyInterval,
	}
	return spec
}

// facts are what the record says of a program's place in the order.
func (s *supervisor) facts(p *program) order.Facts {
	if o := s.order.Find(p.name); o != nil {
		return o.Facts
	}
	if p.was != nil {
		return *p.was // the order is about to be told
	}
	return order.Facts{}
}

// resumed is what the last handoff knew of a program. What runs is what its own state
// says.
func resumed(f order.Facts, st *machine.State) *order.Facts {
	switch {
	case st.Over && f.Phase > order.Waiting:
		// It ended, and that was not told any more; or it was not started yet.
		f.Phase = order.Down
		if st.Next == 1 || f.Again {
			f.Phase, f.Again = order.Waiting, false
		} else if f.Result == order.NotRun {
			f.Result, f.Status = order.Failure, st.Status
			if st.Status == 0 {
				f.Result, f.Done = order.Success, true
			}
		}
	case st.Over:
	case st.Stop != 0:
		f.Phase = order.Stopping
	case st.Current() != nil:
		f.Phase = order.Up
	case st.RestartDue:
		f.Phase = order.Faltering
	default:
		f.Phase = order.Starting
	}
	return &f
}

// place tells the order where a program is by now. It is called after each event of it.
func (s *supervisor) place(p *program, st *machine.State) {
	if s.order == nil {
		return
	}
	o := s.order.Find(p.name)
	if o == nil || st.Over || st.Stop != 0 {
		return
	}
	tell := func(kind order.EventKind) { s.happens(order.Event{Kind: kind, Name: p.name}) }
	switch {
	case st.Current() != nil:
		if o.Phase == order.Starting || o.Phase == order.Faltering {
			tell(order.Ready)
		}
	case st.RestartDue:
		if o.Phase == order.Starting || o.Phase == order.Up {
			tell(order.Faltered)
		}
	case o.Phase == order.Up && !o.Once:
		tell(order.Faltered)
	case o.Slot && st.In(machine.Candidate) != nil:
		tell(order.Began)
	}
}

// endedInOrder tells the order that a program has ended for good.
func (s *supervisor) endedInOrder(p *program) {
	how := cmp.Or(p.why, "it could not be started")
	if past := p.processes.past; len(past) > 0 && past[len(past)-1].N == p.engine.state.Next-1 {
		how = past[len(past)-1].How // that of its last generation
	}
	s.happens(order.Event{Kind: order.Ended, Name: p.name, Status: p.verdict, Reason: how})
}

// hurryAfter is which part of --stop-timeout the programs have to stop in order.
const hurryAfter = 2.0 / 3

// stopAll tells everything to stop, in order.
func (s *supervisor) stopAll(why string) {
	if s.stopping {
		return
	}
	s.stopping = true
	if s.order == nil {
		if s.app != nil && !s.app.engine.state.Over {
			s.app.halt(why)
		}
		return
	}
	s.happens(order.Event{Kind: order.Halt, Reason: why})
	if s.told <= 0 {
		return
	}
	later := func(d time.Duration, f func()) {
		s.timers = append(s.timers, time.AfterFunc(d, func() { s.loop.do(f) }))
	}
	later(time.Duration(float64(s.told)*hurryAfter), func() { s.happens(order.Event{Kind: order.Hurry}) })
	later(s.told, func() {
		for _, p := range slices.Clone(s.programs) {
			if !p.engine.state.Over {
				p.engine.act(machine.Event{Kind: machine.StopTimedOut})
			}
		}
	})
}

// reschedule has a program due by its schedule, counted from a time.
func (s *supervisor) reschedule(p *program, from time.Time) {
	cfg := p.next.cfg
	if cfg.Schedule == "" {
		s.table.Set(p.name, nil, from)
		s.waitForTick()
		return
	}
	sched, err := schedule.Parse(cfg.Schedule, cfg.Zone)
	if err != nil {
		p.line("%v", err) // it was valid when the file was read
		return
	}
	if p.ticked.IsZero() {
		p.ticked = from
	}
	s.table.Set(p.name, sched, p.ticked)
	s.waitForTick()
}

// waitForTick waits for the next time that a program is due.
func (s *supervisor) waitForTick() {
	at := s.table.Earliest()
	if s.clock == nil {
		if at.IsZero() {
			return
		}
		clock, err := schedule.NewClock(func(set bool) { s.loop.do(func() { s.ticks(set) }) })
		if err != nil {
			say.Line("%v; no schedule is kept", err)
			return
		}
		s.clock = clock
	}
	if err := s.clock.Wait(at); err != nil {
		say.Line("%v", err)
	}
}

// ticks starts what is due.
func (s *supervisor) ticks(set bool) {
	now := time.Now()
	for _, name := range s.table.Due(now, set) {
		if p := s.byName[name]; p != nil {
			p.ticked = now
			s.happens(order.Event{Kind: order.Tick, Name: name})
		}
	}
	s.waitForTick()
}

// whyNot says what a program that does not run waits for, or how it ended.
func (s *supervisor) whyNot(p *program) string {
	o := s.order.Find(p.name)
	if o == nil {
		return ""
	}
	var parts []string
	switch {
	case o.Held && o.Phase == order.Down:
		parts = append(parts, "stopped by hand (hotinit start "+*p.title.Load()+" starts it)")
	case o.Phase == order.Waiting:
		parts = append(parts, s.order.Why(p.name))
	case o.Phase == order.Down && o.Result == order.Success:
		parts = append(parts, "done")
	case o.Phase == order.Down && o.Result == order.Failure:
		parts = append(parts, "ended for good: "+o.Reason)
	}
	if missing := s.order.Missing(p.name); len(missing) > 0 && o.Phase != order.Waiting {
		parts = append(parts, "the next start waits for "+strings.Join(missing, ", ")+", of which there is no file")
	}
	if next := s.table.Next(p.name); !next.IsZero() && !o.Held {
		parts = append(parts, "due at "+next.Format(time.RFC3339))
	}
	return strings.Join(parts, "; ")
}
