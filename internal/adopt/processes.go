package adopt

import (
	"os"

	"github.com/hotinit/hotinit/internal/proc"
)

// processes are those below init, as they were at a moment, by the generation that each
// belongs to.
type processes struct {
	gens map[Gen][]int
	free []int // those that belong to nobody: any generation may have started them
}

// Below returns the processes below init, each parent before its children.
func Below() []proc.Stat { return proc.Below(proc.All(), os.Getppid()) }

// processes finds out whose the processes are.
func (a *Adopter) processes() *processes { return a.whose(Below()) }

// whose finds out whose all are: a process belongs to the generation whose main process
// it is or descends from, else to the one in whose process group it is. all are the
// processes below init, each parent before its children.
func (a *Adopter) whose(all []proc.Stat) *processes {
	if len(all) == 0 {
		return nil
	}
	p := &processes{gens: make(map[Gen][]int, len(a.gens))}
	const foreign = -1
	// Those that belong to somebody: to a main process of this program, or to a foreign one.
	whose := make(map[int]int, len(all))
	gens := make(map[int]Gen, len(a.gens))
	for n, g := range a.gens {
		gens[g.pid], p.gens[n] = n, nil
	}
	main := func(pid int) int {
		if _, ok := gens[pid]; ok {
			return pid
		}
		if a.host.Foreign(pid) {
			return foreign
		}
		return 0
	}
	for _, st := range all {
		if st.PID == os.Getpid() {
			continue
		}
		owner := main(st.PID)
		if owner == 0 {
			owner = whose[st.Parent]
		}
		if owner == 0 {
			owner = main(st.Group)
		}
		// Until it executes something, a child that was just forked for whatever generation
		// has all that this process has open.
		if owner == 0 && st.Parent == os.Getpid() {
			owner = foreign
		}
		whose[st.PID] = owner
		switch {
		case st.State == 'Z' || owner == foreign:
		case owner == 0:
			p.free = append(p.free, st.PID)
		default:
			n := gens[owner]
			p.gens[n] = append(p.gens[n], st.PID)
		}
	}
	return p
}

// of returns the processes of generation n: its own, and those that belong to nobody. ok
// is false where there is no telling.
func (p *processes) of(n Gen) (pids []int, ok bool) {
	if p == nil {
		return nil, false
	}
	own, ok := p.gens[n]
	if !ok {
		return nil, false
	}
	return append(own[:len(own):len(own)], p.free...), true
}
