package upgrade

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/adopt"
	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/load"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// fleet is a hotinit with one program of several instances. A candidate of a release
// that is held says READY=1 once the test opens the FIFO.
type fleet struct {
	*site.Site
	faults
	t    *testing.T
	fifo string
	open func() // writes to it
	own  bool   // the server binds its port itself
	load *load.Load
}

const abreast = 4 // instances

func launch(t *testing.T, sub bool) *fleet {
	t.Helper()
	return launchThat(t, sub, false)
}

// launchThat is launch where the server may bind its port itself.
func launchThat(t *testing.T, sub, own bool) *fleet {
	t.Helper()
	t.Parallel()
	if !sub {
		box.NeedNamespace(t)
	}
	hotinit(t, newer)
	dir := t.TempDir()
	f := &fleet{t: t, own: own, fifo: filepath.Join(dir, "fifo"), faults: faults{filepath.Join(dir, "fault")}}
	f.Site = &site.Site{T: t, Dir: dir, Path: filepath.Join(dir, "server"), Address: box.Address()}
	f.open = box.Fifo(t, f.fifo)
	box.Install(t, f.Path, "v1")
	f.settings("A=1")
	f.Box = box.Start(t, box.Options{Binary: hotinit(t, older), Args: []string{"--settle", "50ms", "--programs", "programs"},
		Env: box.Environment("_HOTINIT_FAULT=" + f.path), Dir: dir, Sub: sub})
	f.run(1, 1, 1, 1)
	f.load = load.Start(load.Options{Address: f.Address})
	return f
}

// settings writes the program's file, with one more line.
func (f *fleet) settings(line string) {
	f.t.Helper()
	serves := "\nHOTINIT_PORTS=" + f.Address
	if f.own {
		serves = " -bind " + f.Address + "\nHOTINIT_ADOPT=on"
	}
	f.Write("web.new", fmt.Sprintf("HOTINIT_COMMAND=%s%s\nHOTINIT_INSTANCES=%d\nHOTINIT_INTERVAL=50ms\nHOTINIT_READY_TIMEOUT=5m\n%s\n", f.Path, serves, abreast, line))
	err := os.MkdirAll(f.File("programs"), 0o755)
	if err == nil {
		err = os.Rename(f.File("web.new"), f.File("programs/web.env"))
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// generations are those of the instances that serve, 0 for one that does not.
func (f *fleet) generations() (n [abreast]int) {
	f.t.Helper()
	var table control.Table
	code, text := f.Ask("status", "--json")
	if code != 0 || json.Unmarshal([]byte(text), &table) != nil {
		return n
	}
	for _, p := range table.Programs {
		for i := range n {
			if p.Name == fmt.Sprintf("web/%d", i) && p.State == "serving" {
				n[i] = p.Generation
			}
		}
	}
	return n
}

// run waits until the instances serve with these generations.
func (f *fleet) run(want ...int) {
	f.t.Helper()
	var got [abreast]int
	f.Until(fmt.Sprintf("the instances serve with generations %v", want), func() bool {
		got = f.generations()
		return slices.Equal(got[:], want)
	})
}

// hold puts v2 in place, whose candidates wait for free.
func (f *fleet) hold() {
	f.t.Helper()
	f.Swap("v2", "-ready", f.fifo)
}

// candidate waits until the next candidate waits for free, and returns its PID.
func (f *fleet) candidate() (instance string, pid int) {
	f.t.Helper()
	m := f.Line(`app v2 generation \d+ pid (\d+): started`)
	_, _ = fmt.Sscan(m[1], &pid)
	f.Until("hotinit says whose it is", func() bool {
		for _, line := range f.Output.All() {
			if strings.Contains(line, "is started") && strings.Contains(line, fmt.Sprintf("with PID %d,", pid)) {
				instance, _, _ = strings.Cut(strings.TrimPrefix(line, "hotinit: "), ": ")
			}
		}
		return instance != ""
	})
	return instance, pid
}

// free lets the candidate go on, which has the FIFO open by then, or soon.
func (f *fleet) free() {
	f.t.Helper()
	f.open()
}

// asks begins an upgrade, which has come to wait for the candidate when asks returns.
func (f *fleet) asks(version string) (answer func() string) {
	f.t.Helper()
	answers := make(chan string, 2)
	for range cap(answers) { // one of them is told that the other one waits
		c := f.Client("upgrade", hotinit(f.t, version))
		go func() {
			_, text := site.Finish(f.t, c)
			answers <- strings.TrimSpace(text)
		}()
	}
	if text := <-answers; !strings.Contains(text, "another upgrade is waiting") {
		f.t.Fatalf("the upgrade does not wait: %s\noutput:\n%s", text, f.Output)
	}
	return func() string { return <-answers }
}

// turns checks that the lines since are the replacement of one instance after the other,
// and returns who was replaced, and after how many of them an upgrade came to an end.
func (f *fleet) turns(since int) (order []string, upgrades []int) {
	f.t.Helper()
	line := regexp.MustCompile(`hotinit: (web/\d): generation \d+ (is started|is ready|is told to go|failed)|(has taken over|other hotinit was rejected)`)
	under := ""
	for _, text := range f.Output.All()[since:] {
		switch m := line.FindStringSubmatch(text); {
		case m == nil:
		case m[3] != "":
			upgrades = append(upgrades, len(order))
		case m[2] == "is started" && under != "":
			f.t.Fatalf("%s is replaced while %s is: %s\n%s", m[1], under, text, f.Output)
		case m[2] == "is started":
			under = m[1]
			order = append(order, m[1])
		case under != m[1]:
			f.t.Fatalf("%s was not being replaced: %s\n%s", m[1], text, f.Output)
		default:
			under = ""
		}
	}
	return order, upgrades
}

// end ends the load, of which every request must have been answered, and hotinit.
func (f *fleet) end() {
	f.t.Helper()
	if r := f.load.Stop(); r.Losses() > 0 || r.Done == 0 {
		f.t.Errorf("%v\noutput:\n%s", r, f.Output)
	} else {
		f.t.Logf("%v", r)
	}
	f.Stop(0)
}

// Between any two instances hotinit is replaced, or refuses to be: the roll waits for
// that, and goes on. Each instance is replaced once.
func TestAnUpgradeInTheMiddleOfARollComesBetweenTwoInstances(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			f := launch(t, way.Sub)
			since := len(f.Output.All())
			f.hold()
			for i, gap := range []struct{ version, point, action, answer string }{
				{newer, "", "", "hotinit 2.0.0 runs"},
				{older, "trial", "fail", "told to fail"},
				{older, "handoff.able", "kill", "ended before it acted"},
				{older, "", "", "hotinit 1.0.0 runs"}, // with the last one
			} {
				f.candidate()
				answer := f.asks(gap.version)
				if gap.point != "" {
					f.set(t, gap.version, gap.point, gap.action)
				}
				f.free()
				if text := answer(); !strings.Contains(text, gap.answer) {
					t.Fatalf("upgrade %d: %s\noutput:\n%s", i+1, text, f.Output)
				}
			}
			f.run(2, 2, 2, 2)
			order, upgrades := f.turns(since)
			if !slices.Equal(upgrades, []int{1, 2, 3, 4}) {
				t.Errorf("upgrades came after %v instances\noutput:\n%s", upgrades, f.Output)
			}
			if slices.Sort(order); strings.Join(order, " ") != "web/0 web/1 web/2 web/3" {
				t.Errorf("%s were replaced", order)
			}
			f.end()
		})
	}
}

// An upgrade that is given up while it waits leaves the roll its turn.
func TestARollGoesOnWhereAnUpgradeIsGivenUp(t *testing.T) {
	f := launch(t, false)
	since := len(f.Output.All())
	f.hold()
	f.candidate()
	answer := f.asks(newer)
	f.set(t, older, "handoff.asked", "fail")
	f.free()
	if text := answer(); !strings.Contains(text, "told to fail") {
		t.Errorf("the upgrade says %s", text)
	}
	for range abreast - 1 {
		f.candidate()
		f.free()
	}
	f.run(2, 2, 2, 2)
	if order, _ := f.turns(since); len(order) != abreast {
		t.Errorf("%s were replaced", order)
	}
	f.end()
}

// What the file says meanwhile is what all run in the end.
func TestAFileThatChangesWhileAnUpgradeWaitsForARollIsFollowed(t *testing.T) {
	f := launch(t, false)
	since := len(f.Output.All())
	f.hold()
	first, _ := f.candidate()
	answer := f.asks(newer)
	f.settings("A=2")
	f.candidate() // in the place of the one with the old settings
	f.free()
	if text := answer(); text != "hotinit 2.0.0 runs" {
		t.Fatalf("%s\noutput:\n%s", text, f.Output)
	}
	f.Swap("v3")
	f.Until("all run v3", func() bool { // a candidate of v2 that waits is told to go
		n := f.generations()
		return !slices.Contains(n[:], 0) && !slices.Contains(n[:], 1) && f.settled()
	})
	order, _ := f.turns(since)
	counts := map[string]int{}
	for _, name := range order {
		counts[name]++
	}
	// The first one had a candidate for the old settings, and one of v2.
	if len(counts) != abreast || counts[first] != 3 {
		t.Errorf("%v were replaced, first %s\noutput:\n%s", counts, first, f.Output)
	}
	seen := map[string]bool{}
	f.Until("each instance has answered", func() bool {
		var g box.Given
		if text := f.Get(f.Address, "/given"); json.Unmarshal([]byte(text), &g) != nil || g.Env["A"] != "2" {
			t.Fatalf("an instance was given %s", text)
		}
		seen[g.Env["HOTINIT_INSTANCE"]] = true
		return len(seen) == abreast
	})
	f.end()
}

// settled reports whether all instances run the same release, and nothing is due.
func (f *fleet) settled() bool {
	var table control.Table
	code, text := f.Ask("status", "--json")
	if code != 0 || json.Unmarshal([]byte(text), &table) != nil {
		return false
	}
	releases := map[string]bool{}
	for _, p := range table.Programs {
		releases[p.Release] = true
	}
	return len(releases) == 1 && table.Programs[0].Release != ""
}

// A release that fails in the third instance, after hotinit was replaced twice, is taken
// back in those that run it.
func TestAReleaseThatFailsAfterUpgradesIsTakenBackEverywhere(t *testing.T) {
	f := launch(t, false)
	since := len(f.Output.All())
	f.hold()
	for _, version := range []string{newer, older} {
		f.candidate()
		answer := f.asks(version)
		f.free()
		if text := answer(); !strings.Contains(text, "runs") {
			t.Fatalf("%s\noutput:\n%s", text, f.Output)
		}
	}
	third, pid := f.candidate()
	answer := f.asks(newer)
	p, ok := f.Find(pid)
	if !ok {
		t.Fatalf("process %d is gone\noutput:\n%s", pid, f.Output)
	}
	f.SignalTo(p.PID, unix.SIGKILL)
	if text := answer(); text != "hotinit 2.0.0 runs" {
		t.Fatalf("%s\noutput:\n%s", text, f.Output)
	}
	f.Until("all run v1 again", func() bool {
		n := f.generations()
		return !slices.Contains(n[:], 0) && !slices.Contains(n[:], 2) && f.settled()
	})
	order, _ := f.turns(since)
	if len(order) != 5 || order[2] != third {
		t.Errorf("%s were replaced", order)
	}
	f.Answers("v1 ")
	f.end()
}

// Upgrades at any time during rolls.
func TestUpgradesDuringRollsLoseNothing(t *testing.T) {
	type fleetOf struct{ sub, own bool }
	fleets := map[string]fleetOf{"it binds its port itself": {own: true}}
	for name, way := range ways {
		fleets[name] = fleetOf{sub: way.Sub}
	}
	for name, of := range fleets {
		t.Run(name, func(t *testing.T) {
			if err := adopt.Supported(); of.own && err != nil {
				t.Skip(err)
			}
			f := launchThat(t, of.sub, of.own)
			last := 1
			for i := range rounds(t) / 4 {
				since := len(f.Output.All())
				last++
				f.Swap(fmt.Sprintf("v%d", last))
				for _, version := range []string{newer, older} {
					f.Line(`hotinit: web/\d: generation \d+ is started`)
					if status, text := f.Ask("upgrade", hotinit(t, version)); status != 0 {
						t.Fatalf("%s\noutput:\n%s", text, f.Output)
					}
				}
				f.run(last, last, last, last)
				order, _ := f.turns(since)
				if slices.Sort(order); strings.Join(order, " ") != "web/0 web/1 web/2 web/3" {
					t.Errorf("in round %d %s were replaced\noutput:\n%s", i, order, f.Output)
				}
			}
			f.end()
		})
	}
}
