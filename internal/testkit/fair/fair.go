// Package fair finds what could go on for ever in a graph of states, although all
// that has to happen some time does.
//
// Its invariant: a circle counts only if each event that is due in every state of it
// is taken, or made to wait anew, somewhere in it. So nobody has to say how often
// users ask for something: they may do it for ever.
package fair

import "math/bits"

// Due is a set of events that have to happen some time if they stay due: a timer, the
// end of what was killed. Who makes the graph says which bit is which.
type Due uint64

// Graph is made of the states in which something is waited for, and of the steps
// after which it still is.
type Graph struct {
	due   map[int]Due
	steps map[int][]step
}

type step struct {
	to   int
	done Due
}

// New returns an empty graph.
func New() *Graph { return &Graph{map[int]Due{}, map[int][]step{}} }

// State adds a state with what is due in it.
func (g *Graph) State(n int, due Due) { g.due[n] |= due }

// Step adds a step to another state, or to the same, with what happens in it or is
// due later than before for it.
func (g *Graph) Step(from, to int, done Due) { g.steps[from] = append(g.steps[from], step{to, done}) }

// Forever returns the states in which it can stay for ever, nil where there are none.
func (g *Graph) Forever() []int {
	var found []int
	g.components(func(states []int) {
		if found != nil {
			return
		}
		in := make(map[int]bool, len(states))
		due := ^Due(0)
		for _, n := range states {
			in[n] = true
			due &= g.due[n]
		}
		for _, n := range states {
			for _, s := range g.steps[n] {
				if in[s.to] {
					due &^= s.done
				}
			}
		}
		if bits.OnesCount64(uint64(due)) == 0 {
			found = states
		}
	})
	return found
}

// components calls f with each strongly connected component (Tarjan's algorithm,
// without recursion: a graph is as deep as it is large).
func (g *Graph) components(f func([]int)) {
	type frame struct{ n, next int }
	index, low, on := map[int]int{}, map[int]int{}, map[int]bool{}
	var stack []int
	for root := range g.due {
		if _, seen := index[root]; seen {
			continue
		}
		work := []frame{{n: root}}
		for len(work) > 0 {
			at := &work[len(work)-1]
			n := at.n
			if at.next == 0 {
				index[n] = len(index)
				low[n] = index[n]
				stack, on[n] = append(stack, n), true
			}
			if at.next < len(g.steps[n]) {
				to := g.steps[n][at.next].to
				at.next++
				if _, is := g.due[to]; !is {
					continue
				}
				if _, seen := index[to]; !seen {
					work = append(work, frame{n: to})
				} else if on[to] {
					low[n] = min(low[n], index[to])
				}
				continue
			}
			work = work[:len(work)-1]
			if len(work) > 0 {
				above := work[len(work)-1].n
				low[above] = min(low[above], low[n])
			}
			if low[n] != index[n] {
				continue
			}
			var states []int
			for {
				last := stack[len(stack)-1]
				stack, on[last] = stack[:len(stack)-1], false
				states = append(states, last)
				if last == n {
					break
				}
			}
			f(states)
		}
	}
}
