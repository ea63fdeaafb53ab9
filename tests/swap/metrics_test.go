package swap

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// value finds a sample in a text in Prometheus' format, -1 if there is none.
func value(text, sample string) float64 {
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(sample) + ` (\S+)$`).FindStringSubmatch(text)
	if found == nil {
		return -1
	}
	v, _ := strconv.ParseFloat(found[1], 64)
	return v
}

func TestMetricsTellOfGenerationsSwapsAndHotinitItself(t *testing.T) {
	s := site.Serving(t, site.Options{App: []string{"-orphans", "3"}, Flags: []string{"--probation", "0"}})
	s.Becomes(1, "current")
	metrics := func() string {
		t.Helper()
		status, text := s.Ask("metrics")
		if status != 0 {
			t.Fatalf("status %d: %s", status, text)
		}
		return text
	}
	is := func(text, sample string, want float64) {
		t.Helper()
		if got := value(text, sample); got != want {
			t.Errorf("%s is %v, want %v", sample, got, want)
		}
	}
	s.Swap("v2")
	s.Becomes(2, "current")
	s.Swap("v3", "-exit", "1")
	s.Until("v3 is rejected", func() bool { return s.Status().Rejected != "" })
	s.Until("the old ones have ended", func() bool { return len(s.Status().Generations) == 1 })
	text := metrics()
	is(text, `hotinit_generations{program="app",state="current"}`, 1)
	is(text, `hotinit_generations{program="app",state="retiring"}`, 0)
	is(text, `hotinit_current_generation{program="app"}`, 2)
	is(text, `hotinit_generation_starts_total{program="app",cause="boot"}`, 1)
	is(text, `hotinit_generation_starts_total{program="app",cause="change"}`, 2)
	is(text, `hotinit_swap_duration_seconds_count{program="app",outcome="done"}`, 1)
	is(text, `hotinit_swap_duration_seconds_count{program="app",outcome="rejected"}`, 1)
	is(text, `hotinit_swap_duration_seconds_bucket{program="app",outcome="done",le="+Inf"}`, 1)
	is(text, `hotinit_releases{program="app",state="rejected"}`, 1)
	is(text, `hotinit_stalled{program="app"}`, 0)
	is(text, `hotinit_accept_queue_connections{program="app",socket="`+s.Address+`"}`, 0)
	is(text, `hotinit_watched_paths{program="app"}`, 1)
	is(text, `hotinit_handoff_restarts_total`, 0)
	if n := value(text, "hotinit_reaped_orphans_total"); n < 3 {
		t.Errorf("%v orphans were reaped, want 3 at least", n)
	}
	if n := value(text, `hotinit_accept_queue_limit{program="app",socket="`+s.Address+`"}`); n < 1 {
		t.Errorf("the queue's limit is %v", n)
	}
	for _, process := range []string{"init", "handoff"} {
		if n := value(text, `hotinit_process_resident_memory_bytes{process="`+process+`"}`); n < 1<<20 || n > 64<<20 {
			t.Errorf("%s has %v bytes", process, n)
		}
	}

	// They go on over a lost handoff.
	s.KillHandoff()
	s.Until("another handoff answers", func() bool { status, _ := s.Ask("health"); return status == 0 })
	after := metrics()
	is(after, `hotinit_handoff_restarts_total`, 1)
	is(after, `hotinit_swap_duration_seconds_count{program="app",outcome="done"}`, 1)
	is(after, `hotinit_generation_starts_total{program="app",cause="change"}`, 2)
	before, now := value(text, "hotinit_reaped_orphans_total"), value(after, "hotinit_reaped_orphans_total")
	if now < before || now > before+1 { // what hotinit runs in the namespace to ask may count
		t.Errorf("%v orphans were reaped, before the handoff was killed %v", now, before)
	}

	one, named := s.Ask("metrics", "app")
	if one != 0 || !strings.Contains(named, "hotinit_build_info{") {
		t.Errorf("of the program by name: status %d\n%s", one, named)
	}
	if status, text := s.Ask("metrics", "none"); status != 125 || !strings.Contains(text, `there is no program "none"`) {
		t.Errorf("of a program that is not there: status %d\n%s", status, text)
	}
	check(t, after)
	documented(t, after)
	s.Signal(unix.SIGTERM)
	s.Ends(0)
}

// documented compares the families with docs/metrics.md.
func documented(t *testing.T, text string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	described := regexp.MustCompile(`(?m)^# HELP (\w+) (.*)\n# TYPE \w+ (\w+)$`).FindAllStringSubmatch(text, -1)
	for _, f := range described {
		row := regexp.MustCompile("(?m)^\\| `" + f[1] + "` \\| " + f[3] + ` \| [^|]*\| ` + regexp.QuoteMeta(f[2]) + ` \|$`)
		if !row.Match(page) {
			t.Errorf("docs/metrics.md has no row for the %s %s: %s", f[3], f[1], f[2])
		}
	}
	if rows := strings.Count(string(page), "\n| `hotinit_"); rows != len(described) {
		t.Errorf("docs/metrics.md has %d rows for %d metrics", rows, len(described))
	}
}

// check has promtool read the text, and say what it does not like about the names.
func check(t *testing.T, text string) {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err != nil {
		box.Need(t, "promtool", err)
	}
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s\n%s", err, out, text)
	}
}
