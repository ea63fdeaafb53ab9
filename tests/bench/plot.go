package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The plots are shown 800 pixels wide, on pages that are light or dark. A point of
// the canvas is a pixel then.
const plotWidth = 800

// shade is a colour of a plot: on a light page, and on a dark one.
type shade struct{ light, dark string }

var (
	paper    = shade{"#fefefe", "#0d1117"}
	ink      = shade{"#1f2329", "#e6edf3"}
	faint    = shade{"#d5dae0", "#30363d"}
	soft     = shade{"#57606b", "#9198a2"}
	served   = shade{"#0969db", "#58a6fe"}
	failed   = shade{"#cf222f", "#f8514a"}
	shades   = []shade{paper, ink, faint, soft, served, failed}
	fontSans = font.Font{Typeface: "Liberation", Variant: "Sans"}
)

// on is the colour as the plot is drawn: for a light page. The style sheet of the
// file changes it on a dark one.
func (s shade) on() color.Color {
	var r, g, b uint8
	fmt.Sscanf(s.light, "#%02x%02x%02x", &r, &g, &b)
	return color.RGBA{r, g, b, 255}
}

// drawPlots draws what a run has found about swaps.
func drawPlots(r *results, dir string) error {
	shown := r.shown()
	if len(shown) == 0 {
		return nil
	}
	// Twice of what is asked: what catches up after a stall has no end.
	var usual []float64
	for _, t := range shown {
		usual = append(usual, t.Answered...)
	}
	most := 1.6 * median(usual)
	requests := panels{
		title:  "Requests per second across three deployments",
		legend: []mark{{served, "answered"}, {failed, "failed"}},
		top:    most,
		tick:   niceTick(most),
		unit:   "",
		draw: func(p *plot.Plot, t timeline) error {
			if err := steps(p, t.Bin, add(t.Answered, t.Lost), t.Answered, failed); err != nil {
				return err
			}
			return steps(p, t.Bin, t.Answered, nil, served)
		},
	}
	if err := requests.write(filepath.Join(dir, "bench-swaps.svg"), shown); err != nil {
		return err
	}
	latency := panels{
		title:  "Latency across three deployments: 99th percentile in each 50 ms",
		legend: []mark{{served, "99th percentile"}, {failed, "none answered"}},
		log:    true,
		unit:   " ms",
		bottom: 0.1,
		top:    1000,
		draw: func(p *plot.Plot, t timeline) error {
			gaps := make([]float64, len(t.Tail))
			for i := range gaps {
				if t.Tail[i] == 0 && t.Lost[i] > 0 {
					gaps[i] = p.Y.Max
				}
			}
			if err := steps(p, t.Bin, gaps, nil, failed); err != nil {
				return err
			}
			return steps(p, t.Bin, t.Tail, nil, served)
		},
	}
	return latency.write(filepath.Join(dir, "bench-latency.svg"), shown)
}

func add(a, b []float64) []float64 {
	sum := slices.Clone(a)
	for i := range sum {
		sum[i] += b[i]
	}
	return sum
}

// niceTick is 1, 2 or 5 times a power of ten, about a half of most.
func niceTick(most float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(max(most, 1)/2)))
	for _, by := range []float64{5, 2} {
		if by*unit <= most/2 {
			return by * unit
		}
	}
	return unit
}

// shown are the timelines that are plotted, in this order, with their titles.
func (r *results) shown() []timeline {
	order := []struct{ tool, title string }{
		{swapByRename, "hotinit"},
		{"start_server --interval 1", "start_server"},
		{swapByProxy, "haproxy in front, two servers"},
		{"supervisorctl restart", "supervisorctl restart"},
		{swapByKill, "kill and start again"},
	}
	var all []timeline
	for _, o := range order {
		for _, t := range r.Timelines {
			if t.Tool == o.tool {
				t.Tool = o.title
				all = append(all, t)
			}
		}
	}
	return all
}

type mark struct {
	shade
	text string
}

// panels is one panel for each tool, above each other.
type panels struct {
	title       string
	legend      []mark
	log         bool
	bottom, top float64
	tick        float64
	unit        string
	draw        func(*plot.Plot, timeline) error
}

const (
	panelHeight = 92
	headHeight  = 54
	footHeight  = 30
)

var dashes = []vg.Length{4, 3}

func (ps panels) write(path string, all []timeline) error {
	height := vg.Length(headHeight + len(all)*panelHeight + footHeight)
	svg := vgsvg.NewWith(vgsvg.UseWH(plotWidth, height))
	c := draw.New(svg)
	c.FillPolygon(paper.on(), []vg.Point{c.Min, {X: c.Max.X, Y: c.Min.Y}, c.Max, {X: c.Min.X, Y: c.Max.Y}})
	c.FillText(words(17, ink), vg.Point{X: 14, Y: height - 26}, ps.title)
	x := vg.Length(14)
	for _, m := range ps.legend {
		y := height - 46
		c.FillPolygon(m.on(), []vg.Point{{X: x, Y: y}, {X: x + 12, Y: y}, {X: x + 12, Y: y + 10}, {X: x, Y: y + 10}})
		style := words(14, soft)
		c.FillText(style, vg.Point{X: x + 17, Y: y}, m.text)
		x += 17 + style.Width(m.text) + 22
	}
	c.StrokeLine2(draw.LineStyle{Color: ink.on(), Width: 1.2, Dashes: dashes}, x+4, height-48, x+4, height-34)
	c.FillText(words(14, soft), vg.Point{X: x + 13, Y: height - 46}, "a deployment begins")
	for i, t := range all {
		last := i == len(all)-1
		bottom := vg.Length(footHeight + (len(all)-1-i)*panelHeight)
		low := bottom
		if last {
			low = 8 // the labels of its time are below it
		}
		area := draw.Crop(c, 10, -16, low, -(height - bottom - panelHeight + 26))
		p, err := ps.panel(t, last)
		if err != nil {
			return err
		}
		p.Draw(area)
		c.FillText(words(14, ink), vg.Point{X: 14, Y: bottom + panelHeight - 20}, caption(t))
	}
	return writeSVG(path, svg)
}

func words(size float64, s shade) text.Style {
	f := fontSans
	f.Size = vg.Length(size)
	return text.Style{Color: s.on(), Font: f, Handler: plot.DefaultTextHandler}
}

func (ps panels) panel(t timeline, last bool) (*plot.Plot, error) {
	p := plot.New()
	p.BackgroundColor = nil
	p.X.Min, p.X.Max = 0, timelineLength.Seconds()
	p.Y.Min, p.Y.Max = ps.bottom, ps.top
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Color = soft.on()
		axis.Width = 0
		axis.Tick.Width = 0
		axis.Tick.Length = 3
		axis.Tick.Label = words(13, soft)
		axis.Tick.Label.XAlign = text.XRight
		axis.Padding = 0
	}
	p.Y.Padding = 7 // the font may be a wider one
	p.Y.Tick.Label.YAlign = text.YCenter
	p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = text.XCenter, text.YTop
	p.X.Tick.Marker = plot.ConstantTicks(nil)
	if last {
		p.X.Tick.Marker = plot.ConstantTicks([]plot.Tick{{Value: 0, Label: "0"}, {Value: 1, Label: "1"},
			{Value: 2, Label: "2"}, {Value: 3, Label: "3"}, {Value: 4, Label: "4 s"}})
	}
	var ticks []plot.Tick
	if ps.log {
		p.Y.Scale = plot.LogScale{}
		for _, v := range []float64{0.1, 1, 10, 100, 1000} {
			tick := plot.Tick{Value: v}
			if v == 1 || v == 100 { // a label for each would not have the room
				tick.Label = fmt.Sprintf("%g%s", v, ps.unit)
			}
			ticks = append(ticks, tick)
		}
	} else {
		for v := 0.0; v <= ps.top; v += ps.tick {
			ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprintf("%g%s", v, ps.unit)})
		}
	}
	p.Y.Tick.Marker = plot.ConstantTicks(ticks)
	for _, tick := range ticks {
		if err := line(p, faint, 0.7, nil, plotter.XYs{{X: 0, Y: tick.Value}, {X: p.X.Max, Y: tick.Value}}); err != nil {
			return nil, err
		}
	}
	if err := ps.draw(p, t); err != nil {
		return nil, err
	}
	for _, at := range t.Swaps {
		if err := line(p, ink, 1.2, dashes, plotter.XYs{{X: at, Y: p.Y.Min}, {X: at, Y: p.Y.Max}}); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// caption says whose panel it is, and what became of its requests.
func caption(t timeline) string {
	if sum := total(t.Lost) * t.Bin; sum >= 1 {
		return fmt.Sprintf("%s: %.0f requests failed", t.Tool, sum)
	}
	return t.Tool + ": none failed"
}

func total(values []float64) (sum float64) {
	for _, v := range values {
		sum += v
	}
	return sum
}

func line(p *plot.Plot, s shade, width vg.Length, dashes []vg.Length, points plotter.XYs) error {
	l, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	l.Color, l.Width, l.Dashes = s.on(), width, dashes
	p.Add(l)
	return nil
}

// steps fills a bar for each stretch of time, from floor (or the bottom) to values.
// What is not above its floor is left out.
func steps(p *plot.Plot, bin float64, values, floor []float64, s shade) error {
	high := func(i int) float64 { return min(values[i], p.Y.Max) }
	low := func(i int) float64 {
		if floor == nil {
			return p.Y.Min
		}
		return max(floor[i], p.Y.Min)
	}
	for from := 0; from < len(values); {
		if high(from) <= low(from) {
			from++
			continue
		}
		to := from
		var above, below plotter.XYs
		for ; to < len(values) && high(to) > low(to); to++ {
			left, right := float64(to)*bin, float64(to+1)*bin
			above = append(above, plotter.XY{X: left, Y: high(to)}, plotter.XY{X: right, Y: high(to)})
			below = append(below, plotter.XY{X: left, Y: low(to)}, plotter.XY{X: right, Y: low(to)})
		}
		slices.Reverse(below)
		area, err := plotter.NewPolygon(append(above, below...))
		if err != nil {
			return err
		}
		area.Color = s.on()
		area.LineStyle.Width = 0
		p.Add(area)
		from = to
	}
	return nil
}

// writeSVG adds what the canvas cannot say: other colours on a dark page, and which
// fonts do where there is no Liberation Sans.
func writeSVG(path string, svg *vgsvg.Canvas) error {
	var buffer bytes.Buffer
	if _, err := svg.WriteTo(&buffer); err != nil {
		return err
	}
	var style strings.Builder
	style.WriteString("<style>text{font-family:'Liberation Sans',Arial,Helvetica,sans-serif!important}\n@media (prefers-color-scheme:dark){\n")
	for _, s := range shades {
		for _, property := range []string{"fill", "stroke"} {
			fmt.Fprintf(&style, "[style*=%q]{%s:%s!important}\n", property+":"+strings.ToUpper(s.light), property, s.dark)
		}
	}
	style.WriteString("}</style>\n")
	head, rest, ok := strings.Cut(buffer.String(), "xlink\">\n")
	if !ok {
		return fmt.Errorf("%s: the canvas writes another beginning of an SVG file than expected", path)
	}
	head = strings.ReplaceAll(head, "pt\"", "\"") // its size is in pixels
	return os.WriteFile(path, []byte(head+"xlink\">\n"+style.String()+rest), 0o644)
}
