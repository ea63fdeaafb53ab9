package programs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// sh is a file of a program that a shell runs.
func sh(script string, settings ...string) string {
	return fmt.Sprintf("HOTINIT_COMMAND=[\"/bin/sh\",\"-c\",%q]\nHOTINIT_INTERVAL=10ms\n%s\n", script, strings.Join(settings, "\n"))
}

// say waits for so many lines of programs that start side by side, in any order.
func (y *yard) say(pattern string, lines int) {
	y.t.Helper()
	y.Until(fmt.Sprintf("there are %d lines like %q", lines, pattern), func() bool { return y.Output.Count(regexp.MustCompile(pattern)) == lines })
}

// lives says when it starts, and when it is told to end.
func lives(name string) string {
	return "trap 'echo " + name + " ends; exit 0' TERM; echo " + name + " runs; while :; do sleep 1000 & wait $!; done"
}

// said are the lines that programs have printed, without hotinit's own.
func (y *yard) said() (lines []string) {
	for _, line := range y.Output.All() {
		if !strings.HasPrefix(line, "hotinit") {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestProgramsStartInOrderAndStopInReverse(t *testing.T) {
	y := open(t, map[string]string{
		"web":     sh(lives("web"), "HOTINIT_AFTER=db, migrate"),
		"migrate": sh("echo migrate runs", "HOTINIT_RUN=once", "HOTINIT_AFTER=db"),
		"db":      sh(lives("db")),
		"lost":    sh(lives("lost"), "HOTINIT_AFTER=nosuch"),
		"a":       sh(lives("a"), "HOTINIT_AFTER=b"),
		"b":       sh(lives("b"), "HOTINIT_AFTER=a"),
	})
	y.Line("^web runs")
	y.stop(0)
	if got, want := y.said(), []string{"db runs", "migrate runs", "web runs", "web ends", "db ends"}; !slices.Equal(got, want) {
		t.Errorf("%q, not %q; output:\n%s", got, want, y.Output)
	}
	for _, line := range []string{
		"lost is not started: HOTINIT_AFTER names nosuch, of which there is no file",
		"a: HOTINIT_AFTER leads in a circle",
	} {
		if y.Output.Count(regexp.MustCompile(regexp.QuoteMeta(line))) != 1 {
			t.Errorf("not said once: %s; output:\n%s", line, y.Output)
		}
	}
}

// A program whose file gets another HOTINIT_AFTER runs on, and is stopped by its new place.
func TestAnotherPlaceDoesNotReplaceWhatRuns(t *testing.T) {
	y := open(t, map[string]string{"web": sh(lives("web")), "db": sh(lives("db"))})
	y.say("^(web|db) runs$", 2)
	y.write("web", sh(lives("web"), "HOTINIT_AFTER=db nosuch"))
	y.Until("the new place is seen", func() bool {
		_, text := y.ask("status", "web")
		return strings.Contains(text, "the next start waits for nosuch")
	})
	y.KillHandoff()
	y.write("web", sh(lives("web"), "HOTINIT_AFTER=db"))
	y.Until("the last place is seen", func() bool {
		_, text := y.ask("status", "web")
		return strings.Contains(text, "generation 1") && !strings.Contains(text, "nosuch")
	})
	y.stop(0)
	got := y.said()
	slices.Sort(got[:2]) // they start side by side
	if want := []string{"db runs", "web runs", "web ends", "db ends"}; !slices.Equal(got, want) {
		t.Errorf("%q, not %q; output:\n%s", got, want, y.Output)
	}
}

// The command beside the files has a place among them: its name is app.
func TestTheCommandIsStoppedInOrder(t *testing.T) {
	y := open(t, map[string]string{"after": sh(lives("after"), "HOTINIT_AFTER=app"), "other": sh(lives("other"))},
		"--interval", "10ms", "--", "/bin/sh", "-c", lives("app"))
	y.say("^(app|after|other) runs$", 3)
	y.KillHandoff()
	y.Until("the next handoff answers", func() bool { code, _ := y.ask("status"); return code == 0 })
	y.stop(0)
	got := slices.DeleteFunc(y.said(), func(line string) bool { return strings.HasPrefix(line, "other") })
	if want := []string{"app runs", "after runs", "after ends", "app ends"}; !slices.Equal(got, want) {
		t.Errorf("%q, not %q; output:\n%s", got, want, y.Output)
	}
}

func TestAFileMendsACircleAndAnUnknownName(t *testing.T) {
	y := open(t, map[string]string{
		"lost": sh(lives("lost"), "HOTINIT_AFTER=late"),
		"a":    sh(lives("a"), "HOTINIT_AFTER=b"),
		"b":    sh(lives("b"), "HOTINIT_AFTER=a"),
	})
	y.Line("leads in a circle")
	y.Line("lost is not started")
	y.write("late", sh(lives("late")))
	y.say("^(late|lost) runs$", 2)
	y.write("b", sh(lives("b")))
	y.say("^[ab] runs$", 2)
	y.stop(0)
}

func TestAnEssentialProgramEndsAllWithItsStatus(t *testing.T) {
	y := open(t, map[string]string{
		"db":  sh(lives("db")),
		"web": sh("echo web runs; read x <&3; exit 7", "HOTINIT_AFTER=db", "HOTINIT_ON_EXIT=exit", "HOTINIT_ESSENTIAL=yes", "HOTINIT_READY=interval"),
	})
	if status := y.Wait(); status != 7 {
		t.Errorf("hotinit ended with %d", status)
	}
	if got, want := y.said(), []string{"db runs", "web runs", "db ends"}; !slices.Equal(got, want) && !slices.Contains(got, "db ends") {
		t.Errorf("%q, not %q; output:\n%s", got, want, y.Output)
	}
}

func TestAnEssentialOnceProgramThatFailsForGoodEndsAll(t *testing.T) {
	y := open(t, map[string]string{
		"migrate": sh("echo try; exit 9", "HOTINIT_RUN=once", "HOTINIT_RETRIES=1", "HOTINIT_ESSENTIAL=yes"),
		"web":     sh(lives("web"), "HOTINIT_AFTER=migrate"),
		"db":      sh(lives("db")),
	})
	if status := y.Wait(); status != 9 {
		t.Errorf("hotinit ended with %d", status)
	}
	if got := y.said(); slices.Contains(got, "web runs") || y.Output.Count(regexp.MustCompile("^try")) != 2 {
		t.Errorf("%q", got)
	}
}

func TestAOnceProgramIsRunAgainByItsFileAndNotByAKilledHandoff(t *testing.T) {
	y := open(t, map[string]string{
		"migrate": sh("echo migrate 1", "HOTINIT_RUN=once"),
		"web":     sh(lives("web"), "HOTINIT_AFTER=migrate"),
	})
	y.Line("^migrate 1")
	y.Line("^web runs")
	handoff := y.Handoff().PID
	y.KillHandoff()
	y.Until("another handoff is at work", func() bool { return y.Handoff().PID != handoff })
	y.write("migrate", sh("echo migrate 2", "HOTINIT_RUN=once"))
	y.Line("^migrate 2")
	y.stop(0)
	if got, want := y.said(), []string{"migrate 1", "web runs", "migrate 2", "web ends"}; !slices.Equal(got, want) {
		t.Errorf("%q, not %q; output:\n%s", got, want, y.Output)
	}
}

func TestAHandoffThatIsKilledWhileProgramsStopGoesOn(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "go")
	y := open(t, map[string]string{
		"db":    sh(lives("db")),
		"web":   sh("trap 'echo web ends; cat "+fifo+"; exit 0' TERM; echo web runs; while :; do sleep 1000 & wait $!; done", "HOTINIT_AFTER=db"),
		"quick": sh(lives("quick")),
	})
	letGo := box.Fifo(t, fifo)
	// In either order.
	both := func(first, second string) {
		for _, pattern := range []string{first, second} {
			says := regexp.MustCompile(pattern)
			y.Until("it says "+pattern, func() bool { return y.Output.Count(says) > 0 })
		}
	}
	both("^web runs", "^quick runs")
	y.Signal(15)
	both("^web ends", "^quick ends")
	y.Until("quick has ended", func() bool {
		return !slices.ContainsFunc(y.Processes(), func(p box.Process) bool { return strings.Contains(strings.Join(p.Args, " "), "quick runs") })
	})
	handoff := y.Handoff().PID
	y.KillHandoff()
	y.Until("another handoff is at work", func() bool { return y.Handoff().PID != handoff })
	letGo()
	if status := y.Wait(); status != 0 {
		t.Errorf("hotinit ended with %d", status)
	}
	got := y.said()
	if got[len(got)-1] != "db ends" {
		t.Errorf("%q", got)
	}
	if strings.Count(strings.Join(got, "\n"), "quick runs") != 1 {
		t.Errorf("what had ended was started again: %q", got)
	}
}

func TestAScheduledProgramRunsAtItsTicksAndNeverTwiceAtATime(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "go")
	letGo := box.Fifo(t, fifo)
	y := open(t, map[string]string{
		"job": sh("echo job runs; cat "+fifo+"; echo job ends", "HOTINIT_SCHEDULE=@every 1s"),
	})
	y.Line("^job runs")
	y.Line("job is due, and the run before has not ended")
	handoff := y.Handoff().PID
	y.KillHandoff()
	y.Until("another handoff is at work", func() bool { return y.Handoff().PID != handoff })
	y.Line("job is due, and the run before has not ended")
	letGo()
	y.Line("^job ends")
	y.Line("^job runs")
	y.remove("job")
	y.Line("job: is gone")
	y.stop(0)
}

func TestAProgramThatOverstaysIsEnded(t *testing.T) {
	y := open(t, map[string]string{
		"job": sh("trap '' TERM; echo job runs; while :; do sleep 1000; done", "HOTINIT_RUN=once", "HOTINIT_MAX_RUNTIME=300ms", "HOTINIT_DRAIN_TIMEOUT=300ms", "HOTINIT_STOP_TIMEOUT=300ms", "HOTINIT_RETRIES=1"),
	})
	y.Line("job: generation 1 has run for 300ms.*told to go")
	y.Line("job: generation 1 did not end in 300ms; it is killed")
	y.Line("job: generation 1 killed by signal 9 .SIGKILL..*; it is tried again in 1s")
	y.Line("^job runs")
	y.stop(0)
}

func TestADeathThatHotinitDidNotCauseIsSaid(t *testing.T) {
	y := open(t, map[string]string{"job": sh("echo job runs; kill -9 $$")})
	y.Line("killed by signal 9 .SIGKILL., (neither by hotinit nor|perhaps) by the out-of-memory killer")
	y.stop(0)
}

func TestAFirstStartThatFailsIsTriedAgainAfterGrowingDelays(t *testing.T) {
	y := open(t, map[string]string{"web": "HOTINIT_COMMAND=sh -c \"exit 1\"\nHOTINIT_INTERVAL=1h\n"})
	for _, delay := range []string{"100ms", "200ms", "400ms"} {
		y.Line("web: generation .* failed.*tried again in " + delay)
	}
	y.stop(0)
}

func TestStartsAreSpacedAndBounded(t *testing.T) {
	files := make(map[string]string)
	for _, name := range []string{"p0", "p1", "p2", "p3"} {
		files[name] = sh("echo "+name+"; exec sleep 1000", "HOTINIT_READY=fd:9")
	}
	y := open(t, files, "--max-starts", "2", "--start-spacing", "50ms")
	y.say("^p[01]$", 2)
	y.write("p0", sh("echo p0 again; exec sleep 1000"))
	y.say("^(p0 again|p2)$", 2)
	if n := y.Output.Count(regexp.MustCompile("^p[0-3]$")); n != 3 {
		t.Errorf("%d were started, and two of them are not ready; output:\n%s", n, y.Output)
	}
	y.stop(0)
}

func TestTheEndOfAProgramEndsNoCheckOfAnother(t *testing.T) {
	dir := t.TempDir()
	check, end, begun := filepath.Join(dir, "check"), filepath.Join(dir, "end"), filepath.Join(dir, "begun")
	passCheck, endJob := box.Fifo(t, check), box.Fifo(t, end)
	y := open(t, map[string]string{
		"web":  sh(lives("web"), "HOTINIT_CHECK=sh -c 'touch "+begun+"; cat "+check+"'"),
		"job":  sh("cat "+end+"; echo job ends", "HOTINIT_RUN=once"),
		"next": sh("echo next runs", "HOTINIT_RUN=once", "HOTINIT_AFTER=job"),
	})
	y.Until("the check runs", func() bool { _, err := os.Stat(begun); return err == nil })
	endJob()
	y.Line("^job ends")
	y.Line("^next runs") // so what the job left was looked for
	passCheck()
	y.Line("^web runs")
	y.stop(0)
	if n := y.Output.Count(regexp.MustCompile("web: generation .* failed")); n != 0 {
		t.Errorf("the check was ended; output:\n%s", y.Output)
	}
}

func TestAProgramThatRunsSaysWhatItsNextStartWaitsFor(t *testing.T) {
	y := open(t, map[string]string{"web": sh(lives("web")), "db": sh(lives("db"))})
	y.say("^(web|db) runs$", 2)
	y.Until("web serves", func() bool { return y.row("web").State == "serving" })
	y.write("web", sh(lives("web"), "HOTINIT_AFTER=db, migarte"))
	y.Line("web: HOTINIT_AFTER names migarte, of which there is no file; it runs on, and waits for it at the next start")
	if why := "the next start waits for migarte, of which there is no file"; !strings.Contains(y.row("web").Reason, why) {
		t.Errorf("the row of web is %+v", y.row("web"))
	} else if _, text := y.ask("status", "web"); !strings.Contains(text, "order: "+why) {
		t.Errorf("status web:\n%s", text)
	}
	if code, text := y.ask("stop", "web"); code != 0 {
		t.Errorf("stop: %d, %s", code, text)
	}
	y.Until("web is stopped", func() bool { return y.row("web").State == "stopped by hand" })
	for range 2 {
		if code, text := y.ask("start", "web"); code != 1 || !strings.Contains(text, "program web waits for migarte, of which there is no file") {
			t.Errorf("start: %d, %s", code, text)
		}
	}
	y.write("migarte", sh("", "HOTINIT_RUN=once"))
	y.Until("web serves", func() bool { return y.row("web").State == "serving" })
	y.stop(0)
}
