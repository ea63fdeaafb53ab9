package handoff

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/contract"
	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/notify"
	"github.com/hotinit/hotinit/internal/passwd"
	"github.com/hotinit/hotinit/internal/release"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/settings"
	"github.com/hotinit/hotinit/internal/sockets"
	"github.com/hotinit/hotinit/internal/trim"
	"github.com/hotinit/hotinit/internal/watch"
)

// supervisor is the system of the real loop: it starts, signals and waits for
// processes. Its fields belong to the loop's goroutine.
type supervisor struct {
	cfg    *settings.Config
	policy *machine.Policy
	loop   *loop
	link   *link

	home     string // the folder that hotinit was started in
	dir      string // the app's working folder
	contract contract.Contract
	identity *passwd.Identity // who the app runs as; nil: as hotinit itself
	cgroups  cgroups
	terminal int // descriptor of the controlling terminal, or -1

	procs    map[int]*process
	releases map[string]*heldRelease
	cancels  map[int]chan struct{} // of those that are being prepared
	reserve  sync.Once             // threads are kept in reserve once an app runs
	past     []control.Past
	stopped  time.Time // when stopping began

	watcher  *watch.Watcher
	offered  *release.File // what it has found, until a start takes it
	told     string        // the release that it knows of
	notify   int           // the socket of NOTIFY_SOCKET, or -1
	waiters  []waiter
	watchers []chan struct{}

	trim         trim.Timer
	recorded     []byte
	recordedSeq  uint64
	statusText   []byte
	statusFailed bool
	logPath      string // of a --log-file that is no command
	logFailed    bool
	logger       *logger
	daemon       bool // started by --daemonize
	bound        []sockets.Spec
	toldAbove    bool // that a generation is ready
}

// Run is the handoff's whole life. It does not return.
func Run(argv []string) {
	// The name that ps and top show; /proc/self/exe would show as "exe".
	name := [16]byte{}
	copy(name[:15], "hotinit-handoff")
	_ = unix.Prctl(unix.PR_SET_NAME, uintptrOf(&name[0]), 0, 0, 0)

	tune()
	l, dir, records, err := connect()
	if err != nil {
		say.Line("%v", err)
		os.Exit(exitcode.Failure)
	}
	s := &supervisor{
		link:     l,
		trim:     trim.Timer{Collect: 12}, // about every second swap
		home:     dir,
		dir:      dir,
		procs:    make(map[int]*process),
		releases: make(map[string]*heldRelease),
		cancels:  make(map[int]chan struct{}),
		terminal: -1,
		notify:   -1,
	}
	cfg, err := settings.Parse(argv, os.Environ())
	if err != nil {
		s.fail(err)
	}
	s.cfg = cfg
	if cfg.Action != settings.Run {
		// Neither process keeps a folder busy for longer than this takes.
		_ = unix.Chdir(s.home)
		go s.link.receive(s.interrupted)
		s.verdict(act(cfg), 0)
	}
	report := s.findReport()
	if cfg.Daemonize && !s.daemon {
		if err := s.daemonize(argv); err != nil {
			s.fail(err)
		}
		_ = l.SendWait(&message.Exit{Leave: true})
		os.Exit(0)
	}
	if err := s.run(records[programName], report); err != nil {
		s.removeFiles()
		s.fail(err)
	}
	os.Exit(0) // the verdict is given
}

// fail gives the verdict that hotinit cannot work, and does not return.
func (s *supervisor) fail(err error) {
	say.Line("%v", err)
	status := exitcode.Failure
	if e, ok := err.(interface{ ExitCode() int }); ok {
		status = e.ExitCode()
	}
	s.verdict(status, 0)
}

// verdict has init end everything and exit with status. It does not return.
func (s *supervisor) verdict(status int, grace time.Duration) {
	if s.loop != nil {
		s.endLog()
	}
	_ = s.link.SendWait(&message.Exit{Status: status, Grace: grace})
	os.Exit(0) // init reads what is in the socket still
}

// run prepares everything and runs the loop. record is what the handoff before
// left, empty for the first. report is where --daemonize waits, or -1.
func (s *supervisor) run(recorded []byte, report int) error {
	for _, w := range s.cfg.Warnings {
		if len(recorded) == 0 && s.cfg.Verbosity > 0 {
			say.Line("%s", w)
		}
	}
	if len(recorded) == 0 {
		s.sayWithoutPIDFDs()
	}
	hello := message.Hello{
		Warn: s.cfg.WarnOnReap && s.cfg.Verbosity > 0,
		// The app has no terminal of its own, so job control means hotinit.
		Suspend:     s.cfg.Session || s.cfg.Compat == "dumb-init",
		ParentDeath: int(s.cfg.ParentDeath),
		Stops:       s.cfg.Compat == "" || s.cfg.Compat == "start_server",
		StopTimeout: s.cfg.StopTimeout,
	}
	if err := s.link.SendWait(&hello); err != nil {
		return err
	}
	if s.cfg.Pause {
		s.pause()
	}
	var err error
	if s.identity, err = identityOf(s.cfg); err != nil {
		return err
	}
	if s.cfg.Dir != "" {
		s.dir = s.fromStart(s.cfg.Dir)
	}
	s.policy = newPolicy(s.cfg)
	s.loop = newLoop(s, s.policy)
	if err := s.openPidFile(); err != nil {
		return err
	}
	if err := s.makeContract(); err != nil {
		return err
	}
	if err := s.openLog(); err != nil {
		return err
	}
	s.findCgroups(len(recorded) > 0)
	s.reportUp(report)
	s.startServices()
	s.findTerminal()
	first := machine.Event{Kind: machine.Boot}
	if len(recorded) > 0 {
		if first, err = s.resume(recorded); err != nil {
			// Nothing can be known of the generations. They would be
			// started a second time beside themselves.
			return err
		}
	}
	if s.notify >= 0 {
		go notify.Serve(s.notify, func(m notify.Message) { s.ask(func() { s.noticed(m) }) })
	}
	go s.link.receive(s.signal)
	s.loop.run(first)
	return nil
}

// makeContract binds the sockets and works out what each generation gets.
func (s *supervisor) makeContract() error {
	c := &s.contract
	c.Base = os.Environ()
	c.EnvDir = s.fromStart(s.cfg.EnvDir)
	c.Always = s.cfg.Compat == "start_server"
	c.Plain = s.cfg.Compat != "" && !c.Always
	c.ReadyFD = -1
	if s.cfg.Ready.Mode == settings.ReadyFD {
		c.ReadyFD = s.cfg.Ready.FD
	}
	c.Watchdog = s.cfg.Watchdog
	c.Identity = s.identity
	inherited := make(map[int]int)
	for name, fd := range s.link.kept {
		if number, ok := strings.CutPrefix(name, message.Inherited); ok {
			n, err := strconv.Atoi(number)
			if err == nil {
				inherited[n] = fd
			}
		}
	}
	specs, fds, err := s.activated(inherited)
	if err != nil {
		return err
	}
	// The path of a unix socket is bound as it was given, for its length is
	// limited, and may be relative.
	_ = unix.Chdir(s.home)
	defer unix.Chdir("/")
	for _, spec := range s.cfg.Sockets {
		fd, err := s.bind(spec)
		if err != nil {
			return err
		}
		specs, fds = append(specs, spec), append(fds, fd)
	}
	numbers, err := sockets.Assign(specs)
	if err != nil {
		return err
	}
	for i, spec := range specs {
		c.Sockets = append(c.Sockets, contract.Socket{Spec: spec.Bound(fds[i]), FD: fds[i], Number: numbers[i]})
	}
	return s.keepInherited(inherited)
}

// bind returns the socket of a spec: the one that init keeps, or a new one that
// init keeps from now on, so that it stays open whatever becomes of this process.
func (s *supervisor) bind(spec sockets.Spec) (int, error) {
	name := "socket/" + spec.Key()
	if fd := s.link.take(name); fd >= 0 {
		s.bound = append(s.bound, spec)
		return fd, nil
	}
	fd, err := sockets.Bind(spec, s.cfg.Backlog)
	if err != nil {
		return -1, err
	}
	if spec.Port == 0 && !spec.Network.Unix() {
		say.Line("listening on %s", sockets.Address(fd))
	}
	s.bound = append(s.bound, spec)
	return fd, s.link.keep(name, fd)
}

// activated returns the sockets that hotinit itself was started with by
// socket activation, sd_listen_fds(3). The handoff's parent, init, is the
// process that LISTEN_PID must name.
func (s *supervisor) activated(inherited map[int]int) (specs []sockets.Spec, fds []int, err error) {
	if s.contract.Plain || os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getppid()) {
		return nil, nil, nil
	}
	count, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for i := range count {
		fd, ok := inherited[3+i]
		if !ok {
			return nil, nil, fmt.Errorf("LISTEN_FDS=%d promises descriptor %d, which is not open", count, 3+i)
		}
		name := ""
		if i < len(names) {
			name = names[i]
		}
		spec, err := sockets.FromFD(fd, name)
		if err != nil {
			return nil, nil, fmt.Errorf("descriptor %d, from LISTEN_FDS: %w", 3+i, err)
		}
		specs, fds = append(specs, spec), append(fds, fd)
		delete(inherited, 3+i)
	}
	return specs, fds, nil
}

// keepInherited passes on the other descriptors that hotinit was started with:
// all where there are no sockets, as tini does; those of --keep-fds where
// there are.
func (s *supervisor) keepInherited(inherited map[int]int) error {
	c := &s.contract
	if len(c.Sockets) == 0 && len(s.cfg.KeepFDs) == 0 {
		c.Kept = inherited
		return nil
	}
	c.Kept = make(map[int]int)
	for _, n := range s.cfg.KeepFDs {
		if n < 3 {
			continue // these are passed on anyway
		}
		fd, ok := inherited[n]
		if !ok {
			return fmt.Errorf("--keep-fds %d: hotinit was not started with a descriptor %d", n, n)
		}
		for _, sock := range c.Sockets {
			if sock.Number == n {
				return fmt.Errorf("--keep-fds %d: the app gets %s as descriptor %d (give that one another number, as in --port 8080=7)", n, sock.Spec, n)
			}
		}
		c.Kept[n] = fd
	}
	return nil
}

// fromStart makes a path of the command line one that holds in any folder: it
// is relative to the one that hotinit was started in.
func (s *supervisor) fromStart(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(s.home, path)
}

// newPolicy is what of the configuration the machine goes by.
func newPolicy(cfg *settings.Config) *machine.Policy {
	p := &machine.Policy{
		ByInterval:   cfg.Ready.Mode == settings.ReadyAuto,
		Interval:     cfg.Interval,
		ReadyTimeout: cfg.ReadyTimeout,
		KillOldDelay: cfg.KillOldDelay,
		DrainTimeout: cfg.DrainTimeout,
		StopTimeout:  cfg.StopTimeout,
		Probation:    cfg.Probation,
		Watchdog:     cfg.Watchdog,
		MaxOld:       cfg.MaxOld,
		OnExit:       machine.OnExit(cfg.OnExit),
		RetryFirst:   cfg.RetryFirst,
		ReloadSignal: int(cfg.ReloadSignal),
		RetireSignal: int(cfg.SignalOnHUP),
		StopSignals:  map[int]int{},
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

// signal acts upon a signal that init received.
func (s *supervisor) signal(m *message.Signal) {
	if m.Signal == 0 {
		// Init wants to see that the loop acts.
		s.ask(func() { s.acted(m.Seq) })
		return
	}
	s.loop.postAndWait(s.translate(unix.Signal(m.Signal), m.Hangup), m.Seq)
}

// translate says what a signal means.
func (s *supervisor) translate(sig unix.Signal, hangup bool) machine.Event {
	if to, ok := s.cfg.Rewrite[sig]; ok {
		if to == 0 {
			return machine.Event{Kind: machine.Nothing}
		}
		return machine.Event{Kind: machine.Relay, Signal: int(to)}
	}
	if hangup && len(s.policy.StopSignals) > 0 {
		// The terminal is gone, which ends hotinit as it ends other inits. Only a
		// process that sends SIGHUP asks for a new generation.
		return machine.Event{Kind: machine.Halt, Signal: int(sig)}
	}
	if int(sig) == s.policy.ReloadSignal {
		return machine.Event{Kind: machine.Reload}
	}
	if _, ok := s.policy.StopSignals[int(sig)]; ok {
		return machine.Event{Kind: machine.Halt, Signal: int(sig)}
	}
	return machine.Event{Kind: machine.Relay, Signal: int(sig)}
}
