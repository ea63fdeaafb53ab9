package main

import (
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the figures in docs/performance.md by the runs in docs/bench")

// No number in the figures of docs/performance.md is written by hand.
func TestFiguresOfTheDocsAreThoseOfTheKeptRuns(t *testing.T) {
	const (
		path  = "../../docs/performance.md"
		begin = "<!-- figures: made by go test ./tests/bench -run Figures -update from docs/bench -->\n"
		end   = "<!-- end of the figures -->\n"
	)
	all, err := readKept("../../docs/bench")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), begin)
	is, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no place for the figures", path)
	}
	want := "\n" + figuresPage(all) + "\n"
	if is == want {
		return
	}
	if !*update {
		t.Fatalf("%s does not say what docs/bench does: go test ./tests/bench -run Figures -update", path)
	}
	if err := os.WriteFile(path, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A name in keptFigures that no measurement has would never be compared.
func TestEachKeptFigureIsInTheNewestKeptRun(t *testing.T) {
	all, err := readKept("../../docs/bench")
	if err != nil {
		t.Fatal(err)
	}
	newest := all[len(all)-1]
	for _, k := range keptFigures {
		if !newest.has(k) {
			t.Errorf("docs/bench/%s.json does not have: %s", newest.name, k.label)
		}
	}
}

// has reports whether a figure has values of the tools that are compared. By chance
// one may be below 0, and then there is no ratio.
func (r *results) has(k kept) bool {
	for _, report := range r.Reports {
		for _, q := range report.Figures {
			if report.Name == k.measurement && q.Name == k.figure {
				return len(q.Values[k.own(q)]) > 0 && (k.beside == "" || len(q.Values[k.beside]) > 0)
			}
		}
	}
	return false
}

// ran has one figure of one measurement, for each tool the values of its runs.
func ran(k kept, values map[string][]float64) *results {
	return &results{Reports: []found{{Name: k.measurement, Figures: []quantity{{Name: k.figure, Own: nameHotinit, Values: values}}}}}
}

func TestWhatIsWorseThanTwiceTheKeptFigureIsFound(t *testing.T) {
	k := keptFigures[0]
	with := func(own ...float64) *results {
		return ran(k, map[string][]float64{nameHotinit: own, "tini": {1, 1, 1}})
	}
	was := with(4, 5, 6)
	for _, c := range []struct {
		is    *results
		worse bool
	}{
		{with(9, 9.9, 30), false},
		{with(9, 10.1, 11), true},
		{with(1, 2, 3), false},
		{ran(k, map[string][]float64{nameHotinit: {99}}), false}, // without tini there is no ratio
	} {
		found := c.is.worse(was)
		if (len(found) == 1) != c.worse {
			t.Errorf("%v beside %v: %v", c.is.Reports, was.Reports, found)
		}
	}
}

func TestFewerRequestsPerSecondAreWorse(t *testing.T) {
	var k kept
	for _, k = range keptFigures {
		if k.more {
			break
		}
	}
	with := func(own float64) *results {
		r := ran(k, map[string][]float64{adopted: {own}, k.beside: {100}})
		r.Reports[0].Figures[0].Own = adopted
		return r
	}
	if found := with(49).worse(with(100)); len(found) != 1 {
		t.Errorf("half of the requests per second: %v", found)
	}
	if found := with(300).worse(with(100)); len(found) != 0 {
		t.Errorf("three times as many requests per second: %v", found)
	}
}

func TestResultsAreReadAsTheyWereWritten(t *testing.T) {
	dir := t.TempDir()
	report := newReport("startup", "start-up")
	f := report.figure(firstInstruction, "%.2f ms")
	for _, v := range []float64{4.12345, 5, 0.00012349, 123456} {
		f.add(nameHotinit, v)
		f.add("tini", 1)
	}
	r := &results{Machine: "a machine"}
	r.add(report)
	path := filepath.Join(dir, "1.2.json")
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "[4.123,5,0.0001235,123500]") {
		t.Errorf("the values are not on one line with four digits each:\n%s", text)
	}
	all, err := readKept(dir)
	if err != nil {
		t.Fatal(err)
	}
	if value, ok := all[0].value(keptFigures[0]); all[0].name != "1.2" || !ok || math.Abs(value-4.5615) > 1e-9 {
		t.Errorf("%q, %v %v", all[0].name, value, ok)
	}
}

func TestVersionsAreInTheirOrder(t *testing.T) {
	for _, pair := range [][2]string{{"1.9", "1.10"}, {"1.2", "1.2.1"}, {"2026-09-01", "2026-11-28"}, {"0.9", "1.0"}} {
		if compareVersions(pair[0], pair[1]) >= 0 || compareVersions(pair[1], pair[0]) <= 0 {
			t.Errorf("%s is not before %s", pair[0], pair[1])
		}
	}
}
