package handoff

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/proc"
	"github.com/hotinit/hotinit/internal/safepath"
)

// A command that is a shell script runs the server as a child of the shell, unless
// it says exec. Then LISTEN_PID names the shell, so that sd_listen_fds(3) finds no
// sockets, and signals reach the shell alone. Once, a hint says so: where a
// generation is ready in spite of it, from what runs, and where one failed, from
// the script's text.

var shells = []string{"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh"}

const (
	shellHint = "the shell does not pass signals on; begin the line that starts the server with exec"
	// of a program that gets its sockets
	shellListenPID = "LISTEN_PID names the shell, and "
)

// hintShell looks for a shell beside the loop, once generation n has become
// current, or has failed. What has no socket is no server: its shell is the program.
func (s *program) hintShell(n int, ok bool) {
	if s.shellHinted || s.cfg.Compat != "" || !s.adoption.has(s.plan) {
		return
	}
	effect := shellHint
	if len(s.contract.Sockets) > 0 {
		effect = shellListenPID + shellHint
	}
	pid := 0
	if p := s.processes.all[n]; p != nil && !p.ended {
		pid = p.pid
	}
	if ok && pid == 0 {
		return
	}
	pl := s.plan
	go func() {
		hint := ""
		if ok {
			hint = shellThatWaits(n, pid)
		} else {
			hint = pl.shellCommand()
		}
		if hint == "" {
			return
		}
		s.engine.do(func() {
			if !s.shellHinted {
				s.shellHinted = true
				s.note("hint: %s: %s", hint, effect)
			}
		})
	}()
}

// shellThatWaits says which shell has the server as its child, "" where the main
// process is no shell or has no child.
func shellThatWaits(n, pid int) string {
	dir := "/proc/" + strconv.Itoa(pid)
	exe, _ := os.Readlink(dir + "/exe")
	line, _ := os.ReadFile(dir + "/cmdline")
	name := filepath.Base(exe)
	if name == "busybox" {
		first, _, _ := strings.Cut(string(line), "\x00")
		name = filepath.Base(first)
	}
	// Only of a shell: to read an entry of each of a server's threads costs time now,
	// and more once they end.
	if !slices.Contains(shells, name) || len(proc.Descendants(pid)) == 0 {
		return ""
	}
	return fmt.Sprintf("generation %d is a shell (%s, PID %d), and the server is a process below it", n, name, pid)
}

// shellCommand says that the command is a shell script without exec, "" where it is
// none.
func (p *plan) shellCommand() string {
	argv := p.cfg.Command
	text, what := "", argv[0]
	if slices.Contains(shells, filepath.Base(argv[0])) {
		switch {
		case len(argv) > 2 && argv[1] == "-c":
			text, what = argv[2], argv[0]+" -c"
		case len(argv) > 1 && !strings.HasPrefix(argv[1], "-"):
			text, what = p.script(argv[1]), argv[1]
		}
	} else if strings.Contains(argv[0], "/") {
		text = p.script(argv[0])
		first, _, _ := strings.Cut(text, "\n")
		words := strings.Fields(strings.TrimPrefix(first, "#!"))
		if !strings.HasPrefix(first, "#!") || !slices.ContainsFunc(words, func(w string) bool { return slices.Contains(shells, filepath.Base(w)) }) {
			return ""
		}
	}
	// Compiled only here: hardly any start gets this far.
	exec := regexp.MustCompile(`(?m)(^|[;&|({]|\bthen|\bdo|\belse)\s*exec\s`)
	if text == "" || exec.MatchString(text) {
		return ""
	}
	return what + " is a shell script without exec"
}

// script returns the text of a script, "" where it cannot be read.
func (p *plan) script(path string) string {
	b, err := safepath.ReadFile(absolute(p.dir, path), 64<<10)
	if err != nil {
		return ""
	}
	return string(b)
}

// outcome tells whoever waits for a generation what became of it.
func (s *program) outcome(e machine.Effect) {
	s.counts.decided(e, &s.engine.state)
	if s.member {
		s.outcomeOf(e)
	}
	s.probes.decided(s.processes.all[e.N])
	s.clients.outcome(e)
	if !e.None {
		s.hintShell(e.N, e.OK)
	}
}
