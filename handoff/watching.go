package handoff

import (
	"slices"
	"time"

	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/settings"
	"github.com/hotinit/hotinit/internal/watch"
)

// watchAfter is how long an app runs before its executable is watched. A command
// that ends sooner needs no watch, and it would pay for one: to close an inotify
// instance with a new watch takes the kernel some 15 ms.
const watchAfter = 100 * time.Millisecond

// lookWithin is how long a start waits for what is at the watched paths before it.
const lookWithin = 20 * time.Millisecond

// lookBefore takes note of what is at the watched paths before an app is started that
// reads them, where the watch has not begun. It returns nil where nothing is to be noted.
func (s *releases) lookBefore(pl *plan, command string) *watch.Before {
	s.looked, s.started = nil, pl
	if len(pl.cfg.WatchPaths) == 0 || s.watches && s.plan == pl {
		return nil
	}
	s.looked = watch.Look(watch.Options{Command: command, Ignore: pl.cfg.Ignore, Paths: s.as(pl).watchPaths()})
	return s.looked
}

// watchPaths are the paths of --watch.
func (s *common) watchPaths() (paths []watch.Path) {
	for _, p := range s.cfg.WatchPaths {
		paths = append(paths, watch.Path{Pattern: s.fromStart(p.Path), Signal: p.Signal})
	}
	return paths
}

// watch watches command, the file that the first generation was started from, ""
// for none. script says that an interpreter reads it. The watch begins after the
// start: the app serves the sooner for it, and a change of the executable in
// between is still seen, since the watcher compares with what runs. Other paths
// are compared with what they were before the start (lookBefore). A handoff that takes
// over compares them with what they are when its watch begins, so that one is not put off.
func (s *releases) watch(command string, script bool) {
	o := watch.Options{
		Ignore:  s.cfg.Ignore,
		Poll:    poll(s.cfg),
		Settle:  s.cfg.Settle,
		Log:     func(text string) { s.line("%s", text) },
		Command: command,
		Paths:   s.watchPaths(),
	}
	if s.started == s.plan {
		o.Before, s.looked = s.looked, nil
	}
	o.Check.As = s.credential()
	o.Check.NoExec = script
	o.Check.KernelDecides = s.doubtful()
	if o.Command == "" && len(o.Paths) == 0 {
		return
	}
	s.watches, s.paths = true, nil
	if o.Command != "" {
		s.paths = append(s.paths, o.Command)
	}
	for _, p := range s.cfg.WatchPaths {
		text := s.fromStart(p.Path)
		if p.Signal != 0 {
			text += " (" + machine.SignalName(int(p.Signal)) + ")"
		}
		if !slices.Contains(s.paths, text) {
			s.paths = append(s.paths, text)
		}
	}
	if len(o.Paths) == 0 {
		watching := s.watching
		time.AfterFunc(watchAfter, func() {
			s.engine.do(func() {
				if s.watching != watching {
					return
				}
				s.beginWatch(o)
				s.engine.record() // announces it
			})
		})
		return
	}
	s.beginWatch(o)
}

// beginWatch begins the watch beside the loop, since a file system may not answer.
// Where it does, the watch has begun when beginWatch returns: what changes from then
// on is seen.
func (s *releases) beginWatch(o watch.Options) {
	type begun struct {
		w   *watch.Watcher
		err error
	}
	result, c, watching := make(chan begun, 1), s.as(s.plan), s.watching
	go func() {
		if command := o.Command; command != "" && c.cfg.Verbosity > 0 && watch.SingleFileMount(command) {
			s.line("%s is mounted as a single file: a file that is renamed over it on the host does not show here. Mount the directory that it is in, or deploy by writing in place", command)
		}
		if c.trust != nil && !c.signedAsTree(o.Command) {
			o.Check.Trust = c.trust
		}
		w, err := watch.New(o)
		result <- begun{w, err}
	}()
	soon := time.NewTimer(asideLimit)
	defer soon.Stop()
	select {
	case r := <-result:
		s.watchBegins(r.w, r.err)
		return
	case <-soon.C:
	}
	s.line("cannot watch for new releases yet: %v; it is waited for, and a new generation is started when asked for", errSlow)
	go func() {
		r := <-result
		s.engine.do(func() {
			if s.watching != watching {
				if r.w != nil {
					go r.w.Close()
				}
				return
			}
			s.watchBegins(r.w, r.err)
			s.engine.record()
		})
	}()
}

func (s *releases) watchBegins(w *watch.Watcher, err error) {
	if err != nil {
		s.line("cannot watch for new releases: %v; a new generation is started when asked for", err)
		s.watches = false // the next start tries again
		s.readLater()
		return
	}
	s.watcher = w
	if s.cfg.Compat == "" {
		s.engine.policy.Quiet = false // hotinit is more than an init here
	}
	s.readLater()
	s.tellWatcher(s.engine.state)
	go func() {
		for {
			select {
			case ev := <-w.Events():
				s.engine.do(func() {
					if s.watcher == w {
						s.changed(ev)
					} else {
						ev.File.Close()
					}
				})
			case <-w.Closed():
				return
			}
		}
	}()
}

// unwatch ends the watch: another plan watches something else.
func (s *releases) unwatch() {
	if s.watcher != nil {
		go s.watcher.Close()
	}
	s.withdraw()
	s.stopNaming()
	s.watcher, s.watches, s.paths, s.watched, s.passedOver = nil, false, nil, "", nil
	s.watching++
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
func (s *releases) changed(ev watch.Event) {
	if ev.Kind == watch.PathsChanged && ev.Signal != 0 {
		s.note("%s changed; %s is sent", ev.What, machine.SignalName(int(ev.Signal)))
		s.engine.act(machine.Event{Kind: machine.Relay, Signal: int(ev.Signal)})
		return
	}
	s.stopNaming()
	if s.pathsOfGenerations() != 1 || s.startTells() {
		s.found(ev, "")
		return
	}
	// The watcher does not know a release by its directory, and it may be the one that
	// somebody has put there and asked for: that is started once.
	stop, newest := make(chan struct{}), s.newest()
	s.naming = stop
	go func() {
		name := ""
		if f := newest(stop); f != nil {
			if f.Root != "" {
				name = f.Name()
			}
			f.Close()
		}
		s.engine.do(func() {
			if s.naming != stop {
				ev.File.CloseBeside() // something newer came, or the watch has ended
				return
			}
			s.naming = nil
			s.found(ev, name)
		})
	}()
}

// stopNaming has nobody wait for the name of what the watcher saw before.
func (s *releases) stopNaming() {
	if s.naming != nil {
		close(s.naming)
		s.naming = nil
	}
}

// pathsOfGenerations counts the watched paths whose change means a new generation. If the
// release's directory is the only one, the release's name tells whether a change is news.
func (s *common) pathsOfGenerations() (n int) {
	for _, p := range s.cfg.WatchPaths {
		if p.Signal == 0 {
			n++
		}
	}
	return n
}

// startTells reports whether a change has a generation started at once in any case.
// That reads the directory, and does not start what runs already: it is not read twice.
func (s *releases) startTells() bool {
	st := &s.engine.state
	switch st.Situation() {
	case machine.Serving:
		return !st.OnHold && !s.engine.policy.Through && !s.engine.policy.InTurn
	case machine.Down:
		return !st.OnHold
	}
	return false
}

// found acts upon what the watcher saw. name is that of the release with its directory,
// "" where that is not known.
func (s *releases) found(ev watch.Event, name string) {
	if ev.Kind == watch.PathsChanged {
		s.note("%s changed", ev.What)
		s.engine.act(machine.Event{Kind: machine.Changed, Path: ev.What, Release: name})
		return
	}
	s.note("%s %s", ev.What, ev.Reason)
	// Whoever starts it takes it; see letGo for what nobody takes.
	s.withdraw()
	s.offered = ev.File
	s.saw(ev.Release)
	if name == "" {
		ev.Release.Settings = s.settings()
		name = ev.Release.Name()
	}
	s.engine.act(machine.Event{Kind: machine.Changed, Release: name})
	// The watcher takes what it found for what is started. Where that was not
	// done, it has to learn that the other one runs still.
	s.watched = ""
	s.tellWatcher(s.engine.state)
}
