package order

import (
	"fmt"
	"slices"
	"strings"
)

// take counts a start for --max-starts, and free ends that.
func (s *State) take(p *Program) {
	if !p.Slot {
		p.Slot = true
		s.Starts++
	}
}

func (s *State) free(p *Program) {
	if p.Slot {
		p.Slot = false
		s.Starts--
	}
}

// mayStart reports whether p waits for nothing but its turn.
func (s *State) mayStart(p *Program) bool {
	if p.Phase != Waiting || s.Halting {
		return false
	}
	for _, name := range p.After {
		if q := s.programs[name]; q == nil || q == p || !q.IsReady() || q.Gone {
			return false
		}
	}
	return true
}

// enqueue puts a program in the line of those that may start, if it may.
func (s *State) enqueue(p *Program) {
	if !p.queued && s.mayStart(p) {
		p.queued = true
		s.queue = append(s.queue, p.Name)
	}
}

// wake looks at those that come after a program which is ready now.
func (s *State) wake(p *Program) {
	for _, name := range s.before[p.Name] {
		s.enqueue(s.programs[name])
	}
}

// startNext starts what may be started now.
func (s *State) startNext() {
	for len(s.queue) > 0 && !s.Pacing && (s.MaxStarts == 0 || s.Starts < s.MaxStarts) {
		name := s.queue[0]
		s.queue = s.queue[1:]
		p := s.programs[name]
		p.queued = false
		if !s.mayStart(p) {
			continue // what it comes after has ended since
		}
		s.setPhase(p, Starting)
		p.Result, p.unready, p.circle = NotRun, false, false
		if p.Once && !p.Scheduled {
			p.Done = false
		}
		s.take(p)
		s.Pacing = s.Spacing
		s.do(Effect{Kind: Start, Name: name})
	}
}

// unwant notes that a program has to stop. One that was not started is down at once.
func (s *State) unwant(p *Program) {
	switch {
	case p.active():
		p.Unwant = true
	case p.Phase == Waiting:
		s.setPhase(p, Down)
	}
	if !p.active() && p.Gone {
		s.forget(p)
	}
}

// stopNext stops those of the named that have to stop and may: all that come after
// them, and have to stop as well, have ended.
func (s *State) stopNext(names []string) {
	for _, name := range names {
		p := s.programs[name]
		if p == nil || !p.Unwant || p.Told || p.Phase == Stopping {
			continue
		}
		if !s.Hurried && slices.ContainsFunc(s.before[name], func(after string) bool {
			q := s.programs[after]
			return q != p && q.Unwant && q.active() && !s.inOneCircle(p, q)
		}) {
			continue
		}
		s.free(p)
		s.setPhase(p, Stopping)
		p.Told = true
		s.do(Effect{Kind: Stop, Name: name})
	}
}

// finishIfDone ends it all once nothing runs.
func (s *State) finishIfDone() {
	if s.Halting && !s.Over && s.running == 0 {
		s.Over = true
		s.do(Effect{Kind: Finish, Status: s.Status, Decided: s.Decided, Text: s.Reason})
	}
}

// Why says what a program that is Waiting waits for, "" where it does not.
func (s *State) Why(name string) string {
	p := s.programs[name]
	if p == nil || p.Phase != Waiting {
		return ""
	}
	if circle := s.circle(p); circle != nil {
		return "it comes after itself: " + strings.Join(s.called(circle), " after ")
	}
	var all []string
	for _, on := range p.After {
		switch q := s.programs[on]; {
		case q == nil || q.Gone:
			all = append(all, fmt.Sprintf("%s, of which there is no file", on))
		case q.IsReady():
		case q.Held:
			all = append(all, fmt.Sprintf("%s, which was stopped by hand", q.called()))
		case q.Phase == Down && q.Result == Failure:
			all = append(all, fmt.Sprintf("%s, which has ended (%s)", q.called(), q.Reason))
		case q.Phase == Down && q.Scheduled:
			all = append(all, fmt.Sprintf("%s, which its schedule has not started yet", q.called()))
		default:
			all = append(all, q.called())
		}
	}
	switch {
	case len(all) > 0:
		return "waits for " + strings.Join(all, "; ")
	case s.Pacing:
		return "waits for its turn (--start-spacing)"
	}
	return "waits for its turn (--max-starts)"
}

// explain says why a program does not start, where nothing that is under way
// would change that.
func (s *State) explain(p *Program) {
	if p.Gone || s.Halting {
		return
	}
	if circle := s.circle(p); circle != nil {
		if !p.circle {
			for _, name := range circle {
				s.programs[name].circle = true
			}
			s.circles = true
			s.complain("%s: HOTINIT_AFTER leads in a circle (%s); what does not run yet is not started until a file says otherwise", p.called(), strings.Join(s.called(circle), " after "))
		}
		return
	}
	if p.unready || p.Phase != Waiting {
		return
	}
	for _, on := range p.After {
		switch q := s.programs[on]; {
		case q == nil || q.Gone:
			s.complain("%s is not started: HOTINIT_AFTER names %s, of which there is no file", p.called(), on)
		case q.Phase == Down && q.Result == Failure && !q.IsReady():
			s.complain("%s is not started: it comes after %s, which has ended (%s)", p.called(), q.called(), q.Reason)
		default:
			continue
		}
		p.unready = true
		return
	}
}

// Missing returns the names that a program comes after and that have no file.
func (s *State) Missing(name string) (missing []string) {
	p := s.programs[name]
	if p == nil {
		return nil
	}
	for _, on := range p.After {
		if q := s.programs[on]; q == nil || q.Gone {
			missing = append(missing, on)
		}
	}
	return missing
}

// Stuck reports whether a program that is Waiting stays so until somebody does
// something: writes a file, or starts what was stopped or has failed.
func (s *State) Stuck(name string) bool {
	p := s.programs[name]
	if p == nil || p.Phase != Waiting {
		return false
	}
	return s.circle(p) != nil || len(s.Missing(name)) > 0 || slices.ContainsFunc(p.After, func(on string) bool {
		q := s.programs[on]
		return !q.IsReady() && (q.Held || q.Phase == Down && q.Result == Failure)
	})
}

// warn says what would keep a program that runs from being started again.
func (s *State) warn(p *Program) {
	if !p.active() || p.Phase == Stopping || p.Gone || s.Halting {
		return
	}
	for _, on := range s.Missing(p.Name) {
		s.complain("%s: HOTINIT_AFTER names %s, of which there is no file; it runs on, and waits for it at the next start", p.called(), on)
	}
}

// explainThoseAfter says so of those that wait for a program that ended or is gone.
func (s *State) explainThoseAfter(name string) {
	for _, after := range s.before[name] {
		s.explain(s.programs[after])
	}
}
