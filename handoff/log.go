package handoff

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/safepath"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/spawn"
	"github.com/hotinit/hotinit/internal/words"
	"github.com/hotinit/hotinit/reaper"
)

// logger is the command of --log-file '| command'. It reads a pipe of which
// init keeps both ends, so that no line is lost, and nobody who writes gets
// SIGPIPE, while the command or the handoff is started anew.
type logger struct {
	text   string
	read   int           // the end that the command reads
	stdout [2]int        // its own standard output and standard error
	ending chan struct{} // closed when nothing is to be started any more
	ended  chan struct{} // closed when the command has read everything
}

const (
	logRead   = "log/read"
	logStdout = "log/stdout/"  // and 1 or 2
	logPID    = "log/command/" // and the command's PID
)

// logs is where hotinit and the generations write.
type logs struct {
	link   *link
	loop   *loop
	home   string
	daemon bool   // there is nothing to write to but --log-file
	path   string // of a --log-file that is not a command
	failed bool   // opening path again failed, and was said
	aside  aside
	lookUp aside // for the command
	logger *logger
}

// open makes standard output and standard error, of hotinit and of each
// generation from now on, go to --log-file.
func (s *logs) open(file string) error {
	if file == "" {
		return nil
	}
	open := s.link.take(message.OutputName)
	if open >= 0 {
		unix.Close(open) // init has it as 1 and 2, and so has this process
	}
	if text, ok := strings.CutPrefix(strings.TrimSpace(file), "|"); ok {
		return s.openCommand(strings.TrimSpace(text))
	}
	s.path = absolute(s.home, file)
	if open >= 0 {
		s.reopen()
		return nil
	}
	return s.openFile()
}

func (s *logs) openFile() error {
	fd, err := openLog(s.path)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return s.output(fd)
}

func openLog(path string) (int, error) {
	fd, err := safepath.Open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT, 0o644)
	if err != nil {
		return -1, fmt.Errorf("cannot open --log-file %s: %w", path, err)
	}
	return fd, nil
}

// output makes fd the standard output and error of this process and of init.
func (s *logs) output(fd int) error {
	for _, to := range [...]int{1, 2} {
		if err := unix.Dup3(fd, to, 0); err != nil {
			return fmt.Errorf("cannot write to --log-file: %w", err)
		}
	}
	return s.link.output(fd)
}

// reopen opens --log-file again if it was rotated: if its path leads to
// another file than the one that is written, or to none. It is asked before
// each line of hotinit and before each generation starts; a generation that
// runs writes on to the file that it was given.
func (s *logs) reopen() {
	if s.path == "" {
		return
	}
	type opened struct {
		fd  int // -1 where the one that is open is the right one
		err error
	}
	path, result := s.path, make(chan opened, 1)
	inTime := s.aside.run(func() {
		var open unix.Stat_t
		there, err := safepath.Stat(path)
		if err == nil && unix.Fstat(1, &open) == nil && open.Dev == there.Dev && open.Ino == there.Ino {
			result <- opened{-1, nil}
			return
		}
		fd, err := openLog(path)
		result <- opened{fd, err}
	}, func() { // the next call looks again
		if o := <-result; o.fd >= 0 {
			unix.Close(o.fd)
		}
	})
	o := opened{-1, fmt.Errorf("cannot open --log-file %s: %w", path, errSlow)}
	if inTime {
		o = <-result
	}
	if o.fd >= 0 {
		o.err = s.output(o.fd)
		unix.Close(o.fd)
	}
	if o.err != nil && !s.failed {
		say.Line("%v; the one that was open is written on", o.err)
	}
	s.failed = o.err != nil
}

func (s *logs) openCommand(text string) error {
	lg := &logger{text: text, read: s.link.take(logRead), stdout: [2]int{-1, -1}, ending: make(chan struct{}), ended: make(chan struct{})}
	s.logger = lg
	if lg.read >= 0 {
		for i := range lg.stdout {
			lg.stdout[i] = s.link.take(logStdout + strconv.Itoa(i+1))
		}
		s.resumeCommand()
		return nil
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("cannot make the pipe of --log-file: %w", err)
	}
	defer unix.Close(pipe[1])
	lg.read = pipe[0]
	for i := range lg.stdout {
		fd, err := unix.FcntlInt(uintptr(i+1), unix.F_DUPFD_CLOEXEC, 3)
		if s.daemon || err != nil {
			if err == nil {
				unix.Close(fd)
			}
			if fd, err = unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
				return fmt.Errorf("cannot open /dev/null: %w", err)
			}
		}
		lg.stdout[i] = fd
		if err := s.link.keep(logStdout+strconv.Itoa(i+1), fd); err != nil {
			return err
		}
	}
	if err := s.link.keep(logRead, lg.read); err != nil {
		return err
	}
	p, err := s.startCommand()
	if err != nil {
		return fmt.Errorf("cannot start the command of --log-file: %w", err)
	}
	s.keepCommand(p)
	go s.follow(p)
	return s.output(pipe[1])
}

// resumeCommand goes on with the command that the last handoff started. There is
// an app already, so a command that can't be started now is no reason to end.
func (s *logs) resumeCommand() {
	for name := range s.link.kept {
		if text, ok := strings.CutPrefix(name, logPID); ok {
			if pid, err := strconv.Atoi(text); err == nil {
				go s.follow(reaper.Adopt(pid, s.link.take(name)))
				return
			}
		}
	}
	go s.follow(nil)
}

// startCommand starts the command. It may take as long as a file system takes to
// answer, within limits, so it does not run in the loop once there is an app.
func (s *logs) startCommand() (*reaper.Process, error) {
	lg := s.logger
	argv, err := words.Split(lg.text)
	if err != nil || strings.ContainsAny(lg.text, "<>|&;$`*?(){}[]~#") {
		argv = []string{"sh", "-c", lg.text}
	}
	env := entry.Environ()
	path, err := s.find(argv[0], env)
	if err != nil {
		return nil, err
	}
	child, err := spawn.Start(&spawn.Spec{
		Path: path, FD: -1, Argv: argv, Env: env,
		Files: []int{lg.read, lg.stdout[0], lg.stdout[1]},
		Dir:   s.home, Umask: -1, Signals: entry.Inherited(),
		Setpgid: true, Foreground: -1, Cgroup: -1,
		Limit: executeWithin,
	})
	if err != nil {
		return nil, err
	}
	return reaper.Own(child.PID, child.PIDFD), nil
}

// find looks for a command in PATH.
func (s *logs) find(name string, env []string) (string, error) {
	type found struct {
		path string
		err  error
	}
	result := make(chan found, 1)
	if !s.lookUp.runWithin(answersWithin, func() {
		path, err := spawn.LookPath(name, env, s.home)
		result <- found{path, err}
	}, func() {}) {
		return "", fmt.Errorf("cannot look for %s in PATH: %w", name, errSlow)
	}
	f := <-result
	return f.path, f.err
}

// keepCommand has init keep what the next handoff finds the command by.
func (s *logs) keepCommand(p *reaper.Process) {
	if p.PIDFD() >= 0 {
		_ = s.link.keep(logPID+strconv.Itoa(p.PID()), p.PIDFD())
	}
}

// follow starts the command whenever it has ended, after delays that grow with
// each try in a row. p is nil where it does not run.
func (s *logs) follow(p *reaper.Process) {
	lg := s.logger
	defer close(lg.ended)
	missing := false
	for tries := 0; ; tries++ {
		what := ""
		if p != nil {
			began := time.Now()
			what = p.Wait().String()
			s.loop.ask(func() { s.link.drop(logPID + strconv.Itoa(p.PID())) })
			p.Close()
			if time.Since(began) > longestLogDelay {
				tries = 0
			}
		}
		if !lg.pause(tries) {
			return
		}
		var err error
		if p, err = s.startCommand(); err != nil {
			if !missing {
				lg.sayMissing(err)
			}
			missing = true
			continue
		}
		s.loop.ask(func() { s.keepCommand(p) })
		if missing = false; what != "" {
			say.Line("the command of --log-file %s; it was started again", what)
		} else {
			say.Note("the command of --log-file was started")
		}
	}
}

// sayMissing says that nobody reads the log. Standard error is the pipe that the
// command should read, so the command's own gets the line as well.
func (lg *logger) sayMissing(err error) {
	text := fmt.Sprintf("the command of --log-file cannot be started: %v; it is tried again, and lines wait in a pipe meanwhile", err)
	say.Line("%s", text)
	say.LineTo(lg.stdout[1], "%s", text)
}

// pause waits before the next try. It reports whether there is to be one.
func (lg *logger) pause(tries int) bool {
	if tries > 0 {
		late := time.NewTimer(min(100*time.Millisecond<<min(tries-1, 10), longestLogDelay))
		defer late.Stop()
		select {
		case <-lg.ending:
		case <-late.C:
		}
	}
	select {
	case <-lg.ending:
		return false
	default:
		return true
	}
}

// longestLogDelay bounds the wait before the command of --log-file is started
// again.
const longestLogDelay = 30 * time.Second

// end waits until the command of --log-file has read everything, now that all
// writers have ended. It runs in the loop.
func (s *logs) end() {
	lg := s.logger
	if lg == nil || lg.stdout[1] < 0 {
		return
	}
	select {
	case <-lg.ending:
		return // it was waited for
	default:
		close(lg.ending)
	}
	if err := s.output(lg.stdout[1]); err != nil {
		return
	}
	s.link.drop(logRead)
	late := time.NewTimer(logGrace)
	defer late.Stop()
	for {
		select {
		case <-lg.ended:
			return
		case in := <-s.loop.inputs:
			// The verdict is given, so events change nothing; follow waits for
			// its calls.
			if in.call != nil {
				in.call()
			}
			if in.done != nil {
				close(in.done)
			}
		case <-late.C:
			return
		}
	}
}

// logGrace is how long the command of --log-file may take to read to the end.
const logGrace = 2 * time.Second
