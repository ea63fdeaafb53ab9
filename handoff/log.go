package handoff

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/safepath"
	"github.com/hotinit/hotinit/internal/say"
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
	if text, ok := isCommand(file); ok {
		return s.openCommand(text)
	}
	s.path = absolute(s.home, file)
	if open >= 0 {
		s.reopen()
		return nil
	}
	return s.openFile()
}

func (s *logs) openFile() error {
	fd, err := openLog("--log-file", s.path)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return s.output(fd)
}

func openLog(setting, path string) (int, error) {
	fd, err := safepath.Open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT, 0o644)
	if err != nil {
		return -1, fmt.Errorf("cannot open %s %s: %w", setting, path, err)
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
		fd, err := openLog("--log-file", path)
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
	lg := &logger{text: text, called: "the command of --log-file", home: s.home, loop: s.loop, kept: s.link, name: "log/",
		read: s.link.take("log/" + logRead), stdout: [2]int{-1, -1}, ending: make(chan struct{}), ended: make(chan struct{})}
	s.logger = lg
	if lg.read >= 0 {
		for i := range lg.stdout {
			lg.stdout[i] = s.link.take(lg.name + logStdout + strconv.Itoa(i+1))
		}
		lg.begin(slices.Collect(maps.Keys(s.link.kept)))
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
		if err := s.link.keep(lg.name+logStdout+strconv.Itoa(i+1), fd); err != nil {
			return err
		}
	}
	if err := s.link.keep(lg.name+logRead, lg.read); err != nil {
		return err
	}
	p, err := lg.start()
	if err != nil {
		s.logger = nil // there is nothing to wait for in the end
		return fmt.Errorf("cannot start the command of --log-file: %w", err)
	}
	lg.keepCommand(p)
	go lg.follow(p)
	return s.output(pipe[1])
}

// end waits until the command of --log-file has read everything, now that all
// writers have ended. It runs in the loop.
func (s *logs) end() {
	lg := s.logger
	if lg == nil || lg.stdout[1] < 0 || !lg.stop() {
		return
	}
	if err := s.output(lg.stdout[1]); err != nil {
		return
	}
	s.loop.serveUntil(logGrace, lg.ended)
}

// endOutput waits until what was written has been read, now that all writers have
// ended. It runs in the loop.
func (s *supervisor) endOutput() {
	s.liner.end()
	all := make(chan struct{})
	var ended []<-chan struct{}
	for _, p := range s.programs {
		ended = append(ended, p.outputs.end()...)
	}
	if len(ended) > 0 {
		go func() {
			for _, e := range ended {
				<-e
			}
			close(all)
		}()
		s.loop.serveUntil(logGrace, all)
	}
	s.logs.end()
}

// logGrace is how long each step of this may take.
const logGrace = 2 * time.Second
