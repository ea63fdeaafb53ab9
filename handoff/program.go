package handoff

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/notify"
	"github.com/hotinit/hotinit/internal/release"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/settings"
	"github.com/hotinit/hotinit/internal/sockets"
)

// program is all that belongs to one app. It is the system of the program's
// engine: it carries out what the machine decides.
//
// Its parts know the ones below them, and nothing of those above:
//
//	deploys     through
//	starts
//	clients     probes
//	queues
//	adoption    outputs
//	processes   releases
//	cgroups     terminal   logs
type program struct {
	*common
	cgroups    *cgroups
	processes  *processes
	releases   *releases
	probes     *probes
	adoption   *adoption
	queues     *queues
	starts     *starts
	outputs    *outputs
	deploys    *deploys
	through    *through
	clients    *clients
	statusFile statusFile
	newFiles   *socketFiles // those of the plan that is being opened
	filesMu    sync.Mutex
	files      []*socketFiles // those of each plan; changed by the loop, guarded by filesMu
	bound      map[string]*boundSocket
	notify     int // the socket of NOTIFY_SOCKET, or -1
	notifier   *notify.Server
	stopped    time.Time // when stopping began
	verdict    int       // the status that hotinit exits with for it, once it is over
	ended      func()    // called then

	notifyAddress string // NOTIFY_SOCKET
	membership
	group *instances // of a program that a file made

	strangers say.Seldom // messages of processes that belong to no generation
	odd       say.Seldom // messages of generations that are not acted upon

	shellHinted bool              // hintShell has said it
	announced   bool              // announce has said it, or there is nothing to say
	recorded    [sha256.Size]byte // the checksum of the last record that init got
	recordedSeq uint64
	counts      counts
	news        []machine.Happening // what has just happened, and no line has told yet
}

// newApp makes the program of the command line.
func newApp(s *shared, cfg *settings.Config, ended func()) *program {
	return newProgram(s, programName, newPlan(s.home, cfg), false, ended)
}

// newProgram makes a program and adds it to the loop. ended is called when the
// verdict on it is given.
func newProgram(s *shared, name string, pl *plan, member bool, ended func()) *program {
	c := &common{shared: s, name: name, plan: pl, member: member, title: new(atomic.Pointer[string])}
	c.title.Store(&name)
	switch {
	case s.link == nil: // a preview keeps nothing
	case member:
		c.kept = s.link.forProgram(name)
	default:
		c.kept = s.link.forApp(name)
	}
	p := &program{common: c, notify: -1, ended: ended, bound: make(map[string]*boundSocket)}
	p.membership = membership{next: pl, plans: map[string]*plan{pl.hash: pl}, uses: make(map[int]*plan)}
	p.statusFile.path = c.fromStart(pl.cfg.StatusFile)
	p.statusFile.called = c.called()
	p.newFiles = &socketFiles{common: c}
	p.cgroups = &cgroups{common: c, dir: -1}
	p.processes = &processes{common: c, cgroups: p.cgroups, all: make(map[int]*process)}
	p.releases = &releases{common: c, held: make(map[string]*heldRelease), memory: &memory{common: c}}
	p.releases.settings = func() string { return p.next.hash }
	p.adoption = &adoption{common: c, processes: p.processes, plans: p.planOf, retune: p.retune, hint: p.hintShell}
	p.probes = &probes{c, p.adoption.sockets, p.adoption.awaitReady}
	p.queues = &queues{common: c, sockets: p.adoption.sockets, letGo: p.adoption.letGo}
	p.clients = &clients{common: c, processes: p.processes, releases: p.releases, adoption: p.adoption, fault: func() string { return p.lead().fileFault() }, queues: p.queues}
	p.adoption.lead = func() *adoption { return p.lead().adoption }
	p.adoption.await = p.probes.observe
	p.adoption.changed = func() { p.queues.changed(); p.clients.changed() }
	p.outputs = &outputs{common: c, plans: func() map[string]*plan { return p.plans }, streams: make(map[int][]*stream), loggers: make(map[string]*ownLogger)}
	p.starts = &starts{common: c, outputs: p.outputs, cgroups: p.cgroups, processes: p.processes, releases: p.releases, probes: p.probes, adoption: p.adoption,
		recordForked: p.recordForked, cancels: make(map[int]chan struct{}), noExec: new(sync.Once)}
	p.starts.boot = p.boot
	p.releases.newest = func() func(<-chan struct{}) *release.File {
		if !member {
			return p.starts.newest
		}
		pl, err := p.toDeploy()
		if err != nil {
			return func(<-chan struct{}) *release.File { return nil } // the start says why
		}
		return p.starts.with(pl).newest
	}
	p.deploys = &deploys{common: c, starts: p.starts, clients: p.clients, next: p.toDeploy}
	p.through = &through{common: c, clients: p.clients, cancels: make(map[int]chan struct{})}
	p.clients.more = p.deploys.answer
	p.clients.leave = p.through.answer
	c.engine = newEngine(s.loop, p, newPolicy(pl.cfg, len(pl.cfg.Sockets) > 0))
	c.engine.watched = s.reports != nil && s.reports.watched
	p.statusFile.again = func() { c.engine.do(func() { p.statusFile.write(c.engine.state) }) }
	return p
}

func (s *program) prepare(e machine.Effect) (machine.Event, bool) {
	s.counts.begins(e, &s.engine.state)
	if !s.member {
		return s.starts.prepare(e, false)
	}
	return s.prepareMember(e)
}

func (s *program) cancel(n int) { s.starts.cancel(n) }

func (s *program) tell(n, sig int) { s.processes.tell(n, sig) }

func (s *program) kill(n int) { s.processes.kill(n) }

func (s *program) sweep(n int, last bool) {
	// The verdict on one of several is not hotinit's.
	s.processes.sweep(n, last && !s.member)
}

func (s *program) foreground(n int) {
	if p := s.processes.all[n]; p != nil && !s.member && s.processes.mayTake(s.terminal, n) {
		s.terminal.give(p.group)
	}
}

func (s *program) askLeave(n int) {
	if !s.engine.policy.InTurn { // who gives leave to an instance sees it in its state
		s.through.ask(n)
	}
}

func (s *program) endLeave(n int) { s.through.end(n) }

func (s *program) say(level int, text string) {
	s.logs.reopen()
	about := s.about()
	about.Generation = generationIn(text)
	about.Event = s.newsOf(about.Generation)
	about.Print(say.Level(min(level, int(say.Debug))), "%s", text)
	s.clients.step(text)
}

// exit gives the verdict on the program.
func (s *program) exit(e machine.Effect) {
	status := e.Status
	if s.cfg.ExitZero.Has(status) {
		status = 0
	}
	if s.cfg.Compat == "start_server" && e.Stopped {
		status = 0 // whatever its workers ended with
	}
	s.verdict, s.why = status, e.Text
	if e.Text != "" {
		s.announce()
		verb := "ends"
		if s.member {
			verb = "ended"
		}
		level := say.Info
		if status != 0 {
			level = say.Error
		}
		s.say(int(level), fmt.Sprintf("%s with status %d: %s", verb, status, e.Text))
	}
	s.ended()
}

// grace is how long the processes that outlive the app may take to end.
func (s *program) grace() time.Duration {
	grace := s.cfg.StopTimeout
	if grace == 0 {
		grace = lastGrace
	}
	if !s.stopped.IsZero() {
		grace = max(grace-time.Since(s.stopped), 0)
	}
	return grace
}

// lastGrace is the grace where no --stop-timeout says another.
const lastGrace = 9 * time.Second

// hasFiles reports whether removeFiles may have something to remove.
func (s *program) hasFiles() bool {
	return len(s.bound) > 0 || s.statusFile.path != "" || s.releases.copies()
}

// removeFiles removes the program's files: those of its sockets and --status-file.
func (s *program) removeFiles() {
	for _, files := range append(s.files, s.newFiles) {
		files.close()
	}
	_ = unix.Chdir(s.home) // a socket's path may be relative
	for _, b := range s.bound {
		_ = sockets.Remove(b.spec)
	}
	s.statusFile.remove()
	s.releases.removeCopies()
}

// newPolicy returns the part of the configuration that the machine needs.
func newPolicy(cfg *settings.Config, sockets bool) *machine.Policy {
	p := &machine.Policy{
		Ready:        readyMode(cfg, sockets),
		Interval:     cfg.Interval,
		ReadyTimeout: cfg.ReadyTimeout,
		KillOldDelay: cfg.KillOldDelay,
		DrainTimeout: cfg.DrainTimeout,
		StopTimeout:  cfg.StopTimeout,
		Probation:    cfg.Probation,
		Watchdog:     cfg.Watchdog,
		MaxRuntime:   cfg.MaxRuntime,
		Once:         cfg.Once,
		Retries:      cfg.Retries,
		RetryLater:   cfg.Program != "",
		StallTimeout: cfg.StallTimeout,
		OnStall:      cfg.RestartOnStall,
		MaxOld:       cfg.MaxOld,
		OnExit:       machine.OnExit(cfg.OnExit),
		RetryFirst:   cfg.RetryFirst,
		Through:      cfg.SwapThrough != "",
		InTurn:       cfg.Instances > 0,
		LeaveTimeout: cfg.SwapThroughTimeout,
		ReloadSignal: int(cfg.ReloadSignal),
		RetireSignal: int(cfg.SignalOnHUP),
		StopSignals:  map[int]int{},
		Verbosity:    cfg.Verbosity,
		Quiet:        cfg.Compat != "" && cfg.Compat != "start_server" || len(cfg.Sockets) == 0,
	}
	if cfg.AutoRestart {
		p.AutoRestart = cfg.AutoRestartInterval
	}
	if p.RetireSignal == 0 {
		p.RetireSignal = int(unix.SIGTERM)
	}
	if cfg.Compat == "" || cfg.Compat == "start_server" {
		for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGQUIT} {
			p.StopSignals[int(sig)] = int(sig)
		}
		if cfg.Compat == "start_server" {
			p.StopSignals[int(unix.SIGINT)] = int(unix.SIGTERM)
		}
		if cfg.SignalOnTERM != 0 {
			p.StopSignals[int(unix.SIGTERM)] = int(cfg.SignalOnTERM)
		}
	}
	return p
}

// translate says what a signal means.
func (s *program) translate(sig unix.Signal, hangup bool) machine.Event {
	if to, ok := s.cfg.Rewrite[sig]; ok {
		if to == 0 || s.member {
			return machine.Event{Kind: machine.Dropped}
		}
		return machine.Event{Kind: machine.Relay, Signal: int(to)}
	}
	if hangup && len(s.engine.policy.StopSignals) > 0 {
		// The terminal is gone, which ends hotinit as it ends other inits. Only a
		// process that sends SIGHUP asks for a new generation.
		return machine.Event{Kind: machine.Halt, Signal: int(sig), Reason: "the terminal is gone"}
	}
	if int(sig) == s.engine.policy.ReloadSignal {
		return machine.Event{Kind: machine.Reload, Signal: int(sig)}
	}
	if _, ok := s.engine.policy.StopSignals[int(sig)]; ok {
		return machine.Event{Kind: machine.Halt, Signal: int(sig)}
	}
	if s.member {
		// Nobody knows what it means to each of them: `hotinit signal` names one.
		return machine.Event{Kind: machine.Dropped}
	}
	return machine.Event{Kind: machine.Relay, Signal: int(sig)}
}
