package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/metrics"
)

// target is one hotinit.
type target struct {
	name string // of the label, "" for none
	pid  int
}

// parseTargets reads the values of --pid.
func parseTargets(values []string) (targets []target, err error) {
	names := make(map[string]bool)
	for _, value := range values {
		name, number, named := strings.Cut(value, "=")
		if !named {
			name, number = "", value
		}
		pid, err := strconv.Atoi(number)
		if err != nil || pid < 1 || named && name == "" {
			return nil, fmt.Errorf("--pid %s: must be a process ID, or NAME=PID", value)
		}
		if names[name] {
			return nil, fmt.Errorf("--pid %s: several hotinits need a name each: --pid NAME=PID", value)
		}
		names[name] = true
		targets = append(targets, target{name, pid})
	}
	if names[""] && len(targets) > 1 {
		return nil, errors.New("--pid: several hotinits need a name each: --pid NAME=PID")
	}
	return targets, nil
}

// labels are those of every metric of the target.
func (t target) labels() prometheus.Labels {
	if t.name == "" {
		return nil
	}
	return prometheus.Labels{"hotinit": t.name}
}

// collector asks each target at each scrape. What the metrics are is hotinit's to
// say: so a newer one needs no newer exporter.
type collector struct {
	targets []target
	limit   time.Duration
}

// Describe says nothing, which makes it an unchecked collector.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect asks all targets at the same time. One that does not answer is down; the
// others are served.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	var wait sync.WaitGroup
	for _, t := range c.targets {
		wait.Go(func() {
			began, up := time.Now(), 1.0
			families, err := ask(t.pid, c.limit)
			if err != nil {
				up = 0
			}
			gauge := func(name, help string, value float64) {
				out <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, nil, t.labels()), prometheus.GaugeValue, value)
			}
			gauge("hotinit_up", "1 if hotinit answered.", up)
			gauge("hotinit_scrape_duration_seconds", "How long it took to ask hotinit.", time.Since(began).Seconds())
			for _, f := range families {
				for _, s := range f.Samples {
					out <- convert(t, f, s)
				}
			}
		})
	}
	wait.Wait()
}

// ask asks one hotinit for its metrics.
func ask(pid int, limit time.Duration) ([]metrics.Family, error) {
	var answer control.Response
	err := control.AskWithin(limit, pid, control.Request{Op: "metrics"}, func(a control.Response) bool {
		answer = a
		return false
	})
	if err == nil && !answer.OK {
		err = errors.New(answer.Text)
	}
	return answer.Metrics, err
}

// convert makes a metric of a sample. One that makes no sense becomes an error of the
// scrape.
func convert(t target, f metrics.Family, s metrics.Sample) prometheus.Metric {
	var names, values []string
	for _, l := range s.Labels {
		names, values = append(names, l.Name), append(values, l.Value)
	}
	desc := prometheus.NewDesc(f.Name, f.Help, names, t.labels())
	var m prometheus.Metric
	var err error
	switch f.Kind {
	case metrics.Histogram:
		buckets := make(map[float64]uint64, len(s.Buckets))
		for _, b := range s.Buckets {
			buckets[b.Bound] = b.Count
		}
		delete(buckets, math.Inf(1))
		m, err = prometheus.NewConstHistogram(desc, s.Count, s.Value, buckets, values...)
	case metrics.Counter:
		m, err = prometheus.NewConstMetric(desc, prometheus.CounterValue, s.Value, values...)
	case metrics.Gauge:
		m, err = prometheus.NewConstMetric(desc, prometheus.GaugeValue, s.Value, values...)
	default:
		m, err = prometheus.NewConstMetric(desc, prometheus.UntypedValue, s.Value, values...)
	}
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	return m
}
