package handoff

import (
	"cmp"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/fault"
	"github.com/hotinit/hotinit/internal/kernel"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/order"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/settings"
	"github.com/hotinit/hotinit/internal/trim"
	"github.com/hotinit/hotinit/internal/version"
)

// programName is the name of the program that the command line makes.
const programName = "app"

// supervisor is hotinit's handoff process: the loop, what the programs share, and
// the programs. Its fields belong to the loop's goroutine.
type supervisor struct {
	*shared
	cfg      *settings.Config
	app      *program   // that of the command line, nil for none
	programs []*program // all of them
	members             // those of them that files made
	ordering
	daemon   bool          // started by --daemonize
	stopping bool          // everything is told to stop
	done     bool          // the verdict is given
	told     time.Duration // how long init was told that everything may take to end
	reaped   reaped
	upgrades upgrades
}

// Run is the handoff's whole life. It does not return.
func Run(argv []string) {
	// The name that ps and top show; /proc/self/exe would show as "exe".
	name := [16]byte{}
	copy(name[:15], "hotinit-handoff")
	_ = unix.Prctl(unix.PR_SET_NAME, uintptrOf(&name[0]), 0, 0, 0)

	_ = fault.At("handoff.start")
	// The generations are started on one thread, see thread.
	runtime.LockOSThread()
	trim.Pace()
	l, dir, records, err := connect()
	_ = fault.At("handoff.opened")
	if err != nil {
		l.refuse(err)
		say.Line("%v", err)
		os.Exit(exitcode.Failure)
	}
	loop, thread := newLoop(), newThread()
	s := &supervisor{shared: &shared{
		link:     l,
		loop:     loop,
		thread:   thread,
		home:     dir,
		terminal: &terminal{link: l, fd: -1},
		logs:     &logs{link: l, loop: loop, home: dir},
		liner:    newLiner(l, loop),
		reports:  newReports(l, dir, thread),
		manager:  &manager{},
		trim:     trim.Timer{Collect: 12}, // about every second swap
		trees:    make(cgroupTrees),
		environ:  sync.OnceValue(entry.Environ),
		null:     -1,
	}}
	cfg, err := settings.Parse(argv, os.Environ())
	if err != nil {
		s.fail(err)
	}
	s.cfg = cfg
	say.SetLevel(cfg.Verbosity)
	say.SetJSON(cfg.LogJSON)
	s.reports.configure(cfg)
	if cfg.Action != settings.Run {
		// The paths of the command line are relative to the directory that hotinit
		// was started in.
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
	if err := s.run(records, report); err != nil {
		s.link.refuse(err) // the files are those of the handoff that comes back
		s.removeFiles()
		s.fail(err)
	}
	say.Finish()
	os.Exit(0) // the verdict is given
}

// fail gives the verdict that hotinit cannot work, and does not return.
func (s *supervisor) fail(err error) {
	s.link.refuse(err)
	say.Line("%v", err)
	status := exitcode.Failure
	if e, ok := err.(interface{ ExitCode() int }); ok {
		status = e.ExitCode()
	}
	s.verdict(status, 0)
}

// verdict makes init end everything and exit with status. It does not return.
func (s *supervisor) verdict(status int, grace time.Duration) {
	s.endOutput()
	_ = s.link.SendWait(&message.Exit{Status: status, Grace: grace})
	say.Finish()
	os.Exit(0) // init reads what is in the socket still
}

// ended is called when a program is over. Once all have to be, it gives the verdict.
// Its status is that of the command line's program; without one, hotinit has done
// what it was told.
func (s *supervisor) ended() {
	if s.app != nil && s.app.engine.state.Over {
		s.stopAll(commandEnded)
		if s.order != nil && !s.done {
			s.happens(order.Event{Kind: order.Ended, Name: s.app.name, Status: s.app.verdict, Reason: commandEnded})
		}
	}
	if s.done || !s.finished() {
		return
	}
	s.done = true
	s.removeFiles()
	exit := message.Exit{}
	switch {
	case s.order != nil && s.order.Decided:
		exit.Status = s.order.Status
	case s.app != nil:
		exit.Status = s.app.verdict
	}
	s.sayEnd(exit.Status)
	for _, p := range s.programs {
		exit.Grace = max(exit.Grace, p.grace())
		exit.Terminated = append(exit.Terminated, p.processes.terminated()...)
	}
	if len(exit.Terminated) > mostTerminated {
		exit.Terminated = exit.Terminated[:mostTerminated]
	}
	for _, p := range s.programs {
		p.adoption.end()
	}
	// An app that ended by itself, or an essential program, is reported.
	told := s.order == nil || !s.order.Decided
	if s.app != nil {
		told = s.app.engine.state.Stop != 0
	}
	s.reports.end(s.loop, told)
	s.endOutput()
	// kill(2) with -1 means all but init and the caller. Where hotinit is not PID 1,
	// that is the whole machine, and the signal 0 finds it.
	exit.Alone = os.Getppid() == 1 && unix.Kill(-1, 0) == unix.ESRCH
	_ = s.link.SendWait(&exit)
}

// commandEnded is why everything stops once the command beside --programs has ended.
const commandEnded = "the command has ended"

// speaks reports whether hotinit itself says how it comes and goes: where files make
// programs. Of a single command, its program does.
func (s *supervisor) speaks() bool {
	return s.cfg.Programs != "" && (s.cfg.Compat == "" || s.cfg.Compat == "start_server")
}

// sayBegin says what runs here.
func (s *supervisor) sayBegin() {
	if !s.speaks() {
		return
	}
	beside := ""
	if s.app != nil {
		beside = ", and the command beside them"
	}
	n := len(s.set.Programs)
	noun := "programs"
	if n == 1 {
		noun = "program"
	}
	say.Note("version %s runs %d %s of %s%s", version.Number, n, noun, s.dir.Path, beside)
}

// sayEnd says the last line.
func (s *supervisor) sayEnd(status int) {
	if !s.speaks() {
		return
	}
	why := s.order.Reason
	if !s.order.Decided && why != commandEnded {
		why = "it was told to stop (" + why + ")"
	}
	level := say.Info
	if status != 0 {
		level = say.Error
	}
	if s.cfg.Verbosity >= int(level) {
		say.About{}.Print(level, "ends with status %d: %s", status, why)
	}
}

// finished reports whether hotinit is to end: it runs until its command has ended, or
// where files make programs, until it is stopped.
func (s *supervisor) finished() bool {
	for _, p := range s.programs {
		if !p.engine.state.Over {
			return false
		}
	}
	return s.cfg.Programs == "" || s.stopping && s.order.Over
}

// removeFiles removes the files that hotinit has made for as long as it runs.
func (s *supervisor) removeFiles() {
	if !s.link.held[pidFile] && !slices.ContainsFunc(s.programs, (*program).hasFiles) {
		return
	}
	var last aside
	last.run(func() {
		for _, p := range s.programs {
			p.removeFiles()
		}
		s.removePidFile()
	}, func() {})
}

// run prepares everything and runs the loop. records are what the last handoff
// left of each program, none for the first. report is where --daemonize waits,
// or -1.
func (s *supervisor) run(records map[string][]byte, report int) error {
	resumed := len(records) > 0
	// The handoff keeps no mount busy. Paths are relative to home.
	_ = unix.Chdir("/")
	s.upgrades.prepare(s)
	if !resumed {
		s.warn()
	}
	if err := s.hello(s.cfg.StopTimeout); err != nil {
		return err
	}
	if s.cfg.Pause {
		s.pause()
	}
	s.loop.ends = func() bool { return s.done }
	if len(s.cfg.Command) > 0 {
		s.app = newApp(s.shared, s.cfg, s.ended)
		s.programs = append(s.programs, s.app)
	}
	if err := s.openPidFile(); err != nil {
		return err
	}
	app := s.app
	if app != nil {
		if !resumed {
			if err := app.checkTrust(); err != nil {
				return err
			}
		}
		if err := app.open(app.plan, s.inherited(), records[app.name]); err != nil {
			return err
		}
	}
	s.logs.daemon = s.daemon
	if err := s.logs.open(s.cfg.LogFile); err != nil {
		return err
	}
	if app != nil {
		if err := app.adoption.start(app.plan); err != nil {
			return err
		}
		app.retune()
		app.cgroups.find(resumed)
	}
	if err := s.openPrograms(resumed); err != nil {
		return err
	}
	s.reportUp(report)
	_, another := s.link.kept[controlName] // a handoff was there; without programs it left no record
	s.startServices()
	s.terminal.find(false, s.cfg.Session)
	if app != nil {
		if recorded := records[app.name]; len(recorded) > 0 {
			if err := app.resume(recorded); err != nil {
				// Nothing is known about the generations. Starting over would
				// run every one of them twice.
				return err
			}
		}
		app.listen()
		app.starts.recallApp()
	}
	if err := s.startPrograms(records); err != nil {
		return err
	}
	if !resumed && !another {
		s.sayBegin()
	}
	go s.link.receive(s.signal, s.link.released()...)
	s.upgrades.start()
	s.liner.begin()
	s.reports.begin()
	s.reportTakeover(resumed)
	end := make(chan struct{})
	go func() {
		s.loop.run()
		close(end)
	}()
	s.thread.serve(end)
	return nil
}

// hello tells init what the command line asks of it. stop is how long everything may
// take to end.
func (s *supervisor) hello(stop time.Duration) error {
	s.told = stop
	return s.link.SendWait(&message.Hello{
		Warn: s.cfg.WarnOnReap && s.cfg.Verbosity > 0,
		// The app has no terminal of its own, so job control means hotinit.
		Suspend:     s.cfg.Session || s.cfg.Compat == "dumb-init",
		ParentDeath: int(s.cfg.ParentDeath),
		Stops:       s.cfg.Compat == "" || s.cfg.Compat == "start_server",
		StopTimeout: stop,
		JSON:        s.cfg.LogJSON,
	})
}

// warn says what the user should know at the start.
func (s *supervisor) warn() {
	for _, w := range s.cfg.Warnings {
		say.Note("%s", w)
	}
	s.warnWithoutPIDFDs()
}

// warnWithoutPIDFDs says what is less exact where the kernel, or a filter, allows
// no pidfds. Under another tool's name, nobody has asked for them.
func (s *supervisor) warnWithoutPIDFDs() {
	if s.cfg.Compat != "" || s.cfg.Verbosity == 0 {
		return
	}
	if err := pidfds(); err != nil {
		say.Line("there are no pidfds here (pidfd_open: %v; Linux 5.3 has them): processes are identified by PID and start time, each generation costs a thread, and how it ended is not known if the handoff was lost meanwhile", err)
	}
}

// pidfds returns why there are none, nil where there are.
func pidfds() error {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err == nil {
		err = unix.PidfdSendSignal(fd, 0, nil, 0)
		unix.Close(fd)
	}
	if !kernel.Missing(err) {
		return nil
	}
	return err
}

// inherited returns the descriptors that hotinit was started with, by number.
func (s *supervisor) inherited() map[int]int {
	fds := make(map[int]int)
	for name, fd := range s.link.kept {
		if number, ok := strings.CutPrefix(name, message.Inherited); ok {
			if n, err := strconv.Atoi(number); err == nil {
				fds[n] = fd
			}
		}
	}
	return fds
}

// startServices opens what the app and the command line talk to. Neither is worth
// an app that does not run, so errors are only printed.
func (s *supervisor) startServices() {
	if s.app != nil && s.app.contract.Plain {
		return
	}
	if s.app != nil {
		if err := s.app.openNotifier(); err != nil {
			say.Line("%v; generations count as ready by --interval", err)
		}
	}
	if !s.daemon {
		s.manager.address = os.Getenv("NOTIFY_SOCKET")
	}
	if err := s.openControl(); err != nil {
		say.Line("%v; `hotinit status` and the like will not find this hotinit", err)
	}
}

// controlName is the control socket among what init keeps.
const controlName = "control"

// openControl makes the control socket, or takes the one that init keeps.
func (s *supervisor) openControl() error {
	fd := s.link.take(controlName)
	if fd < 0 {
		var err error
		if fd, err = control.Listen(control.Address(os.Getppid())); err != nil {
			return err
		}
		if err := s.link.keep(controlName, fd); err != nil {
			return err
		}
	}
	go control.Serve(fd, s.answer)
	return nil
}

// answer acts upon one request. It runs on a goroutine of its own.
func (s *supervisor) answer(r control.Request, reply func(control.Response) bool, gone <-chan struct{}) {
	if s.answerSeveral(&r, reply, gone) {
		return
	}
	if r.Op == "stop" {
		// The answer comes before it is done, and once the client has gone: PID 1
		// takes its whole namespace with it when it ends, which may be at once.
		reply(control.Response{OK: true, Text: "stopping"})
		select {
		case <-gone:
		case <-time.After(time.Second):
		}
		s.loop.ask(func() {
			s.reports.asked = true
			s.stopAll("hotinit stop")
			s.loop.settle()
			s.ended()
		})
		return
	}
	if r.Op == "wait" && r.For == "stopped" && r.Program == "" {
		<-gone // the end of hotinit closes the connection
		return
	}
	if r.Op == "metrics" {
		s.answerMetrics(r, reply)
		return
	}
	if s.upgrades.answer(r, reply, gone) {
		return
	}
	var p *program
	var err error
	s.loop.ask(func() { p, err = s.named(r.Program) })
	if err != nil {
		reply(refuses(err))
		return
	}
	p.clients.answer(r, reply, gone)
}

// find returns the program of a name, nil if there is none. An only program need
// not be named.
func (s *supervisor) find(name string) *program {
	if name == "" && len(s.programs) > 0 && len(s.programs[0].siblings()) == len(s.programs) {
		return s.programs[0].lead()
	}
	if p := s.findInstance(name); p != nil {
		return p
	}
	if p := s.byName[name]; p != nil {
		return p
	}
	if s.app != nil && name == s.app.name {
		return s.app
	}
	return nil
}

// signal acts upon a signal that init received.
func (s *supervisor) signal(m *message.Signal) {
	s.reaped.note(m)
	if m.Signal == 0 {
		// Init wants to see that the loop acts.
		s.loop.ask(func() { s.acted(m.Seq) })
		return
	}
	sig := unix.Signal(m.Signal)
	halts := "" // why everything stops
	s.loop.submit(input{seq: m.Seq, each: func(e *engine) machine.Event {
		ev := e.sys.translate(sig, m.Hangup)
		if ev.Kind == machine.Halt && s.order != nil {
			// Programs stop in their order; what is told to stop gets it once more.
			halts = cmp.Or(ev.Reason, machine.SignalName(int(sig)))
			if s.app != nil && e == s.app.engine {
				s.stopBy = ev
			}
			if e.state.Stop == 0 || e.state.Over {
				ev = machine.Event{Kind: machine.Dropped}
			}
		}
		return ev
	}, call: func() { s.signaled(m, sig, halts) }})
}

// signaled is called once each program has acted upon a signal.
func (s *supervisor) signaled(m *message.Signal, sig unix.Signal, halts string) {
	if len(s.programs) == 0 {
		switch {
		case m.Hangup, sig == unix.SIGTERM, sig == unix.SIGINT, sig == unix.SIGQUIT:
			halts = machine.SignalName(int(sig))
		}
	}
	if halts != "" {
		s.reports.asked = true
		s.stopAll(halts)
		s.loop.settle()
	}
	if len(s.programs) == 0 {
		s.acted(m.Seq)
	}
	if halts != "" {
		s.ended()
	}
}

// acted tells init that a signal was acted upon.
func (s *supervisor) acted(seq uint64) {
	if err := s.link.SendWait(&message.Acted{Seq: seq}); err != nil {
		say.Line("cannot tell init about a signal: %v", err)
	}
}
