package programs

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// ask runs hotinit's client where hotinit is PID 1.
func (y *yard) ask(args ...string) (status int, output string) {
	y.t.Helper()
	return site.Finish(y.t, y.client(args...))
}

// client returns the command that ask runs.
func (y *yard) client(args ...string) *exec.Cmd {
	if y.sub {
		c := exec.Command(box.Hotinit, append(args, "--pid", strconv.Itoa(y.PID()))...)
		c.Env = box.Environment()
		return c
	}
	words := append([]string{"-t", strconv.Itoa(y.PID()), "-p", "-m", box.Hotinit}, args...)
	c := exec.Command("nsenter", words...)
	c.Env = box.Environment()
	return c
}

// row returns a program's row of the table.
func (y *yard) row(name string) control.Program {
	y.t.Helper()
	code, text := y.ask("status", "--json")
	var table control.Table
	if code == 0 && json.Unmarshal([]byte(text), &table) == nil {
		for _, p := range table.Programs {
			if p.Name == name {
				return p
			}
		}
	}
	return control.Program{}
}

func TestStatusIsATableAndOneProgramInDetail(t *testing.T) {
	a, b := box.Address(), box.Address()
	y := open(t, map[string]string{"web": serves(a), "other": serves(b), "bad": "HOTINIT_COMMAND=SERVER\nHOTINIT_X=1\n"})
	y.Until("both are in the table", func() bool {
		return y.row("web").State == "serving" && y.row("other").State == "serving"
	})
	web := y.row("web")
	if web.Generation != 1 || web.PID == 0 || web.Sockets != 1 || web.Since.IsZero() {
		t.Errorf("the row of web is %+v", web)
	}
	if bad := y.row("bad"); bad.State != "not read" || !strings.Contains(bad.Reason, "HOTINIT_X") {
		t.Errorf("the row of bad is %+v", bad)
	}
	if code, text := y.ask("status"); code != 0 || !strings.Contains(text, "PROGRAM") || strings.Count(text, "serving") != 2 {
		t.Errorf("status %d:\n%s", code, text)
	}
	if code, text := y.ask("status", "web"); code != 0 || !strings.Contains(text, "serving: ") || !strings.Contains(text, a) || strings.Contains(text, b) {
		t.Errorf("status web %d:\n%s", code, text)
	}
	for _, args := range [][]string{{"reload"}, {"rollback"}, {"releases"}, {"signal", "USR1"}, {"wait"}, {"wait", "--for", "swap"}} {
		if code, text := y.ask(args...); code != 125 || !strings.Contains(text, "name one of other, web") {
			t.Errorf("%q: %d, %s", args, code, text)
		}
	}
	if code, text := y.ask("status", "nobody"); code != 125 || !strings.Contains(text, "there are: other, web") {
		t.Errorf("%d, %s", code, text)
	}
	if code, text := y.ask("health"); code != 0 {
		t.Errorf("health: %d, %s", code, text)
	}
	y.stop(0)
}

func TestOneProgramIsReloadedRolledBackAndSignalled(t *testing.T) {
	a, b := box.Address(), box.Address()
	y := open(t, map[string]string{"web": serves(a, "A=1", "HOTINIT_PROBATION=0"), "other": "HOTINIT_COMMAND=SERVER --echo\nHOTINIT_INTERVAL=0\n"})
	y.Answers(a, "v1 generation 1 ")
	y.Until("generation 1 is current", func() bool { return y.row("web").State == "serving" && y.row("other").State == "serving" })
	if code, text := y.ask("reload", "web", "--wait"); code != 0 || !strings.Contains(text, "generation 2 is current") {
		t.Errorf("reload: %d, %s", code, text)
	}
	if n := y.row("other").Generation; n != 1 {
		t.Errorf("the other program is of generation %d", n)
	}
	if code, text := y.ask("signal", "other", "USR1"); code != 0 {
		t.Errorf("signal: %d, %s", code, text)
	}
	y.Line("got SIGUSR1|user defined signal 1|USR1")
	y.write("web", serves(b, "A=2", "HOTINIT_PROBATION=0"))
	y.Answers(b, "v1 generation 3 ")
	y.Until("generation 3 is current", func() bool { return y.row("web").Generation == 3 })
	// Back to the settings that were good, and so to the address.
	if code, text := y.ask("rollback", "web", "--wait"); code != 0 {
		t.Errorf("rollback: %d, %s\n%s", code, text, y.Output)
	}
	if env := y.GivenTo(a, 4).Env; env["A"] != "1" {
		t.Errorf("its environment is %v", env)
	}
	y.closes(b)
	if code, text := y.ask("reload", "--all"); code != 0 || !strings.Contains(text, "2 programs") {
		t.Errorf("reload --all: %d, %s", code, text)
	}
	y.GivenTo(b, 5) // what the file says
	y.stop(0)
}

func TestAProgramThatIsStoppedByHandStaysSoUntilItIsStarted(t *testing.T) {
	a, b := box.Address(), box.Address()
	y := open(t, map[string]string{"web": serves(a), "other": serves(b)})
	y.Answers(a, "v1 generation 1 ")
	y.Answers(b, "v1 generation 1 ")
	if code, text := y.ask("stop", "web"); code != 0 {
		t.Fatalf("stop: %d, %s", code, text)
	}
	stopped := func() bool { return y.row("web").State == "stopped by hand" }
	y.Until("it is stopped", stopped)
	y.closes(a)
	y.KillHandoff()
	y.Line("init starts another one")
	y.Until("it is stopped still", stopped)
	y.write("web", serves(a, "A=2"))
	y.write("third", serves(box.Address()))
	y.Until("the files are read", func() bool { return y.row("third").State == "serving" })
	if !stopped() {
		t.Errorf("a change of its file starts it: %+v", y.row("web"))
	}
	if code, text := y.ask("reload", "web"); code != 1 || !strings.Contains(text, "stopped by hand") {
		t.Errorf("reload: %d, %s", code, text)
	}
	if code, text := y.ask("start", "web"); code != 0 {
		t.Fatalf("start: %d, %s", code, text)
	}
	if env := y.GivenTo(a, 2).Env; env["A"] != "2" {
		t.Errorf("its environment is %v", env)
	}
	if got := y.Get(b, "/"); !strings.HasPrefix(got, "v1 generation 1 ") {
		t.Errorf("the other program: %s", got)
	}
	if code, text := y.ask("stop"); code != 0 {
		t.Errorf("stop: %d, %s", code, text)
	}
	if got := y.Wait(); got != 0 {
		t.Errorf("hotinit ended with %d", got)
	}
}

// Whoever waits for the end of hotinit need not name a program, be there none, one or
// several; whoever names one waits for that one, over a lost handoff too.
func TestWaitForTheEndOfOneProgramAndOfAll(t *testing.T) {
	y := lay(t, map[string]string{"one": serves(box.Address()), "two": serves(box.Address(), "HOTINIT_INSTANCES=2"), "three": serves(box.Address())})
	y.sub = true // a client in the namespace of a PID 1 ends with it
	y.start()
	y.Until("all serve", func() bool { code, _ := y.ask("health"); return code == 0 && y.row("two/1").State == "serving" })
	wait := func(args ...string) (end func() (int, string)) {
		t.Helper()
		c := y.client(append([]string{"wait", "--timeout", "90", "--for", "stopped"}, args...)...)
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		return func() (int, string) { _ = c.Wait(); return c.ProcessState.ExitCode(), out.String() }
	}
	if code, text := y.ask("wait", "--for", "stopped", "nobody"); code != 125 || !strings.Contains(text, "there are: one, three, two") {
		t.Errorf("wait for nobody: %d, %s", code, text)
	}
	all := wait()
	one := wait("one")
	two := wait("two")
	three := wait("three")
	last := wait("two/1")
	y.KillHandoff()
	y.Until("the next handoff answers", func() bool { code, _ := y.ask("health"); return code == 0 })
	for _, c := range []struct {
		name string
		end  func() (int, string)
		want string
	}{{"one", one, "the program does not run\n"}, {"two", two, "two/0: the program does not run\ntwo/1: the program does not run\n"}} {
		if code, text := y.ask("stop", c.name); code != 0 {
			t.Errorf("stop %s: %d, %s", c.name, code, text)
		}
		code, text := c.end()
		lines := strings.SplitAfter(text, "\n")
		slices.Sort(lines)
		if text = strings.Join(lines, ""); code != 0 || text != c.want {
			t.Errorf("wait for %s: %d, %q", c.name, code, text)
		}
	}
	if code, text := last(); code != 0 || text != "the program does not run\n" {
		t.Errorf("wait for two/1: %d, %q", code, text)
	}
	y.remove("three")
	if code, text := three(); code != 0 || text != "the program does not run\n" && text != "the program is gone\n" {
		t.Errorf("wait for three: %d, %q", code, text)
	}
	y.stop(0)
	if code, text := all(); code != 0 || text != "hotinit has ended\n" {
		t.Errorf("wait for the end: %d, %q", code, text)
	}
}

func TestAReloadOfAllWaitsForEachOutcome(t *testing.T) {
	y := open(t, map[string]string{
		"web":   serves(box.Address()),
		"other": sh(lives("other")),
		"bad":   sh(lives("bad"), "HOTINIT_CHECK=test ! -e bad"),
		"done":  sh("", "HOTINIT_RUN=once"),
		"job":   sh(lives("job"), "HOTINIT_RUN=once"),
	})
	y.Line("^job runs")
	y.Until("all run", func() bool {
		return y.row("web").State == "serving" && y.row("other").State == "serving" && y.row("bad").State == "serving" && y.row("done").State == "done"
	})
	code, text := y.ask("reload", "--all", "--wait")
	for _, want := range []string{"bad: generation 2 is current", "other: generation 2 is current", "web: generation 2 is current"} {
		if code != 0 || strings.Count(text, want) != 1 || strings.Contains(text, "done") || strings.Contains(text, "job") {
			t.Errorf("reload --all --wait: %d, not %q:\n%s", code, want, text)
		}
	}
	if err := os.WriteFile(filepath.Join(y.dir, "bad"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	code, text = y.ask("reload", "--all", "--wait")
	for _, want := range []string{"bad: generation 3 was rejected: ", "other: generation 3 is current", "web: generation 3 is current"} {
		if code != 1 || strings.Count(text, want) != 1 {
			t.Errorf("reload --all --wait: %d, not %q:\n%s", code, want, text)
		}
	}
	y.stop(0)
}

func TestTheTableSaysWhatIsOnHold(t *testing.T) {
	y := open(t, map[string]string{"web": sh(lives("web")), "other": sh(lives("other"))})
	y.Until("both serve", func() bool { return y.row("web").State == "serving" && y.row("other").State == "serving" })
	if code, text := y.ask("hold", "web"); code != 0 {
		t.Fatalf("hold: %d, %s", code, text)
	}
	if why := y.row("web").Reason; !strings.Contains(why, "on hold") {
		t.Errorf("the table says %q of web", why)
	}
	if why := y.row("other").Reason; why != "" {
		t.Errorf("the table says %q of the other", why)
	}
	y.stop(0)
}

func TestTheTableSaysWhyHotinitWasNotUpgraded(t *testing.T) {
	y := open(t, map[string]string{"web": sh(lives("web"))})
	y.Until("it serves", func() bool { return y.row("web").State == "serving" })
	if code, text := y.ask("upgrade", "/nosuch"); code != 1 || !strings.Contains(text, "cannot open /nosuch") {
		t.Errorf("upgrade: %d, %s", code, text)
	}
	if code, text := y.ask("status"); code != 0 || !strings.Contains(text, "the last upgrade of hotinit was rejected: cannot open /nosuch: no such file") {
		t.Errorf("status: %d, %s", code, text)
	}
	y.stop(0)
}

func TestTheTableSaysWhenAProgramIsDue(t *testing.T) {
	y := open(t, map[string]string{
		"job": sh("", "HOTINIT_SCHEDULE=@yearly"),
		"web": sh(lives("web")),
	})
	due := func(state string) func() bool {
		return func() bool {
			job := y.row("job")
			return job.State == state && strings.HasPrefix(job.Reason, "due at 20")
		}
	}
	y.Until("its first run is due", due("scheduled"))
	if code, text := y.ask("start", "job"); code != 0 {
		t.Errorf("start: %d, %s", code, text)
	}
	y.Until("its next run is due", due("done"))
	y.stop(0)
}

// Of one program, too, the word is its name, and not a release's.
func TestTheOnlyProgramIsRolledBackByItsName(t *testing.T) {
	a := box.Address()
	y := open(t, map[string]string{"web": serves(a, "A=1", "HOTINIT_PROBATION=0")})
	y.Answers(a, "v1 generation 1 ")
	y.Until("generation 1 is current", func() bool { return y.row("web").State == "serving" })
	y.write("web", serves(a, "A=2", "HOTINIT_PROBATION=0"))
	y.Answers(a, "v1 generation 2 ")
	y.Until("generation 2 is current", func() bool { return y.row("web").Generation == 2 })
	if code, text := y.ask("rollback", "web", "--wait"); code != 0 || !strings.Contains(text, "generation 3 is current") {
		t.Errorf("rollback web: %d, %s", code, text)
	}
	if code, text := y.ask("rollback", "nobody"); code != 1 || !strings.Contains(text, `there is no release "nobody"`) {
		t.Errorf("rollback nobody: %d, %s", code, text)
	}
	y.stop(0)
}

// hotinit check names a release as hotinit does.
func TestCheckNamesTheReleaseThatRuns(t *testing.T) {
	y := open(t, map[string]string{"web": serves(box.Address())})
	y.Until("web serves, and its release is known", func() bool { p := y.row("web"); return p.State == "serving" && p.Release != "" && p.Release != "?" })
	c := exec.Command(box.Hotinit, "check", "--programs", "programs")
	c.Dir, c.Env = y.dir, box.Environment()
	out, _ := c.CombinedOutput() // the port is in use
	if release := y.row("web").Release; !strings.Contains(string(out), " "+release+", ") {
		t.Errorf("%s runs, and check says\n%s", release, out)
	}
	y.stop(0)
}

// Nothing is decided silently: of programs without sockets, and of none.
func TestHotinitSaysThatItBeginsAndEnds(t *testing.T) {
	for n, files := range []map[string]string{{}, {"a": "HOTINIT_COMMAND=SERVER --echo\n"}, {"a": "HOTINIT_COMMAND=SERVER --echo\n", "b": "HOTINIT_COMMAND=SERVER --echo\n"}} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			y := open(t, files)
			y.Line("version .* runs " + strconv.Itoa(n) + " programs? of .*/programs")
			y.KillHandoff()
			y.Line("init starts another one")
			y.stop(0)
			y.Line(`^hotinit: ends with status 0: it was told to stop \(SIGTERM\)`)
			if n := strings.Count(y.Output.Text(), " programs of "); n > 1 {
				t.Errorf("it is said %d times", n)
			}
		})
	}
}
