package fair

import (
	"slices"
	"testing"
)

func TestForever(t *testing.T) {
	const timer, app Due = 1, 2
	for _, c := range []struct {
		name string
		make func(g *Graph)
		want []int
	}{
		{"nothing", func(*Graph) {}, nil},
		{"a state that a timer ends", func(g *Graph) { g.State(1, timer) }, nil},
		{"a state that nothing ends", func(g *Graph) { g.State(1, 0) }, []int{1}},
		{"whatever users do, the timer runs", func(g *Graph) {
			g.State(1, timer)
			g.State(2, timer|app)
			g.Step(1, 2, 0)
			g.Step(2, 1, app)
			g.Step(1, 1, 0)
		}, nil},
		{"users can start the timer anew", func(g *Graph) {
			g.State(1, timer)
			g.State(2, timer)
			g.Step(1, 2, timer)
			g.Step(2, 1, 0)
		}, []int{1, 2}},
		{"two events, each due in one state only", func(g *Graph) {
			g.State(1, timer)
			g.State(2, app)
			g.Step(1, 2, 0)
			g.Step(2, 1, 0)
		}, []int{1, 2}},
		{"a way that leads on, to what ends", func(g *Graph) {
			for n := range 9 {
				g.State(n, app)
				g.Step(n, n+1, app)
			}
			g.State(9, timer)
		}, nil},
		{"a circle behind a way", func(g *Graph) {
			for n := range 9 {
				g.State(n, app)
				g.Step(n, n+1, app)
			}
			g.Step(8, 7, app)
			g.State(9, timer)
		}, []int{7, 8}},
	} {
		g := New()
		c.make(g)
		got := g.Forever()
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: it can stay in %v, want %v", c.name, got, c.want)
		}
	}
}
