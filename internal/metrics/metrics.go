// Package metrics holds numbers for a monitor, and writes them in Prometheus' text
// format.
//
// Its invariant: what Write prints is one exposition that every reader of the format
// takes, whatever text is in a label. The types are also what the control socket
// carries as JSON, so that an exporter need not parse the text.
package metrics

import (
	"io"
	"math"
	"strconv"
	"strings"
)

// Kind is the type of a family, as the format names it.
type Kind string

// The kinds of families.
const (
	Gauge     Kind = "gauge"
	Counter   Kind = "counter"
	Histogram Kind = "histogram"
)

// Family is one metric: its samples differ by their labels.
type Family struct {
	Name    string   `json:"name"`
	Help    string   `json:"help"`
	Kind    Kind     `json:"type"`
	Samples []Sample `json:"samples"`
}

// Sample is one value, or one histogram.
type Sample struct {
	Labels  []Label  `json:"labels,omitempty"`
	Value   float64  `json:"value"`             // of a gauge or a counter; the sum of a histogram
	Count   uint64   `json:"count,omitempty"`   // of a histogram
	Buckets []Bucket `json:"buckets,omitempty"` // of a histogram; the one without a bound is left out
}

// Label is a name and its value.
type Label struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Bucket is how many observations a histogram has up to a bound.
type Bucket struct {
	Bound float64 `json:"le"`
	Count uint64  `json:"count"` // those of all smaller buckets too
}

// Labels makes labels of names and values in turn.
func Labels(words ...string) []Label {
	labels := make([]Label, 0, len(words)/2)
	for i := 0; i+1 < len(words); i += 2 {
		labels = append(labels, Label{words[i], strings.ToValidUTF8(words[i+1], "\ufffd")})
	}
	return labels
}

var (
	inHelp  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	inLabel = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

// Write writes families in the text format, version 0.0.4. One without a sample is
// left out.
func Write(w io.Writer, families []Family) error {
	var b strings.Builder
	for _, f := range families {
		if len(f.Samples) == 0 {
			continue
		}
		b.WriteString("# HELP " + f.Name + " " + inHelp.Replace(f.Help) + "\n")
		b.WriteString("# TYPE " + f.Name + " " + string(f.Kind) + "\n")
		for _, s := range f.Samples {
			if f.Kind != Histogram {
				line(&b, f.Name, s.Labels, s.Value)
				continue
			}
			for _, bucket := range s.Buckets {
				line(&b, f.Name+"_bucket", with(s.Labels, bucket.Bound), float64(bucket.Count))
			}
			line(&b, f.Name+"_bucket", with(s.Labels, math.Inf(1)), float64(s.Count))
			line(&b, f.Name+"_sum", s.Labels, s.Value)
			line(&b, f.Name+"_count", s.Labels, float64(s.Count))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// with adds the label of a bucket's bound.
func with(labels []Label, bound float64) []Label {
	return append(labels[:len(labels):len(labels)], Label{"le", number(bound)})
}

func line(b *strings.Builder, name string, labels []Label, value float64) {
	b.WriteString(name)
	for i, l := range labels {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(l.Name + `="` + inLabel.Replace(l.Value) + `"`)
	}
	if len(labels) > 0 {
		b.WriteByte('}')
	}
	b.WriteString(" " + number(value) + "\n")
}

// number writes a value as Go does, which the format takes: "+Inf", "NaN" too.
func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
