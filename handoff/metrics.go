package handoff

import (
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/machine"
	"github.com/hotinit/hotinit/internal/message"
	"github.com/hotinit/hotinit/internal/metrics"
	"github.com/hotinit/hotinit/internal/proc"
	"github.com/hotinit/hotinit/internal/serving"
	"github.com/hotinit/hotinit/internal/sockets"
	"github.com/hotinit/hotinit/internal/version"
)

// answerMetrics answers `hotinit metrics`. Everything but the counters is read at
// this moment: nothing is sampled while nobody asks. It runs on a goroutine of its
// own.
func (s *supervisor) answerMetrics(r control.Request, reply func(control.Response) bool) {
	reaped, known := s.reaped.ask(func() error { return s.link.SendWait(&message.Ask{}) })
	var m metricsOf
	found := false
	s.loop.ask(func() {
		for _, p := range s.programs {
			if file, _ := fileOf(p.name); r.Program == "" || r.Program == file || r.Program == *p.title.Load() {
				found = true
				p.measure(&m)
			}
			m.resumed = max(m.resumed, p.counts.Resumed)
		}
	})
	if !found {
		var err error
		s.loop.ask(func() { _, err = s.named(r.Program) })
		reply(refuses(err))
		return
	}
	m.shared(reaped, known)
	reply(control.Response{OK: true, Metrics: m.families})
}

// reaped is what init counts, as this process learns it.
type reaped struct {
	mu    sync.Mutex
	last  uint64
	asked chan struct{} // closed by the answer; nil while nobody asks
}

// initWithin is how long init has to answer.
const initWithin = time.Second

// ask asks init by send, and returns its answer. Those who ask at the same time get
// the same one.
func (r *reaped) ask(send func() error) (n uint64, known bool) {
	r.mu.Lock()
	asked, err := r.asked, error(nil)
	if asked == nil {
		asked = make(chan struct{})
		r.asked = asked
		err = send()
	}
	r.mu.Unlock()
	if err != nil {
		return 0, false
	}
	select {
	case <-asked:
		known = true
	case <-time.After(initWithin):
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last, known
}

// note takes what a message of init says.
func (r *reaped) note(m *message.Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = m.Reaped
	if m.Signal == 0 && r.asked != nil {
		close(r.asked)
		r.asked = nil
	}
}

// metricsOf collects families, in the order in which they are first named.
type metricsOf struct {
	families []metrics.Family
	resumed  int
}

// family returns a family, to which samples are added.
func (m *metricsOf) family(kind metrics.Kind, name, help string) *metrics.Family {
	for i := range m.families {
		if m.families[i].Name == name {
			return &m.families[i]
		}
	}
	m.families = append(m.families, metrics.Family{Name: name, Help: help, Kind: kind})
	return &m.families[len(m.families)-1]
}

func (m *metricsOf) gauge(name, help string, value float64, labels ...string) {
	f := m.family(metrics.Gauge, name, help)
	f.Samples = append(f.Samples, metrics.Sample{Labels: metrics.Labels(labels...), Value: value})
}

func (m *metricsOf) counter(name, help string, value float64, labels ...string) {
	f := m.family(metrics.Counter, name, help)
	f.Samples = append(f.Samples, metrics.Sample{Labels: metrics.Labels(labels...), Value: value})
}

// causes are the label values of why a generation was started.
var causes = []struct {
	cause machine.Cause
	name  string
}{
	{machine.ByBoot, "boot"}, {machine.ByChange, "change"}, {machine.ByReload, "reload"}, {machine.BySignal, "signal"},
	{machine.ByRollback, "rollback"}, {machine.ByFailure, "failure"}, {machine.ByRestart, "restart"},
	{machine.ByAutoRestart, "auto_restart"}, {machine.ByStall, "stall"},
}

// measure adds what there is to know of a program. It runs in the loop.
func (s *program) measure(m *metricsOf) {
	st := &s.engine.state
	phases := []machine.Phase{machine.Preparing, machine.Candidate, machine.Current, machine.Retiring, machine.Lingering}
	for _, phase := range phases {
		n := 0
		for _, g := range st.Gens {
			if g.Phase == phase {
				n++
			}
		}
		m.gauge("hotinit_generations", "Generations by state.", float64(n), "program", *s.title.Load(), "state", phase.String())
	}
	number, stalled := 0, 0
	var since time.Time
	if g := st.Current(); g != nil {
		number = g.N
		if p := s.processes.all[g.N]; p != nil {
			since = p.since
		}
		if g.Stalled {
			stalled = 1
		}
	}
	m.gauge("hotinit_current_generation", "The number of the generation that serves, 0 for none.", float64(number), "program", *s.title.Load())
	if !since.IsZero() {
		m.gauge("hotinit_current_generation_start_time_seconds", "When the generation that serves was started, since the epoch.", seconds(since), "program", *s.title.Load())
	}
	m.gauge("hotinit_stalled", "1 while connections wait and the current generation accepts none (--stall-timeout).", float64(stalled), "program", *s.title.Load())
	for _, c := range causes {
		m.counter("hotinit_generation_starts_total", "Generations that were started, by why.", float64(s.counts.Starts[int(c.cause)]), "program", *s.title.Load(), "cause", c.name)
	}
	swaps := m.family(metrics.Histogram, "hotinit_swap_duration_seconds", "Swaps by outcome: from when a generation begins to be started beside another one to when that is decided.")
	for how, name := range swapNames {
		swaps.Samples = append(swaps.Samples, s.counts.Swaps[how].sample(metrics.Labels("program", *s.title.Load(), "outcome", name)))
	}
	m.gauge("hotinit_releases", "Releases that are remembered: good ones to go back to, and rejected ones.", float64(len(st.GoodReleases)), "program", *s.title.Load(), "state", "good")
	m.gauge("hotinit_releases", "", float64(len(st.Rejected)), "program", *s.title.Load(), "state", "rejected")
	s.measureSockets(m, number)
	s.releases.measure(m)
}

func (s *program) measureSockets(m *metricsOf, generation int) {
	for _, fd := range s.queues.sockets(generation) {
		sock, err := serving.Describe(fd)
		if err != nil || !sock.Stream {
			continue
		}
		waiting, err := sock.Queue()
		if err != nil {
			continue
		}
		name := sockets.Address(fd)
		m.gauge("hotinit_accept_queue_connections", "Connections that wait to be accepted.", float64(waiting), "program", *s.title.Load(), "socket", name)
		if most := sock.Backlog(); most > 0 {
			m.gauge("hotinit_accept_queue_limit", "Connections that can wait to be accepted; further ones have to try again.", float64(most), "program", *s.title.Load(), "socket", name)
		}
	}
}

func (s *releases) measure(m *metricsOf) {
	paths, polls := 0, 0
	if s.watcher != nil {
		paths = len(s.paths)
		if s.watcher.Polls() {
			polls = 1
		}
	}
	m.gauge("hotinit_watched_paths", "Files and directories that are watched for a new release.", float64(paths), "program", *s.title.Load())
	m.gauge("hotinit_watch_polls", "1 while some are looked at in intervals, since their file system does not report changes.", float64(polls), "program", *s.title.Load())
}

// shared adds what belongs to no program.
func (m *metricsOf) shared(reaped uint64, known bool) {
	m.gauge("hotinit_build_info", "Which hotinit this is; the value is 1.", 1, "version", version.Number, "revision", version.Commit(), "goversion", runtime.Version())
	if known {
		m.counter("hotinit_reaped_orphans_total", "Processes of the app that were reparented to hotinit, and that it reaped.", float64(reaped))
	}
	m.counter("hotinit_handoff_restarts_total", "How often the process that decides was started again and went on.", float64(m.resumed))
	for _, p := range []struct {
		name string
		pid  int
	}{{"init", os.Getppid()}, {"handoff", os.Getpid()}} {
		u, err := proc.Use(p.pid)
		if err != nil {
			continue // it may not be read
		}
		if u.Resident > 0 {
			m.gauge("hotinit_process_resident_memory_bytes", "Memory of hotinit's own processes, with what they share.", float64(u.Resident), "process", p.name)
			m.gauge("hotinit_process_proportional_memory_bytes", "The same, with what is shared divided by those that share it (PSS).", float64(u.Proportional), "process", p.name)
		}
		m.counter("hotinit_process_cpu_seconds_total", "Processor time of hotinit's own processes.", u.CPU.Seconds(), "process", p.name)
		m.gauge("hotinit_process_threads", "Threads of hotinit's own processes.", float64(u.Threads), "process", p.name)
		if p.name == "init" {
			if at, ok := proc.StartedAt(u.Start); ok {
				m.gauge("hotinit_start_time_seconds", "When hotinit was started, since the epoch.", seconds(at))
			}
		}
	}
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
