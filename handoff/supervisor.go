package handoff

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/kernel"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/settings"
	"github.com/hotinit/hotinit/internal/trim"
)

// programName is the name of the program that the command line makes.
const programName = "app"

// supervisor is hotinit's handoff process: the loop, what the programs share, and
// the programs. Its fields belong to the loop's goroutine.
type supervisor struct {
	*shared
	cfg      *settings.Config
	programs []*program
	daemon   bool // started by --daemonize
	reaped   reaped
}

// Run is the handoff's whole life. It does not return.
func Run(argv []string) {
	// The name that ps and top show; /proc/self/exe would show as "exe".
	name := [16]byte{}
	copy(name[:15], "hotinit-handoff")
	_ = unix.Prctl(unix.PR_SET_NAME, uintptrOf(&name[0]), 0, 0, 0)

	// The generations are started on one thread, see thread.
	runtime.LockOSThread()
	tune()
	l, dir, records, err := connect()
	if err != nil {
		say.Line("%v", err)
		os.Exit(exitcode.Failure)
	}
	loop := newLoop()
	s := &supervisor{shared: &shared{
		link:     l,
		loop:     loop,
		thread:   newThread(),
		home:     dir,
		terminal: &terminal{link: l, fd: -1},
		logs:     &logs{link: l, loop: loop, home: dir},
		manager:  &manager{},
		trim:     trim.Timer{Collect: 12}, // about every second swap
	}}
	cfg, err := settings.Parse(argv, os.Environ())
	if err != nil {
		s.fail(err)
	}
	s.cfg = cfg
	say.SetLevel(cfg.Verbosity)
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

// verdict makes init end everything and exit with status. It does not return.
func (s *supervisor) verdict(status int, grace time.Duration) {
	s.logs.end()
	_ = s.link.SendWait(&message.Exit{Status: status, Grace: grace})
	os.Exit(0) // init reads what is in the socket still
}

// ended gives the verdict once every program is over. Its status is that of the
// first program.
func (s *supervisor) ended() {
	if !s.loop.over() {
		return
	}
	s.removeFiles()
	exit := message.Exit{Status: s.programs[0].verdict}
	for _, p := range s.programs {
		exit.Grace = max(exit.Grace, p.grace())
		exit.Terminated = append(exit.Terminated, p.processes.terminated()...)
	}
	for _, p := range s.programs {
		p.adoption.end()
	}
	s.logs.end()
	// kill(2) with -1 means all but init and the caller. Where hotinit is not PID 1,
	// that is the whole machine, and the signal 0 finds it.
	exit.Alone = os.Getppid() == 1 && unix.Kill(-1, 0) == unix.ESRCH
	_ = s.link.SendWait(&exit)
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
	if !resumed {
		s.warn()
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
	app := newProgram(s.shared, programName, s.cfg, s.ended)
	s.programs = append(s.programs, app)
	if err := s.openPidFile(); err != nil {
		return err
	}
	for _, p := range s.programs {
		if !resumed {
			if err := p.checkTrust(); err != nil {
				return err
			}
		}
		if err := p.bindAll(s.inherited(), records[p.name]); err != nil {
			return err
		}
	}
	s.logs.daemon = s.daemon
	if err := s.logs.open(s.cfg.LogFile); err != nil {
		return err
	}
	for _, p := range s.programs {
		if err := p.adoption.start(); err != nil {
			return err
		}
		p.cgroups.find(resumed)
	}
	s.reportUp(report)
	s.startServices()
	s.terminal.find(false, s.cfg.Session)
	for _, p := range s.programs {
		if recorded := records[p.name]; len(recorded) > 0 {
			if err := p.resume(recorded); err != nil {
				// Nothing is known about the generations. Starting over would
				// run every one of them twice.
				return err
			}
		}
		p.listen()
	}
	for _, p := range s.programs {
		p.starts.recall()
	}
	go s.link.receive(s.signal)
	end := make(chan struct{})
	go func() {
		s.loop.run()
		close(end)
	}()
	s.thread.serve(end)
	return nil
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
	plain := true
	for _, p := range s.programs {
		if p.contract.Plain {
			continue
		}
		plain = false
		if err := p.openNotifier(); err != nil {
			say.Line("%v; generations count as ready by --interval", err)
		}
	}
	if plain {
		return
	}
	if !s.daemon {
		s.manager.address = os.Getenv("NOTIFY_SOCKET")
	}
	if err := s.openControl(); err != nil {
		say.Line("%v; `hotinit status` and the like will not find this hotinit", err)
	}
}

// openControl makes the control socket, or takes the one that init keeps.
func (s *supervisor) openControl() error {
	const name = "control"
	fd := s.link.take(name)
	if fd < 0 {
		var err error
		if fd, err = control.Listen(control.Address(os.Getppid())); err != nil {
			return err
		}
		if err := s.link.keep(name, fd); err != nil {
			return err
		}
	}
	go control.Serve(fd, s.answer)
	return nil
}

// answer acts upon one request. It runs on a goroutine of its own.
func (s *supervisor) answer(r control.Request, reply func(control.Response) bool, gone <-chan struct{}) {
	if r.Op == "stop" {
		// The answer comes before it is done, and once the client has gone: PID 1
		// takes its whole namespace with it when it ends, which may be at once.
		reply(control.Response{OK: true, Text: "stopping"})
		select {
		case <-gone:
		case <-time.After(time.Second):
		}
		s.loop.submit(input{each: func(*engine) machine.Event {
			return machine.Event{Kind: machine.Halt, Signal: int(unix.SIGTERM), Reason: "hotinit stop"}
		}})
		return
	}
	if r.Op == "metrics" {
		s.answerMetrics(r, reply)
		return
	}
	p := s.find(r.Program)
	if p == nil {
		reply(control.Response{Text: fmt.Sprintf("there is no program %q", r.Program)})
		return
	}
	p.clients.answer(r, reply, gone)
}

// find returns the program of a name, nil if there is none. An only program need
// not be named.
func (s *supervisor) find(name string) *program {
	if name == "" && len(s.programs) == 1 {
		return s.programs[0]
	}
	for _, p := range s.programs {
		if p.name == name {
			return p
		}
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
	s.loop.submit(input{seq: m.Seq, each: func(e *engine) machine.Event {
		return e.sys.translate(unix.Signal(m.Signal), m.Hangup)
	}})
}

// acted tells init that a signal was acted upon.
func (s *supervisor) acted(seq uint64) {
	if err := s.link.SendWait(&message.Acted{Seq: seq}); err != nil {
		say.Line("cannot tell init about a signal: %v", err)
	}
}
