package swap

import (
	"bufio"
	"github.com/hotinit/hotinit/internal/testkit/site"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestStatusForAPerson(t *testing.T) {
	s := site.Serving(t, site.Options{})
	s.Becomes(1, "current")
	status, text := s.Ask("status")
	if status != 0 || !strings.Contains(text, "serving: "+s.Path+"  ("+s.Address+")") || !strings.Contains(text, "generation 1  current") {
		t.Errorf("status %d:\n%s", status, text)
	}
}

func TestStatusWatchTellsOfASwap(t *testing.T) {
	s := site.Serving(t, site.Options{})
	c := s.Client("status", "--watch")
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	defer c.Process.Kill()
	lines := bufio.NewScanner(out)
	find := func(text string) {
		for lines.Scan() {
			if strings.Contains(lines.Text(), text) {
				return
			}
		}
		t.Fatalf("%q was not told", text)
	}
	find("generation 1  current")
	s.Swap("v2")
	find("generation 2  current")
}

func TestCtrlCEndsStatusWatch(t *testing.T) {
	s := site.Serving(t, site.Options{Sub: true})
	c := s.Client("status", "--watch")
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if !bufio.NewScanner(out).Scan() {
		t.Error("it tells nothing")
	}
	interrupted(t, c)
}

// interrupted sends SIGINT to a command and sees it end by that, or with its
// status.
func interrupted(t *testing.T, c *exec.Cmd) {
	t.Helper()
	if err := c.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
	if ws := c.ProcessState.Sys().(syscall.WaitStatus); ws.Signal() != unix.SIGINT && ws.ExitStatus() != 130 {
		t.Errorf("it was interrupted: %v", c.ProcessState)
	}
}

func TestReloadWaitsForTheSwap(t *testing.T) {
	s := site.Serving(t, site.Options{})
	status, text := s.Ask("reload", "--wait")
	if status != 0 || !strings.HasPrefix(text, "generation 2 is current (release ") {
		t.Errorf("status %d: %s", status, text)
	}
	s.Answers("v1 generation 2 ")
}

func TestReloadTellsWhyTheReleaseWasRejected(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--no-watch"}})
	s.Swap("v2", "-exit", "9")
	status, text := s.Ask("reload", "--wait")
	if status != 1 || !strings.Contains(text, "exited with status 9") {
		t.Errorf("status %d: %s", status, text)
	}
	s.Answers("v1 generation 1 ")
}

func TestReloadWithoutWaitingReturnsAtOnce(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--ready", "notify", "--no-watch"}})
	s.Swap("v2", "-ready", "never")
	status, text := s.Ask("reload")
	if status != 0 || text != "generation 2 is being started\n" {
		t.Errorf("status %d: %s", status, text)
	}
}

func TestStopBySubcommand(t *testing.T) {
	s := site.Serving(t, site.Options{App: []string{"-status", "6"}})
	if status, text := s.Ask("stop"); status != 0 {
		t.Errorf("status %d: %s", status, text)
	}
	s.Ends(6)
}

func TestHealth(t *testing.T) {
	s := site.Serving(t, site.Options{})
	if status, text := s.Ask("health"); status != 0 || text != "generation 1 serves\n" {
		t.Errorf("status %d: %s", status, text)
	}
}

func TestHealthBeforeAnythingServes(t *testing.T) {
	s := site.Open(t, site.Options{Flags: []string{"--ready", "notify"}, Script: "echo begun; exec sleep 1000"})
	s.Line("^begun$")
	s.Becomes(1, "candidate")
	if status, text := s.Ask("health"); status != 1 || !strings.Contains(text, "no generation serves") {
		t.Errorf("status %d: %s", status, text)
	}
}

func TestOthersAreRefused(t *testing.T) {
	s := site.Serving(t, site.Options{})
	s.User = []string{"--setuid", "65534", "--setgid", "65534"}
	status, text := s.Ask("stop")
	if status != 1 || !strings.Contains(text, "not allowed") {
		t.Errorf("status %d: %s", status, text)
	}
	s.Answers("v1 generation 1 ")
}

func TestSubcommandsFindAHotinitThatIsNotPID1(t *testing.T) {
	s := site.Serving(t, site.Options{Sub: true})
	if status, text := s.Ask("reload", "--wait"); status != 0 {
		t.Errorf("status %d: %s", status, text)
	}
	s.Answers("v1 generation 2 ")
	s.Stop(0)
}

func TestNobodyIsThereToAnswer(t *testing.T) {
	s := site.Serving(t, site.Options{Sub: true})
	if status, text := s.Hotinit("hotinit", "status", "--pid", "2147483647"); status != 125 || !strings.Contains(text, "is not hotinit, or does not answer") {
		t.Errorf("status %d: %s", status, text)
	}
}

func TestAReleaseThatWaitsSurvivesAKilledHandoff(t *testing.T) {
	s := site.Serving(t, site.Options{})
	s.KillHandoff()
	s.Until("the next handoff answers", func() bool {
		status, _ := s.Ask("health")
		return status == 0
	})
}
