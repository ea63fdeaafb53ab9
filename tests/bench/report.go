package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is what one measurement found.
type report struct {
	name, about string
	figures     []*figure
	notes       []string
	wrong       []string // results of hotinit that no speed makes up for
	timelines   []timeline
	took        time.Duration
}

// figure is one quantity: for each tool a value per run, in the order of runs.
type figure struct {
	name   string
	format string // of one value, such as "%.1f ms"
	own    string // the tool that the others are compared with
	tools  []string
	values map[string][]float64
}

// Names of the figures that are kept (kept.go).
const (
	firstInstruction = "added before the command's first instruction"
	exitToEnd        = "added from the command's exit to the init's"
	wholeRun         = "added to a whole run"
	roundTrip        = "round trip, median"
	roundTripTail    = "round trip, 99th percentile"
	lastCollected    = "time until the last is collected"
	orphansProcessor = "the init's processor time"
	inexact          = "statuses that are not exact"
	proportional     = "proportional set size"
	privateDirty     = "private dirty"
	contextSwitches  = "context switches a second"
	requestsLost     = "requests lost in a run"
	firstAnswer      = "trigger to the new generation's first answer"
	tailWithin       = "99th percentile within swaps"
	swapProcessor    = "processor time in a swap"
	triggerToStart   = "from the trigger to the first instruction"
	requestRate      = "requests per second, as many as go"
	programsUp       = "until all run"
	programsAgain    = "until those that were killed run again"
	bindAndListen    = "a bind and listen"
)

func newReport(name, about string) *report { return &report{name: name, about: about} }

func (r *report) figure(name, format string) *figure {
	f := &figure{name: name, format: format, own: nameHotinit, values: make(map[string][]float64)}
	r.figures = append(r.figures, f)
	return f
}

func (f *figure) add(tool string, value float64) {
	if _, ok := f.values[tool]; !ok {
		f.tools = append(f.tools, tool)
	}
	f.values[tool] = append(f.values[tool], value)
}

func (r *report) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

func (r *report) wrongf(format string, args ...any) {
	r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
}

// ratio is hotinit's value over the tool's, run by run, and of those the median.
func (f *figure) ratio(tool string) string {
	ratios := ratios(f.values[f.own], f.values[tool])
	if tool == f.own || len(ratios) == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", median(ratios))
}

func (f *figure) rows() [][]string {
	var rows [][]string
	for _, tool := range f.tools {
		v := f.values[tool]
		rows = append(rows, []string{
			f.name, tool,
			fmt.Sprintf(f.format, median(v)),
			fmt.Sprintf(f.format, slices.Min(v)) + " to " + fmt.Sprintf(f.format, slices.Max(v)),
			f.ratio(tool),
		})
	}
	return rows
}

var columns = []string{"figure", "tool", "median", "lowest to highest", "hotinit / it"}

func (r *report) print(w io.Writer, markdown bool) {
	fmt.Fprintf(w, "\n## %s: %s\n\n", r.name, r.about)
	var rows [][]string
	for _, f := range r.figures {
		rows = append(rows, f.rows()...)
	}
	if markdown {
		printMarkdown(w, rows)
	} else {
		printAligned(w, rows)
	}
	fmt.Fprintln(w)
	for _, n := range r.notes {
		fmt.Fprintf(w, "- %s\n", n)
	}
	for _, n := range r.wrong {
		fmt.Fprintf(w, "- WRONG: %s\n", n)
	}
}

// printTook says what each part took, in a line of its own.
func printTook(w io.Writer, all *results, whole time.Duration) {
	fmt.Fprint(w, "\n## time: what each measurement took\n\n")
	for _, r := range all.Reports {
		fmt.Fprintf(w, "- %s: %.1f s\n", r.Name, r.Took)
	}
	fmt.Fprintf(w, "- all of them: %.0f s\n", whole.Seconds())
}

func printMarkdown(w io.Writer, rows [][]string) {
	fmt.Fprintf(w, "| %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat(" --- |", len(columns)))
	for _, row := range rows {
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
	}
}

func printAligned(w io.Writer, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, row := range append([][]string{columns}, rows...) {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	t.Flush()
}

func printHeader(w io.Writer, b *bench, markdown bool) {
	title := "hotinit beside its peers"
	if markdown {
		title = "# " + title
	}
	fmt.Fprintf(w, "%s\n\n%s; %d runs of each, in turn. A ratio below 1 means that hotinit's figure is the smaller.\n",
		title, machine(), b.runs)
	for _, name := range b.absent {
		fmt.Fprintf(w, "Left out, not installed: %s.\n", name)
	}
	for _, what := range b.skipped {
		fmt.Fprintf(w, "Note: %s.\n", what)
	}
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// quantile takes the value at or above the fraction q; of an even number of
// values the median is the mean of the two in the middle.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	if q == 0.5 && len(sorted)%2 == 0 {
		return (sorted[len(sorted)/2-1] + sorted[len(sorted)/2]) / 2
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
