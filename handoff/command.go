package handoff

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/spawn"
	"github.com/hotinit/hotinit/reaper"
)

// command is one that hotinit runs itself: --check, --ready exec:.
type command struct {
	what    string
	text    string
	path    string // what {} in it stands for
	env     []string
	timeout time.Duration // 0: none
	cancel  <-chan struct{}
}

// words splits a command line at its spaces, with the quotes and backslashes
// of a shell. There is no shell in it: an image may have none.
func words(text string) ([]string, error) {
	var out []string
	var word strings.Builder
	in := false
	quote := rune(0)
	escaped := false
	for _, r := range text {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, in = true, true
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '\'' || r == '"':
			quote, in = r, true
		case r == ' ' || r == '\t' || r == '\n':
			if in {
				out = append(out, word.String())
				word.Reset()
				in = false
			}
		default:
			word.WriteRune(r)
			in = true
		}
	}
	if quote != 0 || escaped {
		return nil, fmt.Errorf("%q ends within a quote", text)
	}
	if in {
		out = append(out, word.String())
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%q has no command", text)
	}
	return out, nil
}

// runCheck runs --check for a release. It runs as the app would, on the file
// that was checked, so what is said of it is said of what will run.
func (s *supervisor) runCheck(j *job) error {
	env := slices.DeleteFunc(slices.Clone(j.env), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return isOwn(name) && name != "HOTINIT_GENERATION" // it gets no sockets
	})
	return s.runCommand(command{what: "--check", text: s.cfg.Check, path: j.file.Real, env: env,
		timeout: s.cfg.CheckTimeout, cancel: j.cancel})
}

// runCommand runs a command to its end. Its error is what went wrong, with the
// last line that it wrote to its standard error.
func (s *supervisor) runCommand(c command) error {
	argv, err := words(c.text)
	if err != nil {
		return err
	}
	for i := range argv {
		argv[i] = strings.ReplaceAll(argv[i], "{}", c.path)
	}
	path := os.Getenv("PATH")
	for _, v := range c.env {
		if p, ok := strings.CutPrefix(v, "PATH="); ok {
			path = p
		}
	}
	file, err := spawn.LookPath(argv[0], path, s.dir)
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
	child, err := spawn.Start(&spawn.Spec{
		Path: file, FD: -1, Argv: argv, Env: c.env,
		Files: []int{null, pipe[1], pipe[1]},
		Dir:   s.dir, Umask: s.cfg.Umask, Signals: entry.Inherited(),
		Credential: s.credential(), NoNewPrivs: s.cfg.NoNewPrivs,
		Setpgid: true, Foreground: -1, Cgroup: -1,
	})
	unix.Close(pipe[1])
	if err != nil {
		return err
	}
	return awaitChild(c, reaper.Own(child.PID, child.PIDFD), read)
}

// awaitChild waits for a command's end. One that takes too long is killed,
// with all of its group.
func awaitChild(c command, p *reaper.Process, output *os.File) error {
	defer p.Close()
	last := make(chan string, 1)
	go func() { last <- lastLine(output) }()
	ended := make(chan reaper.Exit, 1)
	go func() { ended <- p.Wait() }()
	var late <-chan time.Time
	if c.timeout > 0 {
		t := time.NewTimer(c.timeout)
		defer t.Stop()
		late = t.C
	}
	why := ""
	var exit reaper.Exit
	select {
	case exit = <-ended:
	case <-late:
		why = fmt.Sprintf("it took longer than %v and was killed", c.timeout)
	case <-c.cancel:
		why = "it was stopped"
	}
	if why != "" {
		_ = p.SignalGroup(p.PID(), unix.SIGKILL)
		_ = p.Signal(unix.SIGKILL)
		exit = <-ended
	}
	// What it left running may hold the pipe open; its words are not waited for.
	_ = output.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	line := <-last
	switch {
	case why != "":
		return fmt.Errorf("%s", why)
	case exit.Status() == 0:
		return nil
	case line != "":
		return fmt.Errorf("it %s: %s", exit, line)
	}
	return fmt.Errorf("it %s", exit)
}

// lastLine reads to the end and returns the last line that is not empty.
func lastLine(f *os.File) string {
	last, rest := "", ""
	buf := make([]byte, 4096)
	for {
		n, err := f.Read(buf)
		for line := range strings.SplitAfterSeq(rest+string(buf[:n]), "\n") {
			rest = line
			if strings.HasSuffix(line, "\n") {
				rest = ""
			}
			if t := strings.TrimSpace(line); t != "" {
				last = t
			}
		}
		if len(rest) > 4096 {
			rest = rest[len(rest)-4096:]
		}
		if err != nil {
			return last
		}
	}
}
