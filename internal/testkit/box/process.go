package box

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/lines"
)

// A Process is one process of a box as /proc shows it outside.
type Process struct {
	PID    int    // outside
	Inside int    // the PID that the box's own processes see
	Parent int    // outside
	State  string // "S", "Z", ...
	Args   []string
}

// Zombie tells whether the process has ended and nobody has collected it.
func (p Process) Zombie() bool { return p.State == "Z" || p.State == "X" }

func (p Process) String() string {
	return fmt.Sprintf("%d (inside %d) %s %q", p.PID, p.Inside, p.State, p.Args)
}

// processes lists those that belong to a box: hotinit, and all below it. Where
// hotinit is PID 1 of a namespace, these are those in the namespace; else they
// are told by their session, which the box gives hotinit.
func processes(root int, namespace string) ([]Process, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var found []Process
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		// Other tests' processes, which are most, cost one system call.
		if namespace == "" {
			if session, err := unix.Getsid(pid); err != nil || session != root {
				continue
			}
		} else if link, err := os.Readlink("/proc/" + name + "/ns/pid"); err != nil || link != namespace {
			// A zombie has left every namespace but that of its PID.
			continue
		}
		if p, ok := inspect(pid); ok { // else it has ended meanwhile
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b Process) int { return a.PID - b.PID })
	return found, nil
}

// inspect reads one process. It returns false where there is none.
func inspect(pid int) (p Process, ok bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return p, false
	}
	p = Process{PID: pid, Inside: pid}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		if len(fields) == 0 {
			continue
		}
		switch name {
		case "State":
			p.State = fields[0]
		case "PPid":
			p.Parent, _ = strconv.Atoi(fields[0])
		case "NSpid":
			p.Inside, _ = strconv.Atoi(fields[len(fields)-1])
		}
	}
	if line, err := os.ReadFile(dir + "/cmdline"); err == nil && len(line) > 0 {
		for _, arg := range bytes.Split(bytes.TrimSuffix(line, []byte{0}), []byte{0}) {
			p.Args = append(p.Args, string(arg))
		}
	}
	return p, true
}

// Processes lists the processes of the box.
func (b *Box) Processes() []Process {
	b.t.Helper()
	list, err := processes(b.cmd.Process.Pid, b.namespace)
	if err != nil {
		b.t.Fatalf("cannot list the processes: %v", err)
	}
	return list
}

// Find returns the process with this PID inside.
func (b *Box) Find(inside int) (Process, bool) {
	list := b.Processes()
	i := slices.IndexFunc(list, func(p Process) bool { return p.Inside == inside })
	if i < 0 {
		return Process{}, false
	}
	return list[i], true
}

// Handoff waits until hotinit has a handoff and returns it. It is the child
// that calls itself one.
func (b *Box) Handoff() Process {
	b.t.Helper()
	return b.process("hotinit has a handoff", func(p Process) bool {
		return p.Parent == b.PID() && len(p.Args) > 0 && p.Args[0] == "hotinit-handoff"
	})
}

// Liner waits until there is a process that puts names before lines, and returns it.
func (b *Box) Liner() Process {
	b.t.Helper()
	return b.process("there is a "+lines.Name, func(p Process) bool { return len(p.Args) == 1 && p.Args[0] == lines.Name })
}

// process waits until there is a process that lives, and returns it.
func (b *Box) process(what string, is func(Process) bool) (found Process) {
	b.t.Helper()
	b.Until(what, func() bool {
		for _, p := range b.Processes() {
			if !p.Zombie() && is(p) {
				found = p
				return true
			}
		}
		return false
	})
	return found
}

// stopped reports whether no thread of a process runs: each is stopped, or has ended.
func stopped(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, path := range threads {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		state := stat[bytes.LastIndexByte(stat, ')')+1:]
		if !bytes.ContainsAny(state[:min(2, len(state))], "TtZX") {
			return false
		}
	}
	return true
}

// Until waits until a condition holds that no event tells of: what /proc
// shows. It looks at growing distances.
func (b *Box) Until(what string, holds func() bool) {
	b.t.Helper()
	if !Eventually(holds) {
		b.t.Fatalf("it does not come to pass within %v that %s\nprocesses: %v\noutput:\n%s", Patience, what, b.Processes(), b.Output)
	}
}

// Eventually tells whether a condition comes to hold.
func Eventually(holds func() bool) bool {
	deadline := time.Now().Add(Patience)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		if holds() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(pause)
	}
}
