package programs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

func TestAFileStartsAProgramAChangeSwapsItAndItsRemovalStopsIt(t *testing.T) {
	y := open(t, nil)
	a, b := box.Address(), box.Address()
	y.write("web", serves(a, "A=1"))
	y.Answers(a, "v1 generation 1 ")
	y.write("other", serves(b))
	y.Answers(b, "v1 generation 1 ")
	if env := y.Given(a).Env; env["A"] != "1" || env["HOTINIT_PROGRAM"] != "web" || env["HOTINIT_PORTS"] != "" {
		t.Errorf("its environment is %v", env)
	}
	y.Line("web: generation 1 is ready")
	y.write("web", serves(a, "A=2"))
	y.Line("web: generation 2 is ready.*; generation 1 is told to go")
	if env := y.GivenTo(a, 2).Env; env["A"] != "2" {
		t.Errorf("its environment is %v", env)
	}
	y.remove("web")
	y.Line("web: is gone")
	y.closes(a)
	if got := y.Get(b, "/"); !strings.HasPrefix(got, "v1 generation 1 ") {
		t.Errorf("the other program: %s", got)
	}
	y.stop(0)
}

func TestSettingsThatFailLeaveTheProgramAsItWas(t *testing.T) {
	a, b := box.Address(), box.Address()
	y := open(t, map[string]string{"web": serves(a, "A=1")})
	y.Line("web: generation 1 is ready")
	y.write("web", "HOTINIT_COMMAND=SERVER --exit 3\nHOTINIT_PORTS="+a+","+b+"\nA=2\n")
	y.Line("web: its settings stay as they were")
	y.Line("web: generation 2 failed.*generation 1 stays")
	if env := y.GivenTo(a, 1).Env; env["A"] != "1" {
		t.Errorf("its environment is %v", env)
	}
	y.closes(b) // which only the bad settings have
	y.write("web", "HOTINIT_COMMAND=SERVER\nHOTINIT_PORTS=nonsense\n")
	y.Line(`web.env:2: HOTINIT_PORTS="nonsense": .*; the program stays as it is`)
	y.write("web", serves(b, "A=3"))
	y.Answers(b, "v1 generation 3 ")
	y.Line("web: generation 1 ended")
	y.closes(a) // which only the old settings have
	y.stop(0)
}

func TestABadFileKeepsNoOtherFromStarting(t *testing.T) {
	a := box.Address()
	y := open(t, map[string]string{"bad": "HOTINIT_COMMAND=SERVER\nHOTINIT_REDY=auto\n", "web": serves(a)})
	y.Line(`bad.env:2: HOTINIT_REDY="auto": .*did you mean HOTINIT_READY`)
	y.Answers(a, "v1 generation 1 ")
	b := box.Address()
	y.write("bad", serves(b))
	y.Answers(b, "v1 generation 1 ")
	y.stop(0)
}

func TestWhatEditorsAndDeploysWriteIsNotReadHalf(t *testing.T) {
	a := box.Address()
	y := open(t, map[string]string{"web": serves(a, "A=1")})
	y.Line("web: generation 1 is ready")
	for _, name := range []string{".web.env.swp", "web.env~", "4913", "..data"} {
		if err := os.WriteFile(filepath.Join(y.dir, "programs", name), []byte("A"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(y.path("new"), os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	// A file that is held open is not finished, however long that takes.
	b := box.Address()
	if _, err := f.WriteString("HOTINIT_COMMAND=" + y.server + "\nHOTINIT_POR"); err != nil {
		t.Fatal(err)
	}
	y.write("web", serves(a, "A=2"))
	if _, err := f.WriteString("TS=" + b + "\n"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	y.Answers(b, "v1 generation 1 ")
	y.GivenTo(a, 2)
	y.stop(0)
	if strings.Contains(y.Output.Text(), "new.env:") {
		t.Errorf("half of a file was read:\n%s", y.Output)
	}
}

func TestWhatRunsAfterAKilledHandoffIsWhatTheFilesSay(t *testing.T) {
	a, b, c := box.Address(), box.Address(), box.Address()
	y := open(t, map[string]string{"changed": serves(a, "A=1"), "removed": serves(b), "same": serves(c, "A=1")})
	y.Answers(a, "v1 generation 1 ")
	y.Answers(b, "v1 generation 1 ")
	pid := y.GivenTo(c, 1).PID
	y.KillHandoff()
	y.write("changed", serves(a, "A=2"))
	y.remove("removed")
	y.GivenTo(a, 2)
	y.Line("removed: is gone")
	y.KillHandoff()
	y.Line("init starts another one")
	y.write("same", serves(c, "A=1", "# a comment"))
	d := box.Address()
	y.write("new", serves(d))
	y.Answers(d, "v1 generation 1 ")
	if got := y.GivenTo(c, 1).PID; got != pid {
		t.Errorf("a program whose file did not change was started again: PID %d, before %d", got, pid)
	}
	y.stop(0)
}

func TestAProgramThatIsRemovedAndAddedAgainStartsAnew(t *testing.T) {
	a := box.Address()
	y := open(t, map[string]string{"web": "HOTINIT_COMMAND=SERVER --term ignore\nHOTINIT_STOP_TIMEOUT=1\nHOTINIT_PORTS=" + a})
	y.Line("web: generation 1 is ready")
	y.remove("web")
	y.Line("web: stops: its file was removed")
	y.write("web", serves(a))
	y.Answers(a, "v1 generation 2 ")
	y.stop(0)
}

func TestTheCommandBesideTheProgramsEndsAll(t *testing.T) {
	a := box.Address()
	y := open(t, map[string]string{"web": serves(a)}, "--", "sh", "-c", "read line; exit 7")
	y.Line("web: ended with status")
	if got := y.Wait(); got != 7 {
		t.Errorf("hotinit ended with %d, want 7; output:\n%s", got, y.Output)
	}
}

// kept is how many good and how many rejected releases of a program the state directory
// knows.
func (y *yard) kept(program string) (good, rejected int) {
	b, _ := os.ReadFile(filepath.Join(y.dir, "state", "programs", program, "releases.json"))
	return strings.Count(string(b), `"command":`), strings.Count(string(b), `"reason":`)
}

// TestEachProgramHasAMemoryOverARestart lets a release fail, of which the file is still
// there when hotinit starts anew.
func TestEachProgramHasAMemoryOverARestart(t *testing.T) {
	web, other := box.Address(), box.Address()
	y := open(t, map[string]string{
		"web":   serves(web, "HOTINIT_PROBATION=0", "HOTINIT_READY=accept"),
		"other": serves(other, "HOTINIT_PROBATION=0"),
	}, "--state-dir", "state")
	y.Answers(web, "v1 generation 1 ")
	y.Until("the release of web is kept", func() bool {
		good, _ := y.kept("web")
		return good > 0
	})
	box.Install(t, y.server+".new", "v2", "-exit", "9")
	if err := os.Rename(y.server+".new", y.server); err != nil {
		t.Fatal(err)
	}
	y.Line("web: generation 2 failed.*generation 1 stays")
	y.KillHandoff()
	// It is written beside the loop, so the one that was killed may not have come to it.
	y.Until("it is kept that web's release was rejected", func() bool { _, rejected := y.kept("web"); return rejected > 0 })
	y.stop(0)
	y.start("--state-dir", "state")
	y.Answers(web, "v1 generation 1 ")
	y.stop(0)
}

// TestAProgramWhoseFileComesBackRunsAgain has the file removed and written again while
// something of the program still runs, after a handoff that was killed has taken it over:
// what it was then is not what it is now.
func TestAProgramWhoseFileComesBackRunsAgain(t *testing.T) {
	y := open(t, nil)
	script := filepath.Join(y.dir, "leaves")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n(trap '' TERM; exec sleep 1000009) &\nexec sleep \"$1\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	runs := func(n string) int { return y.sleeping()[n] }
	y.write("web", "HOTINIT_COMMAND="+script+" 1000001\nHOTINIT_INTERVAL=1ms\n")
	y.Until("it runs", func() bool { return runs("1000001") != 0 && runs("1000009") != 0 })
	y.Line("web: version devel runs")
	y.KillHandoff()
	y.Until("another handoff has taken it over", func() bool { status, _ := y.ask("status", "web"); return status == 0 })
	y.remove("web")
	y.Until("it is told to stop", func() bool { return runs("1000001") == 0 })
	y.write("web", "HOTINIT_COMMAND=sleep 1000002\nHOTINIT_INTERVAL=1ms\n")
	y.Until("it runs again", func() bool { return runs("1000002") != 0 })
	if pid := runs("1000009"); pid == 0 {
		t.Error("what was left of it has ended before, so that this shows nothing")
	} else {
		y.SignalTo(pid, unix.SIGKILL)
	}
	y.stop(0)
}
