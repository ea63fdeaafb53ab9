package swap

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/site"
)

func TestThePidFileHasHotinitsPID(t *testing.T) {
	s := site.Serving(t, site.Options{Sub: true, Flags: []string{"--pid-file", "pid"}})
	if text := s.Read("pid"); text != strconv.Itoa(s.PID())+"\n" {
		t.Errorf("%q, want %d", text, s.PID())
	}
	s.Stop(0)
	if _, err := os.Stat(s.File("pid")); err == nil {
		t.Error("it is left")
	}
}

func TestASecondHotinitWithThePidFileIsRefused(t *testing.T) {
	for name, handoff := range map[string]func(s *site.Site){
		"first handoff": func(*site.Site) {},
		"next handoff":  func(s *site.Site) { s.KillHandoff(); s.Status() },
	} {
		t.Run(name, func(t *testing.T) {
			s := site.Serving(t, site.Options{Sub: true, Flags: []string{"--pid-file", "pid"}})
			handoff(s)
			before := s.Read("pid")
			status, text := s.Hotinit("hotinit", "--pid-file", "pid", "--", s.Path)
			if status != 125 || !strings.Contains(text, "belongs to a hotinit that runs (PID "+strings.TrimSpace(before)) {
				t.Errorf("status %d: %s", status, text)
			}
			if after := s.Read("pid"); after != before {
				t.Errorf("the file has %q, it had %q", after, before)
			}
			s.Stop(0)
		})
	}
}

func TestAStalePidFileIsTakenOver(t *testing.T) {
	s := site.Serving(t, site.Options{Sub: true, Flags: []string{"--pid-file", "pid"}, Prepare: func(s *site.Site) { s.Write("pid", "1\n") }})
	if text := s.Read("pid"); text != strconv.Itoa(s.PID())+"\n" {
		t.Errorf("%q, want %d", text, s.PID())
	}
}

func TestTheStatusFileIsInNumericOrder(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--status-file", "status", "--drain-timeout", "0"}, App: []string{"-term", "ignore"}})
	s.Swap("v2")
	s.Answers("v2 generation 2 ")
	s.Becomes(1, "retiring")
	if text := s.Read("status"); !regexp.MustCompile(`^1:\d+\n2:\d+\n$`).MatchString(text) {
		t.Errorf("%q", text)
	}
}

// Whoever has opened it reads a whole file, for it is replaced and never
// written to.
func TestTheStatusFileIsReplacedAsAWhole(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--status-file", "status"}})
	old, err := os.Open(s.File("status"))
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	s.Swap("v2")
	s.Until("the file names generation 2 alone", func() bool { return strings.HasPrefix(s.Read("status"), "2:") })
	b := make([]byte, 64)
	if n, _ := old.Read(b); !strings.HasPrefix(string(b[:n]), "1:") {
		t.Errorf("the old file has %q", b[:n])
	}
	s.Stop(0)
	if names, _ := os.ReadDir(s.Dir); len(names) != 1 {
		t.Errorf("files are left: %v", names)
	}
}

func TestTheEnvdirIsReadForEachGeneration(t *testing.T) {
	s := site.Open(t, site.Options{
		Flags:   []string{"--envdir", "env", "--interval", "0"},
		Prepare: func(s *site.Site) { s.Write("env/ONE", "1\n"); s.Write("env/TWO", "2\n") },
		Script:  `echo "$HOTINIT_GENERATION: one ${ONE-unset} two ${TWO-unset}"; exec sleep 1000`,
	})
	s.Line("^1: one 1 two 2$")
	if err := os.Remove(s.File("env/ONE")); err != nil {
		t.Fatal(err)
	}
	s.Write("env/TWO", "22\n")
	s.Signal(unix.SIGHUP)
	s.Line("^2: one unset two 22$")
}

func TestTheLogFileHasWhatBothSay(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--log-file", "log"}})
	s.Swap("v2")
	s.Answers("v2 generation 2 ")
	s.Contains("log", "app v1 generation 1 ")
	s.Contains("log", "hotinit: generation 2 is ready")
	s.Stop(0)
	if text := s.Output.Text(); text != "" {
		t.Errorf("it says %q elsewhere", text)
	}
}

func TestTheLogFileIsReopenedWhenItWasRotated(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--log-file", "log"}})
	if err := os.Rename(s.File("log"), s.File("log.1")); err != nil {
		t.Fatal(err)
	}
	s.Signal(unix.SIGHUP)
	s.Answers("v1 generation 2 ")
	s.Contains("log", "v1 generation 2 ")
	s.Contains("log", "hotinit: generation 2 is ready")
	if strings.Contains(s.Read("log.1"), "v1 generation 2 ") {
		t.Errorf("generation 2 writes to the rotated file")
	}
}

func TestTheLogFileIsKeptByTheNextHandoff(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--log-file", "log"}})
	s.KillHandoff()
	s.Contains("log", "hotinit: the handoff was lost")
	s.Signal(unix.SIGHUP)
	s.Contains("log", "hotinit: generation 2 is ready")
}

func TestTheLogCommandGetsWhatIsSaid(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--log-file", "| sed -u 's/^/logged: /' >log"}})
	s.Contains("log", "logged: app v1 generation 1 ")
	s.Stop(0)
	// It was read to the end.
	if text := s.Read("log"); !strings.Contains(text, "gone, with status 0") {
		t.Errorf("the log has %q", text)
	}
}

func TestTheLogCommandIsStartedAgain(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--log-file", "| cat >>log"}})
	s.Contains("log", "app v1 generation 1 ")
	kill := func() {
		for _, p := range s.Processes() {
			if len(p.Args) == 1 && p.Args[0] == "cat" {
				s.SignalTo(p.PID, unix.SIGKILL)
			}
		}
	}
	kill()
	s.Contains("log", "hotinit: the command of --log-file")
	s.Swap("v2")
	s.Contains("log", "app v2 generation 2 ")
	s.KillHandoff()
	s.Status()
	kill()
	s.Swap("v3")
	s.Contains("log", "app v3 generation 3 ")
	s.Stop(0)
}

// It ends at once, again and again: each start waits longer than the one before.
func TestTheLogCommandIsStartedAfterGrowingDelays(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--log-file", "| sh ends"}, Prepare: func(s *site.Site) {
		s.Write("ends", "date +%s%N >>started\n")
	}})
	var times []string
	s.Until("it was started six times", func() bool {
		times = strings.Fields(s.Read("started"))
		return len(times) >= 6
	})
	first, err := strconv.ParseInt(times[0], 10, 64)
	sixth, err2 := strconv.ParseInt(times[5], 10, 64)
	if err != nil || err2 != nil {
		t.Fatal(times)
	}
	if took := time.Duration(sixth - first); took < 1400*time.Millisecond {
		t.Errorf("it was started six times in %v", took)
	}
	s.Stop(0)
}

// A log command that is gone is looked for again from time to time, and not as
// fast as the processor can; when it is back it gets what waited.
func TestALogCommandThatIsGoneIsTriedAgain(t *testing.T) {
	for name, lose := range map[string]func(s *site.Site){
		"it ends":                 func(*site.Site) {},
		"and so does the handoff": func(s *site.Site) { s.KillHandoff() },
	} {
		t.Run(name, func(t *testing.T) {
			s := site.Serving(t, site.Options{Flags: []string{"--log-file", "|./logger log"}, Prepare: func(s *site.Site) {
				s.Write("logger", "#!/bin/sh\nexec cat >>\"$1\"\n")
				os.Chmod(s.File("logger"), 0o755)
			}})
			s.Contains("log", "app v1 generation 1 ")
			if err := os.Rename(s.File("logger"), s.File("gone")); err != nil {
				t.Fatal(err)
			}
			lose(s)
			for _, p := range s.Processes() {
				if len(p.Args) == 1 && p.Args[0] == "cat" {
					s.SignalTo(p.PID, unix.SIGKILL)
				}
			}
			s.Line("the command of --log-file cannot be started: .*; it is tried again")
			s.Swap("v2")
			s.Answers("v2 generation 2 ")
			before := cpu(t, s.Handoff().PID)
			status := s.Status()
			if len(status.Generations) == 0 {
				t.Error("no generation is left")
			}
			if err := os.Rename(s.File("gone"), s.File("logger")); err != nil {
				t.Fatal(err)
			}
			s.Contains("log", "app v2 generation 2 ")
			if used := cpu(t, s.Handoff().PID) - before; used > 50 {
				t.Errorf("the handoff used %d ticks of the processor meanwhile", used)
			}
			s.Stop(0)
		})
	}
}

// cpu returns the processor time of a process, in ticks of 10 ms.
func cpu(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return user + system
}

// The last handoff's log command ended with it, and cannot be started any more.
func TestAHandoffGoesOnWithoutTheLogCommand(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--log-file", "|./logger log"}, Prepare: func(s *site.Site) {
		s.Write("logger", "#!/bin/sh\nexec cat >>\"$1\"\n")
		os.Chmod(s.File("logger"), 0o755)
	}})
	s.Contains("log", "app v1 generation 1 ")
	if err := os.Remove(s.File("logger")); err != nil {
		t.Fatal(err)
	}
	s.SignalTo(s.Handoff().PID, unix.SIGSTOP) // it can't see the end of the command
	for _, p := range s.Processes() {
		if len(p.Args) == 1 && p.Args[0] == "cat" {
			s.SignalTo(p.PID, unix.SIGKILL)
		}
	}
	s.KillHandoff()
	s.Line("the command of --log-file cannot be started: .*; it is tried again")
	s.Swap("v2")
	s.Answers("v2 generation 2 ")
	s.Stop(0)
}
