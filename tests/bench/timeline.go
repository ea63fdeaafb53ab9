package main

import "time"

const (
	binLength      = 50 * time.Millisecond
	timelineLength = 4200 * time.Millisecond // three swaps
)

// timeline is what the clients saw of one deployer, for a plot: one value for each
// stretch of time from the moment on at which the load was steady.
type timeline struct {
	Tool     string    `json:"tool"`
	Bin      float64   `json:"bin"`      // seconds
	Swaps    []float64 `json:"swaps"`    // triggers, in seconds
	Answered []float64 `json:"answered"` // a second
	Lost     []float64 `json:"lost"`     // a second
	Tail     []float64 `json:"tail"`     // 99th percentile in milliseconds; 0 where none was answered
}

// newTimeline counts an answer when it came, and the time that it took when the
// request was due. A request that was not answered counts when it failed.
func newTimeline(tool string, steady uint64, triggers []uint64, samples []sample, lost []loss) timeline {
	bins := 0 // the load may end before the timeline does
	for _, s := range samples {
		if s.ended > steady {
			bins = max(bins, int(since(steady, s.ended)/binLength))
		}
	}
	bins = min(bins, int(timelineLength/binLength))
	t := timeline{Tool: tool, Bin: binLength.Seconds()}
	answered, failed, took := make([]float64, bins), make([]float64, bins), make([][]float64, bins)
	at := func(when uint64) (int, bool) {
		i := int(since(steady, when) / binLength)
		return i, when >= steady && i < bins
	}
	for _, s := range samples {
		if i, ok := at(s.ended); ok {
			answered[i]++
		}
		if i, ok := at(s.began); ok {
			took[i] = append(took[i], millis(s.took()))
		}
	}
	for _, l := range lost {
		if i, ok := at(l.ended); ok {
			failed[i]++
		}
	}
	for _, trigger := range triggers {
		if since(steady, trigger) < timelineLength {
			t.Swaps = append(t.Swaps, since(steady, trigger).Seconds())
		}
	}
	for i := range bins {
		t.Answered = append(t.Answered, answered[i]/binLength.Seconds())
		t.Lost = append(t.Lost, failed[i]/binLength.Seconds())
		t.Tail = append(t.Tail, quantile(took[i], 0.99))
	}
	return t
}
