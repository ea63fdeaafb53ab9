package main

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hotinit/hotinit/internal/testkit/load"
)

// sample is what the load did in one interval.
type sample struct {
	at   time.Duration // the interval's end, since the load began
	by   map[string]int
	lost int
}

// event is something that was done to hotinit.
type event struct {
	at    time.Duration
	title string
}

// recorder takes the picture's data while the demonstration runs.
type recorder struct {
	load    *load.Load
	began   time.Time
	stop    chan struct{}
	stopped sync.WaitGroup

	mu      sync.Mutex
	samples []sample
	events  []event
	last    load.Report
}

// interval is how often the load is looked at. A shorter one shows more of the
// scheduler than of the swap.
const interval = 200 * time.Millisecond

// record begins to take what a load does.
func record(l *load.Load) *recorder {
	stop := make(chan struct{})
	r := &recorder{load: l, began: time.Now(), stop: stop}
	r.stopped.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				r.mu.Lock()
				r.sample()
				r.mu.Unlock()
			}
		}
	})
	return r
}

// sample ends an interval. The mutex is held.
func (r *recorder) sample() {
	now := r.load.Report()
	s := sample{at: time.Since(r.began), by: make(map[string]int), lost: now.Losses() - r.last.Losses()}
	for name, n := range now.Each {
		if more := n - r.last.Each[name]; more > 0 {
			s.by[name] = more
		}
	}
	r.samples, r.last = append(r.samples, s), now
}

// end may be called more than once.
func (r *recorder) end() {
	if r.stop != nil {
		close(r.stop)
		r.stop = nil
		r.stopped.Wait()
	}
}

// event notes what is done now. It begins an interval of its own, so that nothing that
// follows is drawn before it.
func (r *recorder) event(title string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sample()
	r.events = append(r.events, event{time.Since(r.began), title})
}

// save draws the picture into a file, once the recorder has ended.
func (r *recorder) save(file string, report load.Report) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	verdict := fmt.Sprintf("%d answered, 0 lost; the slowest took %v", report.Done, report.Slowest.Round(time.Millisecond))
	if n := report.Losses(); n > 0 {
		verdict = fmt.Sprintf("%d answered, %d lost", report.Done, n)
	}
	return os.WriteFile(file, []byte(picture(r.samples, r.events, report.Losses(), verdict)), 0o644)
}

// Measures of the picture, in its own units.
const (
	width, height            = 960.0, 470.0
	left, right, top, bottom = 62.0, 24.0, 128.0, 152.0
	lane                     = 22.0 // of a generation's bar below the plot
)

// style has two sets of colours: of a light page, and of a dark one. A page that
// shows the picture decides which. The colours of the generations can be told apart
// by people who see red and green alike. Variables would be shorter, but not every
// program that draws SVG knows them.
const style = `
text{font-family:ui-sans-serif,system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;font-size:13px}
.title{font-size:18px;font-weight:600}.end{text-anchor:end}.mid{text-anchor:middle}.on{font-size:12px;font-weight:600}
.back,.on{fill:#ffffff}.text{fill:#1f2328}.faint{fill:#59636e}.grid{stroke:#d1d9e0}.event{stroke:#1f2328;stroke-dasharray:3 3}
.g0{fill:#0969da}.g1{fill:#bc4c00}.g2{fill:#8250df}.g3{fill:#1a7f37}.bad{fill:#cf222e}
@media (prefers-color-scheme:dark){
.back,.on{fill:#0d1117}.text{fill:#f0f6fc}.faint{fill:#9198a1}.grid{stroke:#3d444d}.event{stroke:#f0f6fc}
.g0{fill:#4493f8}.g1{fill:#f0883e}.g2{fill:#ab7df8}.g3{fill:#3fb950}.bad{fill:#f85149}
}
`

// generations are the names of those that answered, in order.
func generations(samples []sample) (names []string) {
	for _, s := range samples {
		for n := 1; n <= 9; n++ {
			for name := range s.by {
				if strings.HasSuffix(name, fmt.Sprint(" ", n)) && !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
	}
	return names
}

// picture draws requests per second by generation, what was done when, and how long
// each generation answered.
func picture(samples []sample, events []event, lost int, verdict string) string {
	var b strings.Builder
	names := generations(samples)
	end := interval
	if n := len(samples); n > 0 {
		end = samples[n-1].at
	}
	most := 1.0
	for i, s := range samples {
		sum := 0
		for _, n := range s.by {
			sum += n
		}
		most = max(most, float64(sum)/took(samples, i).Seconds())
	}
	step := nice(most / 4)
	most = math.Ceil(most/step) * step
	x := func(at time.Duration) float64 { return left + (width-left-right)*at.Seconds()/end.Seconds() }
	y := func(rate float64) float64 { return height - bottom - (height-top-bottom)*rate/most }

	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" role="img" aria-label="%s">`+"\n", width, height, html.EscapeString("Requests per second across swaps. "+verdict))
	fmt.Fprintf(&b, "<style>%s</style>\n", style)
	fmt.Fprintf(&b, `<rect width="%g" height="%g" rx="8" class="back"/>`+"\n", width, height)
	text := func(x, y float64, class, format string, args ...any) {
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" class="%s">%s</text>`+"\n", x, y, class, html.EscapeString(fmt.Sprintf(format, args...)))
	}
	text(left, 32, "title text", "Requests per second, while hotinit replaces the server")
	class := "text"
	if lost > 0 {
		class = "bad"
	}
	text(left, 54, class, "%s", verdict)

	for rate := 0.0; rate <= most+step/2; rate += step {
		fmt.Fprintf(&b, `<line x1="%g" x2="%g" y1="%.1f" y2="%.1f" class="grid"/>`+"\n", left, width-right, y(rate), y(rate))
		text(left-8, y(rate)+4, "faint end", "%g", rate)
	}
	seconds := nice(end.Seconds() / 8)
	for at := 0.0; at <= end.Seconds(); at += seconds {
		text(x(time.Duration(at*float64(time.Second))), height-bottom+18, "faint mid", "%g s", at)
	}
	areas(&b, samples, names, x, y)
	for i, s := range samples {
		if s.lost > 0 {
			fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="4" height="%.1f" class="bad"/>`+"\n", x(s.at-took(samples, i)/2)-2, y(most), y(0)-y(most))
		}
	}
	for i, e := range events {
		fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" class="event"/>`+"\n", x(e.at), x(e.at), 78.0+float64(i%2)*18, height-bottom)
		anchor, at := "text", x(e.at)+6
		if at > width-130 {
			anchor, at = "text end", x(e.at)-6
		}
		text(at, 86+float64(i%2)*18, anchor, "%s", e.title)
	}
	lanes(&b, samples, names, x, text)
	b.WriteString("</svg>\n")
	return b.String()
}

// took is how long the interval of a sample was.
func took(samples []sample, i int) time.Duration {
	if i == 0 {
		return max(samples[0].at, time.Millisecond)
	}
	return max(samples[i].at-samples[i-1].at, time.Millisecond)
}

func colour(i int) string { return fmt.Sprint("g", i%4) }

// areas stacks the rates of the generations, each interval a step.
func areas(b *strings.Builder, samples []sample, names []string, x func(time.Duration) float64, y func(float64) float64) {
	below := make([]float64, len(samples))
	for g, name := range names {
		var up, down []string
		any := false
		for i, s := range samples {
			rate := float64(s.by[name]) / took(samples, i).Seconds()
			from, to := x(s.at-took(samples, i)), x(s.at)
			up = append(up, fmt.Sprintf("%.1f,%.1f %.1f,%.1f", from, y(below[i]+rate), to, y(below[i]+rate)))
			down = append([]string{fmt.Sprintf("%.1f,%.1f %.1f,%.1f", to, y(below[i]), from, y(below[i]))}, down...)
			below[i] += rate
			any = any || rate > 0
		}
		if any {
			fmt.Fprintf(b, `<polygon points="%s %s" class="%s" fill-opacity=".85"/>`+"\n", strings.Join(up, " "), strings.Join(down, " "), colour(g))
		}
	}
}

// lanes shows when each generation answered: two at the same time for a moment.
func lanes(b *strings.Builder, samples []sample, names []string, x func(time.Duration) float64, text func(x, y float64, class, format string, args ...any)) {
	text(left, height-bottom+44, "faint", "answered by")
	for g, name := range names {
		first, last := time.Duration(-1), time.Duration(0)
		for i, s := range samples {
			if s.by[name] > 0 {
				if first < 0 {
					first = s.at - took(samples, i)
				}
				last = s.at
			}
		}
		at := height - bottom + 54 + float64(g%4)*lane
		fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%g" rx="3" class="%s"/>`+"\n", x(first), at, max(x(last)-x(first), 2), lane-4, colour(g))
		version, generation, _ := strings.Cut(name, " ")
		text((x(first)+x(last))/2, at+13, "on mid", "%s, %s", generation, version)
	}
}

// nice is the next larger number of 1, 2 or 5 and zeros.
func nice(v float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(cmp.Or(v, 1))))
	for _, n := range []float64{1, 2, 5} {
		if n*power >= v {
			return n * power
		}
	}
	return 10 * power
}
