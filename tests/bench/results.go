package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// results is all that a run of the benchmark found, as bench.json has it.
type results struct {
	Machine   string     `json:"machine"`
	Quick     bool       `json:"quick,omitempty"`
	Absent    []string   `json:"absent,omitempty"`
	Reports   []found    `json:"measurements"`
	Timelines []timeline `json:"timelines,omitempty"`
}

// found is a report as it is kept.
type found struct {
	Name    string     `json:"name"`
	About   string     `json:"about"`
	Figures []quantity `json:"figures"`
	Notes   []string   `json:"notes,omitempty"`
	Wrong   []string   `json:"wrong,omitempty"`
	Took    float64    `json:"seconds"`
}

// quantity is a figure as it is kept: a value of each run, in the order of runs.
type quantity struct {
	Name   string               `json:"name"`
	Format string               `json:"format"`
	Own    string               `json:"own"`
	Tools  []string             `json:"tools"`
	Values map[string][]float64 `json:"values"`
}

func (r *results) add(report *report) {
	f := found{Name: report.name, About: report.about, Notes: report.notes, Wrong: report.wrong, Took: report.took.Seconds()}
	for _, one := range report.figures {
		f.Figures = append(f.Figures, quantity{one.name, one.format, one.own, one.tools, one.values})
	}
	r.Reports = append(r.Reports, f)
	r.Timelines = append(r.Timelines, report.timelines...)
}

// value is hotinit's median of a figure, or the median of its ratios to another
// tool's. It is absent where either was not measured.
func (r *results) value(k kept) (float64, bool) {
	for _, report := range r.Reports {
		if report.Name != k.measurement {
			continue
		}
		for _, q := range report.Figures {
			if q.Name != k.figure {
				continue
			}
			own := q.Values[k.own(q)]
			if len(own) == 0 {
				return 0, false
			}
			if k.beside == "" {
				return median(own), true
			}
			ratios := ratios(own, q.Values[k.beside])
			return median(ratios), len(ratios) > 0
		}
	}
	return 0, false
}

// ratios is run by run: what both shared in a run, such as a busy machine, cancels
// out. It is nothing where there is a run without both.
func ratios(own, other []float64) []float64 {
	if len(own) != len(other) {
		return nil
	}
	var ratios []float64
	for i := range own {
		if other[i] <= 0 {
			return nil
		}
		ratios = append(ratios, own[i]/other[i])
	}
	return ratios
}

var numbers = regexp.MustCompile(`\[\s+([-+0-9.eE,\s]+?)\s+\]`)

// write has the numbers of a list on one line, and four digits of each.
func (r *results) write(path string) error {
	for _, report := range r.Reports {
		for _, q := range report.Figures {
			for _, v := range q.Values {
				shorten(v)
			}
		}
	}
	for _, t := range r.Timelines {
		shorten(t.Swaps)
		shorten(t.Answered)
		shorten(t.Lost)
		shorten(t.Tail)
	}
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	b = numbers.ReplaceAllFunc(b, func(list []byte) []byte {
		return []byte(strings.Join(strings.Fields(string(list)), ""))
	})
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

func shorten(values []float64) {
	for i, v := range values {
		if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
			values[i] = 0
			continue
		}
		unit := math.Pow(10, math.Floor(math.Log10(math.Abs(v)))-3)
		values[i], _ = strconv.ParseFloat(strconv.FormatFloat(math.Round(v/unit)*unit, 'g', 4, 64), 64)
	}
}

func readResults(path string) (*results, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &results{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// keptVersion is a run of which the figures are kept, under a name such as 1.2 or
// 2026-11-28.
type keptVersion struct {
	name string
	*results
}

// readKept reads the runs of a directory, oldest first.
func readKept(dir string) ([]keptVersion, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, errors.New(dir + ": no run of the benchmark is kept there")
	}
	var all []keptVersion
	for _, path := range paths {
		r, err := readResults(path)
		if err != nil {
			return nil, err
		}
		all = append(all, keptVersion{strings.TrimSuffix(filepath.Base(path), ".json"), r})
	}
	slices.SortFunc(all, func(a, b keptVersion) int { return compareVersions(a.name, b.name) })
	return all, nil
}

var parts = regexp.MustCompile(`[0-9]+|[^0-9.-]+`)

// compareVersions has 1.9 before 1.10, and a number before a word.
func compareVersions(a, b string) int {
	return slices.CompareFunc(parts.FindAllString(a, -1), parts.FindAllString(b, -1), func(a, b string) int {
		x, e := strconv.Atoi(a)
		y, f := strconv.Atoi(b)
		switch {
		case e == nil && f == nil:
			return x - y
		case e == nil:
			return -1
		case f == nil:
			return 1
		}
		return strings.Compare(a, b)
	})
}
