package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTimelinesCountByTime(t *testing.T) {
	at := func(ms uint64) uint64 { return uint64(time.Hour) + ms*uint64(time.Millisecond) }
	line := newTimeline("x", at(0), []uint64{at(60), at(99_000)},
		[]sample{{at(1), at(2)}, {at(10), at(70)}, {at(60), at(70)}, {at(160), at(210)}},
		[]loss{{sample{at(55), at(60)}, "refused"}})
	if got := len(line.Answered); got != 4 {
		t.Fatalf("%d stretches for a load of 210 ms", got)
	}
	if line.Answered[0] != 20 || line.Answered[1] != 40 || line.Answered[2] != 0 {
		t.Errorf("answered a second: %v", line.Answered)
	}
	if line.Lost[1] != 20 || line.Tail[0] != 60 || line.Tail[1] != 10 {
		t.Errorf("lost a second: %v, 99th percentiles: %v", line.Lost, line.Tail)
	}
	if len(line.Swaps) != 1 || line.Swaps[0] != 0.06 {
		t.Errorf("swaps: %v", line.Swaps)
	}
}

// plotted is a run with one deployer of each kind that is plotted.
func plotted() *results {
	r := &results{}
	for _, tool := range []string{swapByRename, swapByKill} {
		line := timeline{Tool: tool, Bin: 0.05, Swaps: []float64{0.3}}
		for i := range 40 {
			lost := 0.0
			if tool == swapByKill && i == 7 {
				lost = 1600
			}
			line.Answered = append(line.Answered, 1600-lost)
			line.Lost = append(line.Lost, lost)
			line.Tail = append(line.Tail, 0.5)
		}
		r.Timelines = append(r.Timelines, line)
	}
	return r
}

func TestPlotsAreDrawnForLightAndDarkPages(t *testing.T) {
	dir := t.TempDir()
	if err := drawPlots(plotted(), dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bench-swaps.svg", "bench-latency.svg"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for d := xml.NewDecoder(strings.NewReader(string(b))); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		text := string(b)
		for _, want := range []string{`<svg width="800"`, "hotinit: none failed", "kill and start again: 80 requests failed"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s does not have %q", name, want)
			}
		}
		// Each colour is another one on a dark page.
		sheet, drawing, _ := strings.Cut(text, "</style>")
		for _, piece := range strings.Split(drawing, "#")[1:] {
			light := "#" + piece[:6]
			if !strings.Contains(sheet, ":"+light+`"]`) {
				t.Errorf("%s: %s has no colour for a dark page", name, light)
			}
		}
	}
}

// What the plots need must stay with the benchmark.
func TestNothingOfThePlotsIsInHotinit(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "../../cmd/...", "../../init", "../../handoff", "../../listener", "../../internal/...").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for path := range strings.Lines(string(out)) {
		if strings.Contains(path, "gonum.org") || strings.Contains(path, "golang.org/x/image") {
			t.Errorf("%s is linked into hotinit or one of its tools", strings.TrimSpace(path))
		}
	}
}
