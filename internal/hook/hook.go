// Package hook runs the commands that a user gave hotinit to ask about an app:
// --check and --ready exec:.
//
// Invariant: when Run returns, the command has ended; one that was stopped was
// killed together with its process group.
package hook

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/passwd"
	"github.com/hotinit/hotinit/internal/spawn"
	"github.com/hotinit/hotinit/internal/words"
	"github.com/hotinit/hotinit/reaper"
)

// Command is one command, and what it runs as.
type Command struct {
	Text       string // as the user wrote it
	Path       string // what {} in it stands for
	Env        []string
	Dir        string
	Umask      int
	Credential *passwd.Credential // nil: as hotinit itself
	NoNewPrivs bool
	Timeout    time.Duration // 0: none
	Cancel     <-chan struct{}
	// Forked, if not nil, is called before the command is executed, with what it is
	// going to write.
	Forked func(child spawn.Child, output *os.File)
	Files  []int // descriptors that become 3 and so on
	Lines  int   // how many of the last lines that it wrote the error has; 0: one

	Start func(*spawn.Spec) (spawn.Child, error) // nil: spawn.Start
}

// Run runs a command to its end. The error says what went wrong, with what the
// command wrote last.
func (c *Command) Run() error {
	argv, err := words.Split(c.Text)
	if err != nil {
		return err
	}
	for i := range argv {
		argv[i] = strings.ReplaceAll(argv[i], "{}", c.Path)
	}
	file, err := spawn.LookPath(argv[0], c.Env, c.Dir)
	if err != nil {
		return err
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return err
	}
	read := os.NewFile(uintptr(pipe[0]), "standard error")
	defer read.Close()
	_ = unix.SetNonblock(pipe[1], false) // the command's end
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		null = -1
	} else {
		defer unix.Close(null)
	}
	start := c.Start
	if start == nil {
		start = spawn.Start
	}
	spec := &spawn.Spec{
		Path: file, FD: -1, Argv: argv, Env: c.Env,
		Files: append([]int{null, pipe[1], pipe[1]}, c.Files...),
		Dir:   c.Dir, Umask: c.Umask, Signals: entry.Inherited(),
		Credential: c.Credential, NoNewPrivs: c.NoNewPrivs,
		Setpgid: true, Foreground: -1, Cgroup: -1,
	}
	if c.Forked != nil {
		spec.Forked = func(child spawn.Child) { c.Forked(child, read) }
	}
	child, err := start(spec)
	unix.Close(pipe[1])
	if err != nil {
		return err
	}
	return c.await(reaper.Own(child.PID, child.PIDFD), read)
}

// Await is Run for a command that another process has started: p, and what it
// writes.
func (c *Command) Await(p *reaper.Process, output *os.File) error { return c.await(p, output) }

// await waits for the command's end, and kills it where it takes too long or is
// no longer wanted.
func (c *Command) await(p *reaper.Process, output *os.File) error {
	defer p.Close()
	last := make(chan string, 1)
	go func() { last <- lastLines(output, max(c.Lines, 1)) }()
	ended := make(chan reaper.Exit, 1)
	go func() { ended <- p.Wait() }()
	var late <-chan time.Time
	if c.Timeout > 0 {
		t := time.NewTimer(c.Timeout)
		defer t.Stop()
		late = t.C
	}
	why := ""
	var exit reaper.Exit
	select {
	case exit = <-ended:
	case <-late:
		why = fmt.Sprintf("it took longer than %v and was killed", c.Timeout)
	case <-c.Cancel:
		why = "it was stopped"
	}
	if why != "" {
		_ = p.SignalGroup(p.PID(), unix.SIGKILL)
		_ = p.Signal(unix.SIGKILL)
		exit = <-ended
	}
	// What it left running may hold the pipe open; its output is not waited for.
	_ = output.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	line := <-last
	switch {
	case why != "":
		return errors.New(why)
	case exit.Status() == 0:
		return nil
	case line != "":
		return fmt.Errorf("it %s: %s", exit, line)
	}
	return fmt.Errorf("it %s", exit)
}

// mostReason bounds what the error has of several lines, in bytes.
const mostReason = 1024

// lastLines reads to the end and returns the last lines that are not empty as one, the
// first of them first. The last one is there in any case.
func lastLines(f *os.File, most int) string {
	var last []string
	rest := ""
	buf := make([]byte, 4096)
	for {
		n, err := f.Read(buf)
		rest += string(buf[:n])
		for {
			line, after, whole := strings.Cut(rest, "\n")
			if !whole && err == nil {
				break
			}
			if t := strings.TrimSpace(line); t != "" {
				last = append(last, t)
			}
			if rest = after; !whole {
				break
			}
		}
		if len(rest) > 4096 {
			rest = rest[len(rest)-4096:]
		}
		last = last[max(0, len(last)-most):]
		if err != nil {
			break
		}
	}
	for len(last) > 1 && len(strings.Join(last, "; ")) > mostReason {
		last = last[1:]
	}
	return strings.Join(last, "; ")
}
