package swap

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

func TestOnHoldAChangeWaitsAndSurvivesAKilledHandoff(t *testing.T) {
	s := site.Serving(t, site.Options{})
	if status, text := s.Ask("hold"); status != 0 || !strings.Contains(text, "on hold") {
		t.Fatalf("status %d: %s", status, text)
	}
	s.Swap("v2")
	s.Line("a change .* is noted, and not acted on")
	s.KillHandoff()
	s.Until("status tells of it", func() bool {
		_, text := s.Ask("status")
		return strings.Contains(text, "on hold: release ")
	})
	s.Answers("v1 generation 1 ")
	if status, text := s.Ask("resume"); status != 0 || !strings.Contains(text, "generation 2 is being started") {
		t.Errorf("status %d: %s", status, text)
	}
	s.Answers("v2 generation 2 ")
}

func TestAReloadByHandWorksOnHold(t *testing.T) {
	s := site.Serving(t, site.Options{})
	s.Ask("hold")
	if status, text := s.Ask("reload"); status != 0 || !strings.Contains(text, "hotinit stays on hold") {
		t.Errorf("status %d: %s", status, text)
	}
	s.Answers("v1 generation 2 ")
	if status, text := deploy(s, releaseOf(t, "v2")); status != 0 {
		t.Errorf("deploy: status %d: %s", status, text)
	}
	s.Answers("v2 generation 3 ")
}

func TestWaitForReadyASwapAndTheEnd(t *testing.T) {
	s := site.Open(t, site.Options{Flags: []string{"--ready", "notify"}, App: []string{"-ready", "ready"}, Prepare: func(s *site.Site) {}})
	open := box.Fifo(t, s.File("ready"))
	wait := func(args ...string) func() (int, string) {
		c := s.Client(append([]string{"wait", "--timeout", "90"}, args...)...)
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		return func() (int, string) { _ = c.Wait(); return c.ProcessState.ExitCode(), out.String() }
	}
	s.Becomes(1, "candidate") // and so it answers
	ready := wait()
	if status, text := s.Ask("wait", "--timeout", "10ms"); status != 1 || !strings.Contains(text, "in time") {
		t.Errorf("before it is ready: status %d: %s", status, text)
	}
	open()
	if status, text := ready(); status != 0 || text != "generation 1 serves\n" {
		t.Errorf("ready: status %d: %s", status, text)
	}
	if status, text := s.Ask("wait", "--for", "ready"); status != 0 {
		t.Errorf("once it is ready: status %d: %s", status, text)
	}
	if status, text := s.Ask("wait", "--for", "nothing"); status != 125 || !strings.Contains(text, "known: ready, swap, stopped") {
		t.Errorf("status %d: %s", status, text)
	}
	s.Swap("v2", "-ready", s.File("ready"))
	s.Becomes(2, "candidate") // the swap that is under way counts
	if status, text := s.Ask("wait", "--for", "swap", "--timeout", "10ms"); status != 1 {
		t.Errorf("status %d: %s", status, text)
	}
	s.Ask("hold")
	swap := wait("--for", "swap")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if status, text := swap(); status > 1 || !strings.HasPrefix(strings.TrimPrefix(text, "hotinit wait: "), "generation ") {
			t.Errorf("swap: status %d: %s", status, text)
		}
	}()
	open()
	s.Becomes(2, "current")
	s.Swap("v3", "-exit", "9")
	for waits := true; waits; { // it may not have been there for the first one
		s.Ask("reload", "--wait")
		select {
		case <-ended:
			waits = false
		default:
		}
	}
}

func TestWaitForTheEnd(t *testing.T) {
	s := site.Serving(t, site.Options{Sub: true})
	c := s.Client("wait", "--for", "stopped")
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	s.KillHandoff()
	s.Until("the next handoff answers", func() bool { status, _ := s.Ask("health"); return status == 0 })
	s.Stop(0)
	if err := c.Wait(); err != nil || out.String() != "hotinit has ended\n" {
		t.Errorf("%v: %s", err, &out)
	}
}

// TestTheOneHotinitIsFound runs hotinit below another init, as docker run --init does.
func TestTheOneHotinitIsFound(t *testing.T) {
	s := site.Serving(t, site.Options{Before: "trap '' HUP; sleep 1000 & " + box.Hotinit + ` "$@" & wait; exit; true`})
	inside := func(args ...string) (int, string) {
		c := s.Client(args...)
		return site.Finish(t, c)
	}
	if status, text := inside("reload", "--wait"); status != 0 || !strings.Contains(text, "generation 2 is current") {
		t.Errorf("status %d: %s", status, text)
	}
}

// TestATerminalShowsTheSteps has hotinit reload --wait on a pseudo-terminal.
func TestATerminalShowsTheSteps(t *testing.T) {
	s := site.Serving(t, site.Options{})
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("there are no pseudo-terminals here:", err)
	}
	defer master.Close()
	raw, _ := master.SyscallConn()
	number := 0
	_ = raw.Control(func(fd uintptr) {
		_ = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
	})
	if err != nil {
		t.Skip("there are no pseudo-terminals here:", err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("there are no pseudo-terminals here:", err)
	}
	c := s.Client("reload", "--wait")
	c.Stdout, c.Stderr = slave, slave
	if err := c.Run(); err != nil {
		t.Error(err)
	}
	slave.Close()
	text, _ := io.ReadAll(master) // it ends with EIO
	steps := regexp.MustCompile(`(?s)generation 2 is started \(reload\).*generation 2 is ready.*generation 2 is current`)
	if !steps.Match(text) {
		t.Errorf("the terminal shows %q", text)
	}
	if status, text := s.Ask("reload", "--wait"); status != 0 || strings.Contains(text, "is started") {
		t.Errorf("where there is no terminal: status %d: %s", status, text)
	}
}
