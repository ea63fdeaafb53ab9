package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"
)

// tiny is enough to show that a measurement works, and too little to time.
var tiny = scale{
	starts: 1, statuses: 37, orphans: 100, pings: 20,
	rest: 10 * time.Millisecond, calm: 10 * time.Millisecond, idle: 10 * time.Millisecond, idleRuns: 1,
	swaps: 2, swapRuns: 1, intervals: []string{"1"}, renames: 2, clients: 4,
	appStartup: 10 * time.Millisecond, betweenSwaps: 20 * time.Millisecond, output: 1 << 20,
}

// prepared is built once for all tests; TestMain removes it.
var prepared = sync.OnceValues(func() (*setup, error) { return prepare(context.Background(), "") })

var used bool

func TestMain(m *testing.M) {
	code := m.Run()
	if used {
		if s, err := prepared(); err == nil {
			s.remove()
		}
	}
	os.Exit(code)
}

func smoke(t *testing.T, name string) *report {
	t.Helper()
	for _, needed := range []string{"cc", "go"} {
		if _, err := exec.LookPath(needed); err != nil {
			t.Skipf("%s is not installed: %v", needed, err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("not root: whether a PID namespace can be had depends on the machine")
	}
	used = true
	s, err := prepared()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{setup: *s, runs: 1, scale: tiny}
	if b.log, err = os.CreateTemp(t.TempDir(), "stderr"); err != nil {
		t.Fatal(err)
	}
	defer b.log.Close()
	chosen, err := choose(name)
	if err != nil {
		t.Fatal(err)
	}
	r := newReport(chosen[0].name, chosen[0].about)
	if err := chosen[0].run(t.Context(), b, r); err != nil {
		t.Fatalf("%v%s", err, b.lastWords())
	}
	for _, wrong := range r.wrong {
		t.Error(wrong)
	}
	r.print(t.Output(), false)
	return r
}

// wantValues checks that each figure has a value of each of the tools.
func wantValues(t *testing.T, r *report, tools ...string) {
	t.Helper()
	for _, f := range r.figures {
		for _, tool := range tools {
			if len(f.values[tool]) != 1 {
				t.Errorf("%s: %s has %d values instead of 1", f.name, tool, len(f.values[tool]))
			}
		}
	}
}

func TestStartupIsMeasured(t *testing.T) {
	wantValues(t, smoke(t, "startup"), nameHotinit, nameAsTini, nameDirectAgain)
}

func TestMemoryIsMeasured(t *testing.T) {
	r := smoke(t, "memory")
	wantValues(t, r, nameHotinit)
	for _, f := range r.figures {
		for tool, v := range f.values {
			if v[0] <= 0 {
				t.Errorf("%s: %s has none", f.name, tool)
			}
		}
	}
}

func TestStatusesAreExact(t *testing.T) {
	r := smoke(t, "status")
	for _, tool := range []string{nameHotinit, nameAsTini} {
		if got := r.figures[0].values[tool]; !slices.Equal(got, []float64{0}) {
			t.Errorf("%s: %v statuses are not exact", tool, got)
		}
	}
}

func TestOrphansAreAllCollected(t *testing.T) {
	wantValues(t, smoke(t, "orphans"), nameHotinit, nameAsTini)
}

func TestSignalsAreAnswered(t *testing.T) {
	wantValues(t, smoke(t, "signal"), nameDirect, nameHotinit, nameAsTini)
}

func TestOutputIsMeasured(t *testing.T) {
	wantValues(t, smoke(t, "output"), outputAsItIs, outputNamed)
}

func TestIdlenessIsMeasured(t *testing.T) {
	wantValues(t, smoke(t, "idle"), nameHotinit, nameAsTini, nameWatching)
}

func TestSwapsLoseNothing(t *testing.T) {
	r := smoke(t, "swap")
	for _, tool := range []string{swapByHUP, swapByRename} {
		if got := r.figures[0].values[tool]; !slices.Equal(got, []float64{0}) {
			t.Errorf("%s: requests lost: %v", tool, got)
		}
	}
	// The clients notice where something is lost.
	if got := r.figures[0].values[swapByKill]; len(got) != 1 || got[0] == 0 {
		t.Errorf("%s: requests lost: %v", swapByKill, got)
	}
}

func TestUpgradesLoseNothing(t *testing.T) {
	r := smoke(t, "upgrade")
	if got := r.figures[0].values[upgradeItself]; !slices.Equal(got, []float64{0}) {
		t.Errorf("requests lost: %v", got)
	}
}

func TestRenamesAreActedOn(t *testing.T) {
	r := smoke(t, "watch")
	for tool, v := range r.figures[0].values {
		if len(v) != 1 || v[0] <= 0 {
			t.Errorf("%s: from the trigger to the first instruction: %v ms", tool, v)
		}
	}
}

func TestNamesOfMeasurementsAreChecked(t *testing.T) {
	if _, err := choose("startup,nothing"); err == nil {
		t.Error("a measurement that does not exist was accepted")
	}
	got, err := choose("watch,startup")
	if err != nil || len(got) != 2 || got[0].name != "watch" || got[1].name != "startup" {
		t.Errorf("watch,startup chose %v (%v)", got, err)
	}
}

func TestQuantiles(t *testing.T) {
	values := []float64{9, 1, 8, 2, 7, 3, 6, 4, 5, 10}
	for _, test := range []struct{ q, want float64 }{{0, 1}, {0.5, 5.5}, {0.9, 10}, {0.99, 10}, {1, 10}} {
		if got := quantile(values, test.q); got != test.want {
			t.Errorf("quantile %v of 1 to 10 is %v instead of %v", test.q, got, test.want)
		}
	}
}

func TestRatiosAreTakenRunByRun(t *testing.T) {
	f := newReport("", "").figure("time", "%.0f")
	for _, pair := range [][2]float64{{1, 2}, {100, 50}, {30, 20}} {
		f.add(nameHotinit, pair[0])
		f.add("tini", pair[1])
	}
	if got := f.ratio("tini"); got != "1.50" {
		t.Errorf("the median of 0.5, 2 and 1.5 came out as %s", got)
	}
	if got := f.ratio(nameHotinit); got != "" {
		t.Errorf("hotinit over itself came out as %s", got)
	}
}

func TestRequestsThatMeetASwapAreToldApart(t *testing.T) {
	ms := func(n uint64) uint64 { return n * uint64(time.Millisecond) }
	samples := []sample{
		{ms(0), ms(90)},    // before the load was steady
		{ms(100), ms(101)}, // before the swap
		{ms(195), ms(200)}, // met its beginning
		{ms(300), ms(302)}, // met its end
		{ms(301), ms(304)}, // after it
	}
	inside, outside := tails(samples, ms(50), []window{{ms(200), ms(300)}})
	if inside != 5 || outside != 3 {
		t.Errorf("the slowest inside took %v ms and outside %v ms, instead of 5 and 3", inside, outside)
	}
}

func TestFatalSignalsAreAllTried(t *testing.T) {
	hows, statuses := endings(1)
	if len(hows) != 256+lastSignal-len(harmless) {
		t.Errorf("%d endings", len(hows))
	}
	for i, how := range hows {
		want := how
		if how < 0 {
			want = 128 - how
		}
		if statuses[i] != want {
			t.Errorf("%d is to end with %d instead of %d", how, statuses[i], want)
		}
	}
}

func TestProcessNamesDoNotConfuse(t *testing.T) {
	dir := t.TempDir()
	stat := fmt.Sprintf("77 (a) Z 5 (b) Z %d 77 77 0 -1\n", 42)
	if err := os.WriteFile(dir+"/stat", []byte(stat), 0o600); err != nil {
		t.Fatal(err)
	}
	if state, parent, ok := stateAndParent(dir); state != 'Z' || parent != 42 || !ok {
		t.Errorf("%q was read as state %c, parent %d (%v)", stat, state, parent, ok)
	}
}
