package deploy

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestThePidFileHasHotinitsPID(t *testing.T) {
	s := serving(t, options{sub: true, flags: []string{"--pid-file", "pid"}})
	if text := s.read("pid"); text != strconv.Itoa(s.PID())+"\n" {
		t.Errorf("%q, want %d", text, s.PID())
	}
	s.stop(0)
	if _, err := os.Stat(s.file("pid")); err == nil {
		t.Error("it is left")
	}
}

func TestASecondHotinitWithThePidFileIsRefused(t *testing.T) {
	for name, handoff := range map[string]func(s *site){
		"first handoff": func(*site) {},
		"next handoff":  func(s *site) { s.KillHandoff(); s.status() },
	} {
		t.Run(name, func(t *testing.T) {
			s := serving(t, options{sub: true, flags: []string{"--pid-file", "pid"}})
			handoff(s)
			before := s.read("pid")
			status, text := s.hotinit("hotinit", "--pid-file", "pid", "--", s.path)
			if status != 125 || !strings.Contains(text, "belongs to a hotinit that runs (PID "+strings.TrimSpace(before)) {
				t.Errorf("status %d: %s", status, text)
			}
			if after := s.read("pid"); after != before {
				t.Errorf("the file has %q, it had %q", after, before)
			}
			s.stop(0)
		})
	}
}

func TestAStalePidFileIsTakenOver(t *testing.T) {
	s := serving(t, options{sub: true, flags: []string{"--pid-file", "pid"}, prepare: func(s *site) { s.write("pid", "1\n") }})
	if text := s.read("pid"); text != strconv.Itoa(s.PID())+"\n" {
		t.Errorf("%q, want %d", text, s.PID())
	}
}

func TestTheStatusFileIsInNumericOrder(t *testing.T) {
	s := serving(t, options{flags: []string{"--status-file", "status", "--drain-timeout", "0"}, app: []string{"-term", "ignore"}})
	s.swap("v2")
	s.Answers("v2 generation 2 ")
	s.becomes(1, "retiring")
	if text := s.read("status"); !regexp.MustCompile(`^1:\d+\n2:\d+\n$`).MatchString(text) {
		t.Errorf("%q", text)
	}
}

// Whoever has opened it reads a whole file, for it is replaced and never
// written to.
func TestTheStatusFileIsReplacedAsAWhole(t *testing.T) {
	s := serving(t, options{flags: []string{"--status-file", "status"}})
	old, err := os.Open(s.file("status"))
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	s.swap("v2")
	s.Until("the file names generation 2 alone", func() bool { return strings.HasPrefix(s.read("status"), "2:") })
	b := make([]byte, 64)
	if n, _ := old.Read(b); !strings.HasPrefix(string(b[:n]), "1:") {
		t.Errorf("the old file has %q", b[:n])
	}
	s.stop(0)
	if names, _ := os.ReadDir(s.dir); len(names) != 1 {
		t.Errorf("files are left: %v", names)
	}
}

func TestTheEnvdirIsReadForEachGeneration(t *testing.T) {
	s := open(t, options{
		flags:   []string{"--envdir", "env", "--interval", "0"},
		prepare: func(s *site) { s.write("env/ONE", "1\n"); s.write("env/TWO", "2\n") },
		script:  `echo "$HOTINIT_GENERATION: one ${ONE-unset} two ${TWO-unset}"; exec sleep 1000`,
	})
	s.Line("^1: one 1 two 2$")
	if err := os.Remove(s.file("env/ONE")); err != nil {
		t.Fatal(err)
	}
	s.write("env/TWO", "22\n")
	s.Signal(unix.SIGHUP)
	s.Line("^2: one unset two 22$")
}

func TestTheLogFileHasWhatBothSay(t *testing.T) {
	s := serving(t, options{flags: []string{"--log-file", "log"}})
	s.swap("v2")
	s.Answers("v2 generation 2 ")
	s.contains("log", "app v1 generation 1 ")
	s.contains("log", "hotinit: generation 2 is ready")
	s.stop(0)
	if text := s.Output.String(); text != "" {
		t.Errorf("it says %q elsewhere", text)
	}
}

func TestTheLogFileIsReopenedWhenItWasRotated(t *testing.T) {
	s := serving(t, options{flags: []string{"--log-file", "log"}})
	if err := os.Rename(s.file("log"), s.file("log.1")); err != nil {
		t.Fatal(err)
	}
	s.Signal(unix.SIGHUP)
	s.Answers("v1 generation 2 ")
	s.contains("log", "v1 generation 2 ")
	s.contains("log", "hotinit: generation 2 is ready")
	if strings.Contains(s.read("log.1"), "v1 generation 2 ") {
		t.Errorf("generation 2 writes to the rotated file")
	}
}

func TestTheLogFileIsKeptByTheNextHandoff(t *testing.T) {
	s := serving(t, options{flags: []string{"--log-file", "log"}})
	s.KillHandoff()
	s.contains("log", "hotinit: the handoff was lost")
	s.Signal(unix.SIGHUP)
	s.contains("log", "hotinit: generation 2 is ready")
}

func TestTheLogCommandGetsWhatIsSaid(t *testing.T) {
	s := serving(t, options{flags: []string{"--log-file", "| sed -u 's/^/logged: /' >log"}})
	s.contains("log", "logged: app v1 generation 1 ")
	s.stop(0)
	// It was read to the end.
	if text := s.read("log"); !strings.Contains(text, "gone, with status 0") {
		t.Errorf("the log has %q", text)
	}
}

func TestTheLogCommandIsStartedAgain(t *testing.T) {
	s := serving(t, options{flags: []string{"--log-file", "| cat >>log"}})
	s.contains("log", "app v1 generation 1 ")
	kill := func() {
		for _, p := range s.Processes() {
			if len(p.Args) == 1 && p.Args[0] == "cat" {
				s.SignalTo(p.PID, unix.SIGKILL)
			}
		}
	}
	kill()
	s.contains("log", "hotinit: the command of --log-file")
	s.swap("v2")
	s.contains("log", "app v2 generation 2 ")
	s.KillHandoff()
	s.status()
	kill()
	s.swap("v3")
	s.contains("log", "app v3 generation 3 ")
	s.stop(0)
}
