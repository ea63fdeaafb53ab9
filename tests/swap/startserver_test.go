package swap

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

const name = "start_server"

func TestStartServerReplacesADeadWorker(t *testing.T) {
	s := site.Serving(t, site.Options{Name: name, Flags: []string{"--interval", "0"}})
	s.Die(3)
	s.Answers("v1 generation 2 ")
	s.Stop(0)
}

func TestStartServerTriesAFailedFirstStartAgainEachInterval(t *testing.T) {
	s := site.Open(t, site.Options{Name: name, Flags: []string{"--interval", "1"}, App: []string{"-exit", "7"}})
	s.Line(`generation 1 failed.*: exited with status 7.*; it is tried again in 1s`)
	s.Line(`generation 2 failed.*: exited with status 7.*; it is tried again in 1s`)
	s.Swap("v2")
	s.Answers("v2 generation ")
	s.Stop(0)
}

func TestStartServerSendsTERMForINT(t *testing.T) {
	s := site.Serving(t, site.Options{Name: name, Flags: []string{"--interval", "0"}})
	s.Signal(unix.SIGINT)
	s.Line("told to go") // which the application says of TERM
	s.Ends(0)
}

func TestStartServerSendsTheSignalsItIsTold(t *testing.T) {
	s := site.Open(t, site.Options{Name: name, Flags: []string{"--interval", "0", "--signal-on-hup", "USR1", "--signal-on-term", "USR2"}, Script: `
trap 'echo "$SERVER_STARTER_GENERATION got USR1"; exit 0' USR1
trap 'echo "$SERVER_STARTER_GENERATION got USR2"; exit 0' USR2
echo "begun $SERVER_STARTER_GENERATION"
sleep 1000 & wait`})
	s.Line("^begun 1$")
	s.Signal(unix.SIGHUP)
	s.Line("^1 got USR1$")
	s.Until("generation 2 has begun", func() bool { return strings.Contains(s.Output.Text(), "begun 2") })
	s.Signal(unix.SIGTERM)
	s.Line("^2 got USR2$")
	s.Ends(0)
}

func TestStartServerSetsItsVariableThoughThereIsNoPort(t *testing.T) {
	s := site.Open(t, site.Options{Name: name, NoPort: true, Script: `echo "port [${SERVER_STARTER_PORT-unset}]"; exec sleep 1000`})
	s.Line(`^port \[\]$`)
}

func TestWithoutItsNameTheVariableIsUnsetWithoutPorts(t *testing.T) {
	s := site.Open(t, site.Options{NoPort: true, Script: `echo "port [${SERVER_STARTER_PORT-unset}]"; exec sleep 1000`})
	s.Line(`^port \[unset\]$`)
}

func TestStartServerDoesNotWatch(t *testing.T) {
	s := site.Serving(t, site.Options{Name: name, Flags: []string{"--interval", "0"}})
	s.Swap("v2")
	s.Signal(unix.SIGHUP)
	s.Answers("v2 generation 2 ")
}

func TestStartServerRestartsFromTimeToTime(t *testing.T) {
	s := site.Serving(t, site.Options{Name: name, Flags: []string{"--interval", "0", "--enable-auto-restart", "--auto-restart-interval", "1", "--kill-old-delay", "0"}})
	s.Answers("v1 generation 3 ")
	s.Stop(0)
}

func TestStartServerPrintsItsHelpAndVersion(t *testing.T) {
	s := &site.Site{T: t, Dir: t.TempDir()}
	for flag, want := range map[string]string{"--help": "--kill-old-delay", "--version": "(hotinit "} {
		if status, text := s.Hotinit(name, flag); status != 0 || !strings.Contains(text, want) {
			t.Errorf("%s: %d: %s", flag, status, text)
		}
	}
}

var files = []string{"--pid-file", "pid", "--status-file", "status"}

func TestRestartReturnsOnceOnlyTheNewGenerationIsLeft(t *testing.T) {
	s := site.Serving(t, site.Options{Name: name, Sub: true, Flags: append(files, "--interval", "0")})
	s.Contains("status", "1:") // the file is written beside the start
	if status, text := s.Hotinit(name, append(files, "--restart")...); status != 0 {
		t.Fatalf("status %d: %s", status, text)
	}
	if text := s.Read("status"); !strings.HasPrefix(text, "2:") || strings.Count(text, "\n") != 1 {
		t.Errorf("the status file has %q", text)
	}
	s.Answers("v1 generation 2 ")
	s.Stop(0)
}

func TestRestartTellsThatTheNewGenerationFailed(t *testing.T) {
	s := site.Serving(t, site.Options{Name: name, Sub: true, Flags: append(files, "--interval", "1")})
	s.Contains("status", "1:")
	s.Swap("v2", "-exit", "9")
	status, text := s.Hotinit(name, append(files, "--restart")...)
	if status != 1 || !strings.Contains(text, "exited with status 9") {
		t.Errorf("status %d: %s", status, text)
	}
	s.Answers("v1 generation 1 ")
}

func TestRestartCanBeInterrupted(t *testing.T) {
	s := site.Serving(t, site.Options{Name: name, Sub: true, Flags: append(files, "--interval", "1000")})
	s.Contains("status", "1:")
	s.Swap("v2", "-ready", "never")
	c := &exec.Cmd{Path: box.Hotinit, Args: append([]string{name}, append(files, "--restart")...), Dir: s.Dir, Env: box.Environment()}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	s.Becomes(2, "candidate")
	interrupted(t, c)
	s.Answers("v1 generation")
}

func TestRestartOfNothing(t *testing.T) {
	s := &site.Site{T: t, Dir: t.TempDir()}
	if status, text := s.Hotinit(name, append(files, "--restart")...); status != 1 || !strings.Contains(text, "cannot restart") {
		t.Errorf("status %d: %s", status, text)
	}
}

func TestStopReturnsOnceHotinitHasEnded(t *testing.T) {
	s := site.Serving(t, site.Options{Name: name, Sub: true, Flags: append(files, "--interval", "0")})
	if status, text := s.Hotinit(name, append(files, "--stop")...); status != 0 {
		t.Fatalf("status %d: %s", status, text)
	}
	s.Ends(0)
	for _, file := range []string{"pid", "status"} {
		if _, err := os.Stat(s.File(file)); err == nil {
			t.Errorf("the %s file is left", file)
		}
	}
}

// daemon starts one, and stops it in the end.
func daemon(t *testing.T, flags ...string) (s *site.Site, status int, output string) {
	t.Helper()
	t.Parallel()
	dir := t.TempDir()
	s = &site.Site{T: t, Dir: dir, Path: dir + "/server", Address: box.Address()}
	box.Install(t, s.Path, "v1")
	flags = append(append(files, "--daemonize", "--log-file", "log", "--interval", "0", "--port", s.Address), flags...)
	t.Cleanup(func() {
		if s.Read("pid") != "" {
			if status, text := s.Hotinit(name, append(files, "--stop")...); status != 0 {
				t.Errorf("cannot stop it: %d: %s", status, text)
			}
		}
	})
	status, output = s.Hotinit(name, append(flags, "--", s.Path)...)
	return s, status, output
}

func TestADaemonListensOnceItsStarterReturns(t *testing.T) {
	s, status, output := daemon(t)
	if status != 0 {
		t.Fatalf("status %d: %s", status, output)
	}
	c, err := net.Dial("tcp", s.Address)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := box.Answers(s.Address, "v1 generation 1 "); err != nil {
		t.Fatal(err)
	}
}

func TestADaemonHasASessionAndNoTerminal(t *testing.T) {
	s, _, output := daemon(t)
	pid, err := strconv.Atoi(strings.TrimSpace(s.Read("pid")))
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("the session of process %d is %d, %v", pid, sid, err)
	}
	for fd, want := range []string{"/dev/null", s.File("log"), s.File("log")} {
		if got, _ := os.Readlink("/proc/" + strconv.Itoa(pid) + "/fd/" + strconv.Itoa(fd)); got != want {
			t.Errorf("descriptor %d is %s, want %s", fd, got, want)
		}
	}
}

func TestTheAppOfADaemonIsNotToldOfIt(t *testing.T) {
	s, _, _ := daemon(t)
	if _, err := box.Answers(s.Address, "v1"); err != nil {
		t.Fatal(err)
	}
	if body, err := box.Get(s.Address, "/given"); err != nil || strings.Contains(body, "_HOTINIT") {
		t.Errorf("%v: %s", err, body)
	}
}

func TestADaemonThatCannotStartIsToldOfAtOnce(t *testing.T) {
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	s, status, output := daemon(t, "--port", held.Addr().String())
	if status != 125 || !strings.Contains(output, "in use") {
		t.Errorf("status %d: %s", status, output)
	}
	if text := s.Read("pid"); text != "" {
		t.Errorf("the pid file has %q", text)
	}
}

func TestPID1IsNoDaemon(t *testing.T) {
	s := site.Open(t, site.Options{Flags: []string{"--daemonize", "--log-file", "log"}})
	s.Line("--daemonize: this is PID 1")
	s.Ends(125)
}
