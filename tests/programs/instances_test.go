package programs

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/load"
)

// instances waits until the table says of each instance of web what it runs.
func (y *yard) instances(count, generation int) {
	y.t.Helper()
	y.Until(fmt.Sprintf("%d instances serve with generation %d", count, generation), func() bool {
		rows, serve := y.rows(), 0
		for name, row := range rows {
			if strings.HasPrefix(name, "web/") {
				if row.State != "serving" || row.Generation != generation {
					return false
				}
				serve++
			}
		}
		return serve == count
	})
}

// rows returns the table by name.
func (y *yard) rows() map[string]control.Program {
	y.t.Helper()
	rows := map[string]control.Program{}
	var table control.Table
	if code, text := y.ask("status", "--json"); code == 0 && json.Unmarshal([]byte(text), &table) == nil {
		for _, p := range table.Programs {
			rows[p.Name] = p
		}
	}
	return rows
}

// all reports whether this is so of the first instances of web, by one table.
func (y *yard) all(count int, so func(control.Program) bool) bool {
	rows := y.rows()
	for n := range count {
		if !so(rows[fmt.Sprintf("web/%d", n)]) {
			return false
		}
	}
	return true
}

func serving(row control.Program) bool { return row.State == "serving" }

// lossless ends a load, of which every request must have been answered.
func lossless(t *testing.T, l *load.Load) {
	t.Helper()
	if report := l.Stop(); report.Losses() > 0 || report.Done == 0 {
		t.Error(report)
	}
}

// turns checks that what hotinit has said since is the replacement of one instance after
// the other, and returns who was replaced.
func (y *yard) turns(since int) (order []string) {
	y.t.Helper()
	line := regexp.MustCompile(`(web/\d+): generation (\d+) (is started|is ready|failed)`)
	under := ""
	for _, text := range y.Output.All()[since:] {
		m := line.FindStringSubmatch(text)
		switch {
		case m == nil:
		case m[3] == "is started" && under == m[1]: // a handoff that was killed has said it, too
		case m[3] == "is started" && under != "":
			y.t.Errorf("%s is replaced while %s is: %s\n%s", m[1], under, text, y.Output)
			return nil
		case m[3] == "is started":
			under = m[1]
			order = append(order, m[1])
		default:
			under = ""
		}
	}
	slices.Sort(order)
	return order
}

func TestInstancesShareTheirSocketsAndAreReplacedOneAfterTheOther(t *testing.T) {
	a := box.Address()
	y := open(t, map[string]string{"web": serves(a, "HOTINIT_INSTANCES=4", "HOTINIT_INTERVAL=50ms"), "last": serves(box.Address(), "HOTINIT_AFTER=web")})
	y.instances(4, 1)
	y.Until("who comes after all of them runs", func() bool { return y.row("last").State == "serving" })
	numbers := map[string]bool{}
	y.Until("each of them answers", func() bool {
		env := y.Given(a).Env
		if env["HOTINIT_PROGRAM"] != "web" || env["HOTINIT_INSTANCES"] != "" {
			t.Fatalf("its environment is %v", env)
		}
		numbers[env["HOTINIT_INSTANCE"]] = true
		return numbers["0"] && numbers["1"] && numbers["2"] && numbers["3"]
	})
	l := load.Start(load.Options{Address: a})
	all := "web/0 web/1 web/2 web/3"
	// A changed executable, a request, a changed file.
	for i, change := range []func(){
		func() { box.Swap(t, y.server, "v2") },
		func() {
			if code, text := y.ask("reload", "web", "--wait"); code != 0 || strings.Count(text, "is current") != 4 {
				t.Errorf("reload: %d, %s", code, text)
			}
		},
		func() { y.write("web", serves(a, "HOTINIT_INSTANCES=4", "HOTINIT_INTERVAL=50ms", "A=1")) },
		func() { y.Signal(1) },
	} {
		y.Until("the other one has followed", func() bool { return y.row("last").State == "serving" })
		since := len(y.Output.All())
		change()
		y.instances(4, i+2)
		if got := strings.Join(y.turns(since), " "); got != all {
			t.Errorf("change %d replaced %s", i, got)
		}
	}
	lossless(t, l)
	y.stop(0)
}

func TestABrokenReleaseStopsAtTheFirstInstance(t *testing.T) {
	a := box.Address()
	file := serves(a, "HOTINIT_INSTANCES=3", "HOTINIT_INTERVAL=50ms")
	y := open(t, map[string]string{"web": file})
	y.instances(3, 1)
	l := load.Start(load.Options{Address: a})
	since := len(y.Output.All())
	box.Swap(t, y.server, "v2", "--exit", "3")
	y.Line("web/.: generation 2 failed.*generation 1 stays")
	y.Until("nothing is due any more", func() bool {
		return y.all(3, func(row control.Program) bool {
			return serving(row) && row.Generation == 1 && strings.Contains(row.Reason, "status 3")
		})
	})
	// The settings, too.
	y.write("web", file+"HOTINIT_COMMAND=SERVER --exit 3\n")
	y.Until("the settings are rejected", func() bool {
		return y.all(3, func(row control.Program) bool {
			return row.Generation == 1 && strings.Contains(row.Reason, "what its file says now failed")
		})
	})
	if got := y.turns(since); len(got) != 2 { // each broken release was tried once
		t.Errorf("%s were replaced", got)
	}
	// What is right again reaches all.
	box.Swap(t, y.server, "v3")
	y.write("web", file+"A=1\n")
	y.Answers(a, "v3 ")
	y.Until("all run the new release", func() bool {
		seen := map[string]bool{}
		return y.all(3, func(row control.Program) bool {
			seen[row.Release] = true
			return serving(row) && row.Generation > 1
		}) && len(seen) == 1
	})
	lossless(t, l)
	y.stop(0)
}

func TestInstancesComeAndGoByTheirNumberAlone(t *testing.T) {
	a := box.Address()
	y := open(t, map[string]string{"web": serves(a, "A=1")})
	y.Until("it serves", func() bool { return y.row("web").State == "serving" })
	l := load.Start(load.Options{Address: a})
	// The one that there is gets a number, and so a new generation.
	y.write("web", serves(a, "A=1", "HOTINIT_INSTANCES=3"))
	y.Until("there are three", func() bool {
		return y.all(3, serving) && y.row("web/0").Generation == 2 && y.row("web").Name == ""
	})
	rows := y.rows()
	one, two := rows["web/1"].PID, rows["web/2"].PID
	y.write("web", serves(a, "A=1", "HOTINIT_INSTANCES=2"))
	y.Line(`web/2: stops: its file asks for 2 now`)
	y.Line("web/2: is gone")
	y.write("web", serves(a, "HOTINIT_INSTANCES=4", "A=1"))
	y.Until("there are four", func() bool { return y.all(4, serving) })
	lossless(t, l)
	if row := y.row("web/1"); row.PID != one || row.Generation != 1 || y.row("web/2").PID == two {
		t.Errorf("web/1 is %+v, and had PID %d", row, one)
	}
	// One that dies is started again, and the others are left alone.
	zero := y.row("web/0").PID
	if p, ok := y.Find(one); ok {
		y.SignalTo(p.PID, 9)
	}
	y.Until("it runs again", func() bool { row := y.row("web/1"); return row.State == "serving" && row.PID != one })
	if row := y.row("web/0"); row.PID != zero || row.Generation != 2 {
		t.Errorf("web/0 is %+v", row)
	}
	l = load.Start(load.Options{Address: a})
	y.write("web", serves(a, "A=1"))
	y.Until("there is one", func() bool { rows := y.rows(); return serving(rows["web"]) && len(rows) == 1 })
	if env := y.GivenTo(a, 3).Env; env["HOTINIT_INSTANCE"] != "" {
		t.Errorf("its environment is %v", env)
	}
	lossless(t, l)
	y.remove("web")
	y.Line("web: is gone")
	y.closes(a)
	y.stop(0)
}

func TestInstancesAreOperatedTogetherOrByNumber(t *testing.T) {
	a := box.Address()
	y := open(t, map[string]string{"web": serves(a, "HOTINIT_INSTANCES=2", "HOTINIT_PROBATION=0"), "other": "HOTINIT_COMMAND=SERVER --echo\nHOTINIT_INTERVAL=0\n"})
	y.instances(2, 1)
	say := func(wanted int, part string, args ...string) {
		t.Helper()
		if code, text := y.ask(args...); code != wanted || !strings.Contains(text, part) {
			t.Errorf("%q: %d, %s (want %d, %s)", args, code, text, wanted, part)
		}
	}
	if code, text := y.ask("wait", "web"); code != 0 || strings.Count(text, "generation 1 serves") != 2 {
		t.Errorf("wait: %d, %s", code, text)
	}
	say(0, "generation 2 is current", "reload", "web/1", "--wait")
	if n := y.row("web/0").Generation; n != 1 {
		t.Errorf("web/0 runs generation %d", n)
	}
	say(0, "web/1", "status", "web")
	say(0, "serving: ", "status", "web/1")
	say(125, "has 2, from web/0 on", "status", "web/7")
	say(125, "has no instances", "status", "other/0")
	say(125, "name one of other, web", "reload")
	say(0, "2 of 2 instances", "signal", "web", "USR1")
	say(0, "all of 2", "health", "web")
	box.Swap(t, y.server, "v2")
	y.Answers(a, "v2 ")
	y.Until("both run it", func() bool {
		rows := y.rows()
		return y.all(2, serving) && rows["web/0"].Release == rows["web/1"].Release
	})
	since := len(y.Output.All())
	say(0, "web/1: ", "rollback", "web", "--wait")
	y.Answers(a, "v1 ")
	if got := strings.Join(y.turns(since), " "); got != "web/0 web/1" {
		t.Errorf("%s were rolled back", got)
	}
	say(0, "told to stop", "stop", "web/1")
	y.Until("one is stopped", func() bool { return y.row("web/1").State == "stopped by hand" && y.row("web/0").State == "serving" })
	y.Answers(a, "v1 ")
	say(0, "told to stop", "stop", "web")
	y.closes(a)
	y.write("web", serves(a, "HOTINIT_INSTANCES=3", "HOTINIT_PROBATION=0"))
	y.Until("the new one stays stopped as well", func() bool { return y.row("web/2").State == "stopped by hand" })
	say(0, "being started", "start", "web")
	y.Until("all run", func() bool { return y.all(3, serving) })
	y.stop(0)
}

// rollsThoughKilled swaps n instances, in the order of turns, while three handoffs are
// killed.
func (y *yard) rollsThoughKilled(n int, turns string) {
	y.t.Helper()
	since := len(y.Output.All())
	box.Swap(y.t, y.server, "v2")
	for range 3 {
		y.Line("web/.: generation 2 is started")
		y.KillHandoff()
	}
	y.instances(n, 2)
	if got := strings.Join(y.turns(since), " "); got != turns {
		y.t.Errorf("%s were replaced", got)
	}
}

func TestAKilledHandoffGoesOnInTheMiddleOfARoll(t *testing.T) {
	a := box.Address()
	y := open(t, map[string]string{"web": serves(a, "HOTINIT_INSTANCES=4", "HOTINIT_INTERVAL=50ms")})
	y.instances(4, 1)
	l := load.Start(load.Options{Address: a})
	y.rollsThoughKilled(4, "web/0 web/1 web/2 web/3")
	lossless(t, l)
	y.remove("web")
	y.Line("web/0: is gone")
	y.closes(a)
	y.stop(0)
}

func TestWhatInstancesCannotShareIsAnError(t *testing.T) {
	y := open(t, map[string]string{
		"a": "HOTINIT_COMMAND=SERVER\nHOTINIT_INSTANCES=0\n",
		"b": "HOTINIT_COMMAND=SERVER\nHOTINIT_INSTANCES=2\nHOTINIT_STATUS_FILE=x\n",
		"c": "HOTINIT_COMMAND=SERVER\nHOTINIT_INSTANCES=2\nHOTINIT_SWAP_THROUGH=flock x {}\n",
		"d": "HOTINIT_COMMAND=SERVER --exit 0\nHOTINIT_INSTANCES=3\nHOTINIT_RUN=once\n",
		"e": "HOTINIT_COMMAND=SERVER --echo\nHOTINIT_AFTER=d\nHOTINIT_INTERVAL=0\n",
	})
	y.Until("the errors are said", func() bool {
		all := y.Output.Text()
		return strings.Contains(all, "a.env:2: HOTINIT_INSTANCES") && strings.Contains(all, "b.env:2: HOTINIT_INSTANCES") && strings.Contains(all, "c.env:2: HOTINIT_INSTANCES")
	})
	// Those that run once are done when all of them are.
	y.Until("what comes after them runs", func() bool { return y.row("e").State == "serving" })
	for n := range 3 {
		if row := y.row(fmt.Sprintf("d/%d", n)); row.State != "done" {
			t.Errorf("%+v", row)
		}
	}
	y.stop(0)
}
