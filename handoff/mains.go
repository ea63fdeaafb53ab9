package handoff

import "sync"

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
	p := m.by[pid].p
	return p != nil && !p.ended
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
