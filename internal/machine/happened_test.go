package machine

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// watcher plays a program and collects what happens to it.
type watcher struct {
	s   State
	p   Policy
	all []string
}

func (w *watcher) act(ev Event) {
	events := []Event{ev}
	for len(events) > 0 {
		ev, before := events[0], w.s
		var effects []Effect
		w.s, effects = Next(w.s, &w.p, ev)
		events = events[1:]
		for _, h := range Happened(&before, &w.s, ev, effects) {
			text := h.Kind
			if h.N != 0 {
				text += fmt.Sprint(" ", h.N)
			}
			if h.Reason != "" {
				text += ": " + h.Reason
			}
			w.all = append(w.all, text)
		}
		for _, e := range effects {
			if e.Kind == Prepare { // it starts at once
				events = append(events, Event{Kind: Forked, N: e.N, Release: w.release(e), PID: 100 + e.N}, Event{Kind: Started, N: e.N, Release: w.release(e), PID: 100 + e.N})
			}
		}
	}
}

func (w *watcher) release(e Effect) string {
	if e.Source == Held {
		return e.Release
	}
	return w.s.Newest
}

func (w *watcher) changed(release string) {
	w.s.Newest = release
	w.act(Event{Kind: Changed, Release: release})
}

func TestWhatHappenedIsTold(t *testing.T) {
	w := &watcher{s: State{Next: 1}, p: Policy{Ready: ReadyAuto, Probation: time.Minute, ReadyTimeout: time.Minute, StopSignals: map[int]int{15: 15}, RetireSignal: 15}}
	step := func(what string, want ...string) {
		t.Helper()
		if !slices.Equal(w.all, want) {
			t.Errorf("%s: %q, and not %q", what, w.all, want)
		}
		w.all = nil
	}
	ready := func(n int) {
		w.act(Event{Kind: Waits, N: n})
		w.act(Event{Kind: Accepted, N: n})
	}
	w.act(Event{Kind: Boot, Release: "aaaa"})
	step("boot", "started 1: boot")
	ready(1)
	step("it serves", "ready 1")
	w.act(Event{Kind: ProbationOver, N: 1})
	step("nothing that is told")
	w.changed("bbbb")
	ready(2)
	step("a swap", "started 2: changed", "ready 2")
	w.act(Event{Kind: Exited, N: 1, Reason: "exited with status 0"})
	w.act(Event{Kind: Empty, N: 1})
	step("the old one goes", "ended 1: exited with status 0")
	w.act(Event{Kind: Stalled, N: 2, Reason: "3 connections wait"})
	w.act(Event{Kind: StallOver, N: 2})
	if len(w.all) == 0 || w.all[0] != "stalled 2: 3 connections wait" {
		t.Errorf("a stall: %q", w.all)
	}
	w.all = nil
	for _, g := range slices.Clone(w.s.Gens) { // whatever the stall in its probation has led to
		if g.Phase == Candidate {
			ready(g.N)
		}
	}
	w.all = nil
	last := w.s.Next
	w.changed("cccc")
	w.act(Event{Kind: Exited, N: last, Status: 3, Reason: "exited with status 3"})
	step("a broken release", fmt.Sprintf("started %d: changed", last), fmt.Sprintf("ended %d: exited with status 3", last), fmt.Sprintf("rejected %d: exited with status 3", last))
	w.act(Event{Kind: Halt, Signal: 15, Reason: "SIGTERM"})
	step("a stop", "stopping: SIGTERM")
	for _, g := range slices.Clone(w.s.Gens) {
		w.act(Event{Kind: Exited, N: g.N, Reason: "killed by signal 15 (SIGTERM)"})
	}
	if n := len(w.all); n == 0 || w.all[n-1] != "stopped: it was told to stop (SIGTERM)" {
		t.Errorf("the end: %q", w.all)
	}
}

func TestARollBackIsTold(t *testing.T) {
	w := &watcher{s: State{Next: 1}, p: Policy{Ready: ReadyAuto, Probation: time.Minute}}
	w.act(Event{Kind: Boot, Release: "aaaa"})
	w.act(Event{Kind: Waits, N: 1})
	w.act(Event{Kind: ProbationOver, N: 1})
	w.changed("bbbb")
	w.act(Event{Kind: Waits, N: 2})
	w.act(Event{Kind: Accepted, N: 2})
	w.act(Event{Kind: Exited, N: 1, Reason: "exited with status 0"})
	w.act(Event{Kind: Empty, N: 1})
	w.all = nil
	w.act(Event{Kind: Exited, N: 2, Status: 1, Reason: "exited with status 1"})
	want := []string{"ended 2: exited with status 1", "rolled-back 2: exited with status 1", "started 3: rolled back after a failure"}
	if !slices.Equal(w.all, want) {
		t.Errorf("%q, and not %q", w.all, want)
	}
}
