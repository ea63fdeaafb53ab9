package handoff

import (
	"os"
	"slices"
	"sync"

	"github.com/hotinit/hotinit/internal/proc"
)

// mains are the main processes of all generations of all programs that have not ended.
// The loop changes them; those who adopt sockets ask from goroutines of their own.
type mains struct {
	mu sync.Mutex
	by map[int]main // by PID
}

type main struct {
	p    *process
	file string // the program's, without the number of the instance
}

func (m *mains) add(p *process, program string) {
	file, _ := fileOf(program)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.by == nil {
		m.by = make(map[int]main)
	}
	m.by[p.pid] = main{p, file}
}

// remove removes a process, unless its PID is another's by now.
func (m *mains) remove(p *process) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.by[p.pid].p == p {
		delete(m.by, p.pid)
	}
}

// has reports whether a process is a main process that has not ended.
func (m *mains) has(pid int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.by[pid]
	return ok
}

// foreign reports whether a process is the main process of a generation of another
// program, of which program is an instance.
func (m *mains) foreign(pid int, program string) bool {
	file, _ := fileOf(program)
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.by[pid]
	return ok && o.file != file
}

// near returns the processes of which some may be those of a generation whose main
// process is pid: that and those below it, and those that init has adopted. How many others there
// are, of other generations and programs, makes no difference. group is the first main
// process, the leader of its process group.
func (m *mains) near(pid, group int, ended bool) []proc.Stat {
	var all []proc.Stat
	if !ended {
		all = tree(pid)
		if group != pid { // MAINPID= has named another process, and the first one runs on
			all = append(all, tree(group)...)
		}
	}
	self := os.Getpid()
	for _, other := range proc.Children(os.Getppid()) {
		if other == self || m.has(other) {
			continue // the handoff, or a main process that an earlier one started
		}
		all = append(all, tree(other)...)
	}
	return all
}

// tree returns a process and those below it, each parent before its children.
func tree(root int) []proc.Stat {
	st, err := proc.Read(root)
	if err != nil {
		return nil
	}
	return append([]proc.Stat{st}, proc.Descendants(root)...)
}

// generation returns the processes of a generation as near has it: its main process and
// those below, and those of its process group with those below them.
func (m *mains) generation(pid, group int) (pids []int) {
	is := make(map[int]bool)
	for _, st := range m.near(pid, group, false) { // each parent before its children
		if !is[st.PID] && (st.PID == pid || st.Group == group || is[st.Parent]) {
			is[st.PID] = true
			if st.Alive() {
				pids = append(pids, st.PID)
			}
		}
	}
	return pids
}

// others returns the processes that are not mine and may be those of another generation
// of the program: all but the handoff and what is below the main processes of other
// programs.
func (m *mains) others(program string, mine []int) (pids []int) {
	self := os.Getpid()
	for _, root := range append(proc.Children(os.Getppid()), proc.Children(self)...) {
		if root == self || m.foreign(root, program) {
			continue
		}
		for _, st := range tree(root) {
			if st.Alive() && !slices.Contains(mine, st.PID) {
				pids = append(pids, st.PID)
			}
		}
	}
	return pids
}
