package handoff

import (
	"time"

	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/settings"
	"github.com/hotinit/hotinit/internal/watch"
)

// startWatch watches what the first generation was started from. It comes
// after the start: an app is served the sooner for it, and what changed in
// between is seen all the same, since the watcher compares with what runs.
func (s *supervisor) startWatch(j *job) {
	if !s.cfg.Watch && len(s.cfg.WatchPaths) == 0 || s.watcher != nil {
		return
	}
	o := watch.Options{
		Ignore: s.cfg.Ignore,
		Poll:   poll(s.cfg),
		Settle: s.cfg.Settle,
		Log:    func(text string) { say.Line("%s", text) },
	}
	o.Check.As = s.credential()
	if s.cfg.Watch && s.checked(j) {
		o.Command = s.target(j)
		o.Check.NoExec = j.script >= 0
	}
	for _, p := range s.cfg.WatchPaths {
		o.Paths = append(o.Paths, watch.Path{Pattern: s.fromStart(p.Path), Signal: p.Signal})
	}
	if o.Command == "" && len(o.Paths) == 0 {
		return
	}
	w, err := watch.New(o)
	if err != nil {
		say.Line("cannot watch for new releases: %v; a new generation is started when asked for", err)
		return
	}
	s.watcher = w
	go func() {
		for ev := range w.Events() {
			s.loop.inputs <- input{call: func() { s.changed(ev) }}
		}
	}()
}

// startWatchResumed is startWatch for a handoff that takes over: nothing needs
// to be started for it.
func (s *supervisor) startWatchResumed() {
	j := &job{script: -1}
	if err := s.resolve(j); err != nil {
		say.Line("cannot watch for new releases: %v; a new generation is started when asked for", err)
		return
	}
	s.startWatch(j)
}

func poll(cfg *settings.Config) time.Duration {
	switch cfg.Poll {
	case settings.PollOff:
		return watch.PollOff
	case settings.PollAlways:
		return cfg.PollInterval
	}
	return watch.PollAuto
}

// changed acts upon what the watcher saw. It runs in the loop.
func (s *supervisor) changed(ev watch.Event) {
	switch {
	case ev.Kind == watch.PathsChanged && ev.Signal != 0:
		say.Line("%s changed; %s is sent", ev.What, machine.SignalName(int(ev.Signal)))
		s.loop.act(machine.Event{Kind: machine.Relay, Signal: int(ev.Signal)})
	case ev.Kind == watch.PathsChanged:
		say.Line("%s changed", ev.What)
		s.loop.act(machine.Event{Kind: machine.Changed})
	default:
		// Whoever starts it takes it; see letGo for what nobody takes.
		s.withdraw()
		s.offered = ev.File
		s.loop.act(machine.Event{Kind: machine.Changed, Release: ev.Release.Name()})
	}
}
