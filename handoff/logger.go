package handoff

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/spawn"
	"github.com/hotinit/hotinit/internal/words"
	"github.com/hotinit/hotinit/reaper"
)

// logger is the command of --log-file '| command', or of HOTINIT_LOG_FILE in a
// program's file. It reads a pipe of which init keeps both ends, so that no line is
// lost, and nobody who writes gets SIGPIPE, while the command or the handoff is
// started anew.
type logger struct {
	text   string
	called string // what its lines call it
	home   string
	loop   *loop
	kept   keeper
	name   string        // begins the names under which init keeps what is its own
	read   int           // the end that the command reads
	stdout [2]int        // its own standard output and standard error
	lookUp aside         // for the command
	ending chan struct{} // closed when nothing is to be started any more
	ended  chan struct{} // closed when the command has read everything
}

// keeper has init keep descriptors: link, or of one program kept.
type keeper interface {
	keep(name string, fd int) error
	take(name string) int
	drop(name string)
}

const (
	logRead   = "read"
	logStdout = "stdout/"  // and 1 or 2
	logPID    = "command/" // and the command's PID
)

// isCommand returns the command of a --log-file that is one.
func isCommand(file string) (text string, ok bool) {
	text, ok = strings.CutPrefix(strings.TrimSpace(file), "|")
	return strings.TrimSpace(text), ok
}

// begin starts the command, or goes on with the one that the last handoff started,
// whose PID is among the names that init keeps. There is an app by then, so a command
// that can't be started is no reason to end.
func (lg *logger) begin(names []string) {
	running := append(adoptKept(lg.kept, names, lg.name+logPID), nil)
	go lg.follow(running[0]) // there is one at most
}

// adoptKept returns the processes that the last handoff has started, of which init keeps
// the pidfds under names that begin with prefix and end with the PID.
func adoptKept(kept keeper, names []string, prefix string) (all []*reaper.Process) {
	for _, name := range names {
		if text, ok := strings.CutPrefix(name, prefix); ok {
			if pid, err := strconv.Atoi(text); err == nil {
				all = append(all, reaper.Adopt(pid, kept.take(name)))
			}
		}
	}
	return all
}

// start starts the command. It may take as long as a file system takes to answer,
// within limits, so it does not run in the loop once there is an app.
func (lg *logger) start() (*reaper.Process, error) {
	argv, err := words.Split(lg.text)
	if err != nil || strings.ContainsAny(lg.text, "<>|&;$`*?(){}[]~#") {
		argv = []string{"sh", "-c", lg.text}
	}
	env := entry.Environ()
	path, err := lg.find(argv[0], env)
	if err != nil {
		return nil, err
	}
	child, err := spawn.Start(&spawn.Spec{
		Path: path, FD: -1, Argv: argv, Env: env,
		Files: []int{lg.read, lg.stdout[0], lg.stdout[1]},
		Dir:   lg.home, Umask: -1, Signals: entry.Inherited(),
		Setpgid: true, Foreground: -1, Cgroup: -1,
		Limit: executeWithin,
	})
	if err != nil {
		return nil, err
	}
	return reaper.Own(child.PID, child.PIDFD), nil
}

// find looks for a command in PATH.
func (lg *logger) find(name string, env []string) (string, error) {
	type found struct {
		path string
		err  error
	}
	result := make(chan found, 1)
	if !lg.lookUp.runWithin(answersWithin, func() {
		path, err := spawn.LookPath(name, env, lg.home)
		result <- found{path, err}
	}, func() {}) {
		return "", fmt.Errorf("cannot look for %s in PATH: %w", name, errSlow)
	}
	f := <-result
	return f.path, f.err
}

// keepCommand has init keep what the next handoff finds the command by.
func (lg *logger) keepCommand(p *reaper.Process) {
	if p.PIDFD() >= 0 {
		_ = lg.kept.keep(lg.name+logPID+strconv.Itoa(p.PID()), p.PIDFD())
	}
}

// follow starts the command whenever it has ended, after delays that grow with
// each try in a row. p is nil where it does not run.
func (lg *logger) follow(p *reaper.Process) {
	defer close(lg.ended)
	if p == nil {
		lg.loop.ask(func() {}) // in a trial, nothing is started
	}
	missing := false
	for tries := 0; ; tries++ {
		what := ""
		if p != nil {
			began := time.Now()
			what = p.Wait().String()
			lg.loop.ask(func() { lg.kept.drop(lg.name + logPID + strconv.Itoa(p.PID())) })
			p.Close()
			if time.Since(began) > longestLogDelay {
				tries = 0
			}
		}
		if !pause(tries, lg.ending) {
			return
		}
		var err error
		if p, err = lg.start(); err != nil {
			if !missing {
				lg.sayMissing(err)
			}
			missing = true
			continue
		}
		lg.loop.ask(func() { lg.keepCommand(p) })
		if missing = false; what != "" {
			say.Line("%s %s; it was started again", lg.called, what)
		} else {
			say.Note("%s was started", lg.called)
		}
	}
}

// sayMissing says that nobody reads the log. Standard error may be the pipe that the
// command should read, so the command's own gets the line as well.
func (lg *logger) sayMissing(err error) {
	text := fmt.Sprintf("%s cannot be started: %v; it is tried again, and lines wait in a pipe meanwhile", lg.called, err)
	say.Line("%s", text)
	if lg.stdout[1] != 2 {
		say.LineTo(lg.stdout[1], "%s", text)
	}
}

// pause waits before the next of several tries in a row. It reports whether there is
// to be one.
func pause(tries int, ending <-chan struct{}) bool {
	if tries > 0 {
		late := time.NewTimer(min(100*time.Millisecond<<min(tries-1, 10), longestLogDelay))
		defer late.Stop()
		select {
		case <-ending:
		case <-late.C:
		}
	}
	select {
	case <-ending:
		return false
	default:
		return true
	}
}

// longestLogDelay bounds the wait before the command of --log-file is started
// again.
const longestLogDelay = 30 * time.Second

// stop has the command started no more: it reads to the end, once nobody holds the
// writing end of its pipe. It reports whether that was not said before.
func (lg *logger) stop() bool {
	select {
	case <-lg.ending:
		return false
	default:
		close(lg.ending)
		lg.kept.drop(lg.name + logRead)
		return true
	}
}
