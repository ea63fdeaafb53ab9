package handoff

import (
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/machine"
)

// outputs are what the generations of a program write to, where that is not what
// hotinit itself has as standard output and standard error: a file or a command of the
// program's own (HOTINIT_LOG_FILE in its file), pipes for --log-prefix, or both.
//
// A generation gets the file itself, as with --log-file. Its pipes are its own, so that
// the lines of two generations are not mixed; init keeps the ends to read from until
// nothing of the generation is left, so that it never gets SIGPIPE.
type outputs struct {
	*common
	plans   func() map[string]*plan // those that may be needed
	streams map[int][]*stream       // of each generation
	loggers map[string]*ownLogger   // by the command
}

// ownLogger is the command that reads what a program writes.
type ownLogger struct {
	*logger
	write int // the pipe's other end
}

// Names under which init keeps what is a program's.
const (
	outputName = "out/" // the generation's number, and 1 or 2
	loggerName = "log/" // what the command comes to
	logWrite   = "write"
)

// ownLog returns HOTINIT_LOG_FILE of the program's file; --log-file of hotinit itself
// is where all write that have none.
func (s *common) ownLog() string {
	if !s.member {
		return ""
	}
	return s.cfg.LogFile
}

// openOwn opens it for a generation. It runs beside the loop. It returns -1 where there
// is none to be opened.
func (s *common) openOwn() (fd int, err error) {
	file := s.ownLog()
	if _, command := isCommand(file); file == "" || command {
		return -1, nil
	}
	return openLog("HOTINIT_LOG_FILE", s.fromStart(file))
}

// open returns what generation n gets as its first three descriptors. file is what
// openOwn has opened. done closes what the generation alone has then.
func (s *outputs) open(as *common, n, file int) (std [3]int, done func(), err error) {
	std = as.std()
	if command, ok := isCommand(as.ownLog()); ok {
		lg, err := s.logger(command)
		if err != nil {
			return std, nil, err
		}
		std[1], std[2] = lg.write, lg.write
	} else if file >= 0 {
		std[1], std[2] = file, file
	}
	if !as.cfg.LogPrefix {
		return std, func() {}, nil
	}
	s.drop(n) // of a start that failed
	var writes []int
	done = func() {
		for _, fd := range writes {
			unix.Close(fd)
		}
	}
	for _, i := range []int{1, 2} {
		if std[i] < 0 {
			continue // it was closed when hotinit was started
		}
		fd, err := s.pipe(as, n, i, std[i])
		if err != nil {
			done()
			s.drop(n)
			return std, nil, err
		}
		writes, std[i] = append(writes, fd), fd
	}
	return std, done, nil
}

// pipe makes what goes before the lines that a generation writes to to go there. It
// returns the end to write to.
func (s *outputs) pipe(as *common, n, i, to int) (write int, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return -1, fmt.Errorf("cannot make the pipe of --log-prefix: %w", err)
	}
	to, err = unix.FcntlInt(uintptr(to), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		unix.Close(p[0])
		unix.Close(p[1])
		return -1, fmt.Errorf("cannot keep what --log-prefix writes to: %w", err)
	}
	if c := as.credential(); c != nil {
		// So that the app may open /dev/stdout, which is this pipe.
		_ = unix.Fchown(p[1], int(c.UID), int(c.GID))
	}
	st := &stream{name: *s.title.Load(), from: p[0], to: to, kept: s.kept, key: streamName(n, i)}
	s.streams[n] = append(s.streams[n], st)
	if err := errors.Join(s.kept.keep(st.key, st.from), s.kept.keep(st.key+toName, st.to)); err != nil {
		unix.Close(p[1])
		return -1, err
	}
	return p[1], nil
}

func streamName(n, i int) string { return fmt.Sprintf("%s%d/%d", outputName, n, i) }

// started has the streams of a generation read, now that it runs.
func (s *outputs) started(n int) {
	for _, st := range s.streams[n] {
		s.liner.add(st)
	}
}

// drop lets go of the streams of a generation that never ran.
func (s *outputs) drop(n int) {
	for _, st := range s.streams[n] {
		s.liner.discard(st)
	}
	delete(s.streams, n)
}

// tune lets go of what belongs to generations that are gone, and of commands that
// nothing is written to any more.
func (s *outputs) tune(st machine.State) {
	for n, streams := range s.streams {
		if st.Find(n) == nil {
			for _, stream := range streams {
				s.liner.remove(stream)
			}
			delete(s.streams, n)
		}
	}
	if len(s.loggers) == 0 {
		return
	}
	needed := make(map[string]bool)
	for _, pl := range s.plans() {
		if command, ok := isCommand(pl.cfg.LogFile); ok {
			needed[command] = true
		}
	}
	for command, lg := range s.loggers {
		if !needed[command] {
			lg.stop()
			delete(s.loggers, command)
		}
	}
}

// logger returns what a command reads, and has it started where it does not run.
func (s *outputs) logger(command string) (*ownLogger, error) {
	if lg := s.loggers[command]; lg != nil {
		return lg, nil
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("cannot make the pipe of HOTINIT_LOG_FILE: %w", err)
	}
	lg := s.newLogger(command, p[0], p[1])
	if err := errors.Join(s.kept.keep(lg.name+logRead, p[0]), s.kept.keep(lg.name+logWrite, p[1])); err != nil {
		unix.Close(p[0])
		unix.Close(p[1])
		return nil, err
	}
	lg.begin(nil)
	return lg, nil
}

func (s *outputs) newLogger(command string, read, write int) *ownLogger {
	lg := &ownLogger{write: write, logger: &logger{
		text: command, called: s.called() + "the command of HOTINIT_LOG_FILE", home: s.home, loop: s.loop, kept: s.kept,
		name: nameOf(command), read: read, stdout: [2]int{1, 2},
		ending: make(chan struct{}), ended: make(chan struct{}),
	}}
	s.loggers[command] = lg
	return lg
}

// nameOf begins the names under which init keeps what belongs to a command.
func nameOf(command string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(command))
	return fmt.Sprintf("%s%x/", loggerName, h.Sum64())
}

// stop lets go of both ends of the pipe: the command reads what is in it, and ends.
func (lg *ownLogger) stop() {
	if lg.logger.stop() {
		lg.kept.drop(lg.name + logWrite)
		unix.Close(lg.write)
		go func() { // it may just be starting
			<-lg.ended
			unix.Close(lg.read)
		}()
	}
}

// end has what is left read to the end, now that nothing is written any more. It returns
// what is closed as the commands end.
func (s *outputs) end() (ended []<-chan struct{}) {
	if len(s.loggers) == 0 {
		return nil
	}
	for n := range s.streams {
		s.drop(n) // they may lead to a command
	}
	for _, lg := range s.loggers {
		lg.stop()
		ended = append(ended, lg.ended)
	}
	return ended
}

// dispose lets go of everything, with what init keeps: there is no such program any
// more.
func (s *outputs) dispose() {
	s.end()
	for n, streams := range s.streams {
		for _, st := range streams {
			s.liner.remove(st)
		}
		delete(s.streams, n)
	}
}

// resume takes over what the last handoff left.
func (s *outputs) resume() {
	names := slices.Collect(maps.Keys(s.kept.got))
	for _, pl := range s.plans() {
		command, ok := isCommand(pl.cfg.LogFile)
		if !ok || !s.member || s.loggers[command] != nil {
			continue
		}
		read, write := s.kept.take(nameOf(command)+logRead), s.kept.take(nameOf(command)+logWrite)
		if read >= 0 && write >= 0 {
			s.newLogger(command, read, write).begin(names)
		}
	}
	streams := s.kept.takeAll(func(name string) bool { return strings.HasPrefix(name, outputName) })
	for key, from := range streams {
		to, ok := streams[key+toName]
		number, _, _ := strings.Cut(strings.TrimPrefix(key, outputName), "/")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || strings.HasSuffix(key, toName) {
			continue
		}
		st := &stream{name: *s.title.Load(), from: from, to: to, kept: s.kept, key: key}
		s.streams[n] = append(s.streams[n], st)
		s.liner.add(st)
	}
}
