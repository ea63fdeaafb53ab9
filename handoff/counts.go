package handoff

import (
	"slices"
	"time"

	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/metrics"
	"github.com/hotinit/hotinit/internal/record"
)

// counts are what of a program's life only grows. They are part of the record, so
// that they go on over a lost handoff; a number that can be read when somebody asks
// for it is not among them.
type counts struct {
	Last   int         // the newest generation whose start was counted
	Starts map[int]int // of generations, by machine.Cause
	// Began says when those generations began that are being started while
	// another one serves.
	Began   map[int]time.Time
	Swaps   [swapEnds]durations
	Resumed int // how often a handoff went on from the record of another one
}

// How a swap can end.
const (
	swapDone       = iota
	swapRejected   // the new generation failed
	swapSuperseded // its content was replaced, or taken back, before it was decided
	swapEnds
)

var swapNames = [swapEnds]string{"done", "rejected", "superseded"}

// durations counts how long something took, in a form that can be added up.
type durations struct {
	Buckets []int // one more than swapBounds, each alone
	Sum     time.Duration
}

// swapBounds are the bounds of the buckets in seconds. An app takes as long to
// start as it takes: from a tenth of a second, for which a Go server is good, to
// minutes.
var swapBounds = [...]float64{0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300}

func (d *durations) add(took time.Duration) {
	if len(d.Buckets) == 0 {
		d.Buckets = make([]int, len(swapBounds)+1)
	}
	at, _ := slices.BinarySearch(swapBounds[:], took.Seconds())
	d.Buckets[min(at, len(d.Buckets)-1)]++ // a record of another version may have fewer
	d.Sum += took
}

func (d *durations) sample(labels []metrics.Label) metrics.Sample {
	s := metrics.Sample{Labels: labels, Value: d.Sum.Seconds()}
	for i, bound := range swapBounds {
		if i < len(d.Buckets) {
			s.Count += uint64(d.Buckets[i])
		}
		s.Buckets = append(s.Buckets, metrics.Bucket{Bound: bound, Count: s.Count})
	}
	for i := len(swapBounds); i < len(d.Buckets); i++ {
		s.Count += uint64(d.Buckets[i])
	}
	return s
}

// begins counts the start of a generation. A handoff that goes on with a start
// begins it again, which is no further one.
func (c *counts) begins(e machine.Effect, st *machine.State) {
	if e.N <= c.Last {
		return
	}
	c.Last = e.N
	if c.Starts == nil {
		c.Starts = make(map[int]int)
	}
	c.Starts[int(e.Cause)]++
	for n := range c.Began { // there is one start at a time
		c.ends(n, swapSuperseded)
	}
	if st.Current() != nil {
		c.Began = map[int]time.Time{e.N: time.Now()}
	}
}

// decided counts the end of a swap.
func (c *counts) decided(e machine.Effect, st *machine.State) {
	g := st.Find(e.N)
	switch {
	case e.None:
	case e.OK:
		c.ends(e.N, swapDone)
	case g != nil && g.Phase == machine.Retiring && st.Rejection(g.Release) == nil:
		c.ends(e.N, swapSuperseded)
	default:
		c.ends(e.N, swapRejected)
	}
}

func (c *counts) ends(n, how int) {
	if began, ok := c.Began[n]; ok {
		delete(c.Began, n)
		c.Swaps[how].add(max(time.Since(began), 0))
	}
}

func countsFields(c *record.Codec, v *counts) {
	record.Int(c, "Last", &v.Last)
	record.Map(c, "Starts", &v.Starts, record.Int[int])
	record.Map(c, "Began", &v.Began, func(c *record.Codec, name string, t *time.Time) { c.Time(name, t) })
	for i, name := range swapNames {
		c.Ints(name, &v.Swaps[i].Buckets)
		record.Int(c, name+" in", &v.Swaps[i].Sum)
	}
	record.Int(c, "Resumed", &v.Resumed)
}
