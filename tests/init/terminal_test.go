package inits

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// terminal is a pseudo-terminal, as docker run -it gives one to a container:
// PID 1 leads a session whose controlling terminal it is.
type terminal struct {
	t      *testing.T
	master *os.File
	slave  *os.File
	output *box.Lines // what is written to it
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("there are no pseudo-terminals:", err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, master: master, slave: slave, output: box.NewLines()}
	read := make(chan struct{})
	go func() {
		defer close(read)
		io.Copy(term.output, master)
		term.output.End()
	}()
	t.Cleanup(func() {
		slave.Close() // the last end: reading the other one fails then
		<-read
		master.Close()
	})
	return term
}

// start starts an init on the terminal. What it and the app write comes by the
// box's output, unless a shell redirects it.
func (term *terminal) start(init string, words ...string) *box.Box {
	term.t.Helper()
	return run(term.t, box.Options{
		Binary: init, Name: words[0], Args: words[1:], Stdin: term.slave,
		Attr: func(a *syscall.SysProcAttr) { a.Setsid, a.Setctty, a.Ctty = true, true, 0 },
	})
}

func (term *terminal) press(keys string) {
	term.t.Helper()
	if _, err := term.master.WriteString(keys); err != nil {
		term.t.Fatal(err)
	}
}

// set changes the terminal's local modes.
func (term *terminal) set(modes uint32) {
	term.t.Helper()
	fd := int(term.slave.Fd())
	attr, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		term.t.Fatal(err)
	}
	attr.Lflag |= modes
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, attr); err != nil {
		term.t.Fatal(err)
	}
}

// onTerminal runs a test with hotinit and other inits on a terminal, as-dumb-init
// being hotinit under that name.
func onTerminal(t *testing.T, others string, test func(t *testing.T, term *terminal, start func(words ...string) *box.Box)) {
	for _, name := range strings.Fields("hotinit " + others) {
		t.Run(name, func(t *testing.T) {
			path := box.Hotinit
			if as, ok := strings.CutPrefix(name, "as-"); ok {
				name = as
			} else if name != "hotinit" {
				path = command(t, name)
			}
			term := newTerminal(t)
			test(t, term, func(words ...string) *box.Box {
				return term.start(path, append([]string{name, "--"}, words...)...)
			})
		})
	}
}

func TestTheAppIsTheForegroundGroupOfTheTerminal(t *testing.T) {
	onTerminal(t, "tini dumb-init as-dumb-init", func(t *testing.T, term *terminal, start func(...string) *box.Box) {
		b := start(probe(t), "state")
		ended(t, b, 0)
		if s := fields(t, b); s["foreground"] != s["pid"] || s["group"] != s["pid"] {
			t.Errorf("%v", s)
		}
	})
}

func TestKeysReachTheAppOnce(t *testing.T) {
	onTerminal(t, "tini dumb-init as-dumb-init", func(t *testing.T, term *terminal, start func(...string) *box.Box) {
		b := start(probe(t), "signals", "15")
		b.Line("^ready$")
		for key, n := range map[string]int{"\x03": 2, "\x1a": 20, "\x1c": 3} {
			term.press(key)
			got(b, n)
		}
		stop(t, b, 0)
		for _, n := range []int{2, 3, 20} {
			if count := b.Output.Count(regexp.MustCompile(fmt.Sprintf("^got %d$", n))); count != 1 {
				t.Errorf("signal %d arrived %d times", n, count)
			}
		}
	})
}

func TestAChangedWindowReachesTheApp(t *testing.T) {
	onTerminal(t, "tini", func(t *testing.T, term *terminal, start func(...string) *box.Box) {
		b := start(probe(t), "signals", "15")
		b.Line("^ready$")
		if err := unix.IoctlSetWinsize(int(term.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: 101, Row: 37}); err != nil {
			t.Fatal(err)
		}
		b.Line("^got 28 size 101x37$")
		stop(t, b, 0)
	})
}

func TestJobControlInAShell(t *testing.T) {
	bash := command(t, "bash")
	onTerminal(t, "tini dumb-init as-dumb-init", func(t *testing.T, term *terminal, start func(...string) *box.Box) {
		b := start(bash, "--norc", "-i")
		b.Until("the shell has the terminal", func() bool {
			group, err := unix.IoctlGetInt(int(term.master.Fd()), unix.TIOCGPGRP)
			return err == nil && group != b.PID() && group != 0
		})
		term.press("sleep 1000; echo in between\n")
		b.Until("the job runs", func() bool { return state(b, "sleep") == "S" })
		term.press("\x1a")
		b.Line("Stopped")
		term.press("fg\n")
		b.Until("the job runs again", func() bool { return state(b, "sleep") == "S" })
		term.press("\x03")
		b.Until("the job has ended", func() bool { return state(b, "sleep") == "" })
		term.press("echo $((6*7)) and out; exit 11\n")
		b.Line("42 and out")
		ended(t, b, 11)
		if strings.Contains(b.Output.Text(), "no job control") {
			t.Error(b.Output)
		}
	})
}

// The first generation becomes current after --interval. By then the shell may
// have given the terminal to a job of its own, which must keep it.
func TestAJobKeepsTheTerminalWhenItsShellBecomesCurrent(t *testing.T) {
	bash := command(t, "bash")
	term := newTerminal(t)
	ready := filepath.Join(t.TempDir(), "go-on")
	goOn := box.Fifo(t, ready)
	// The generation is ready once somebody writes to the FIFO.
	b := run(t, box.Options{
		Sub: true, Stdin: term.slave, Args: []string{"--ready", "exec:cat " + ready, "--", bash, "--norc", "-i"},
		Attr: func(a *syscall.SysProcAttr) { a.Setsid, a.Setctty, a.Ctty = true, true, 0 },
	})
	b.Until("the shell has the terminal", func() bool {
		group, err := unix.IoctlGetInt(int(term.master.Fd()), unix.TIOCGPGRP)
		return err == nil && group != b.PID() && group != 0
	})
	term.press("sleep 1000; echo in between\n")
	b.Until("the job runs", func() bool { return state(b, "sleep") == "S" })
	foreground := func() int {
		group, err := unix.IoctlGetInt(int(term.master.Fd()), unix.TIOCGPGRP)
		if err != nil {
			t.Fatal(err)
		}
		return group
	}
	before := foreground()
	goOn()
	b.Until("the generation is current", func() bool {
		return exec.Command(box.Hotinit, "health", "--pid", strconv.Itoa(b.PID())).Run() == nil
	})
	if now := foreground(); now != before {
		t.Errorf("the terminal's foreground group was %d and is %d", before, now)
	}
	term.press("\x03")
	b.Until("the job has ended", func() bool { return state(b, "sleep") == "" })
	term.press("exit 11\n")
	ended(t, b, 11)
}

// state is that of the newest process of the name, "" where there is none.
func state(b *box.Box, name string) (state string) {
	for _, p := range b.Processes() {
		if len(p.Args) > 0 && p.Args[0] == name && !p.Zombie() {
			state = p.State
		}
	}
	return state
}

func TestJobControlSignalsNeverStopHotinit(t *testing.T) {
	onTerminal(t, "", func(t *testing.T, term *terminal, start func(...string) *box.Box) {
		b := start(probe(t), "signals", "15")
		b.Line("^ready$")
		for _, n := range []unix.Signal{unix.SIGTTOU, unix.SIGTTIN, unix.SIGTSTP} {
			b.SignalTo(b.Handoff().PID, n)
			b.Signal(n)
			got(b, int(n))
		}
		for _, p := range b.Processes() {
			if p.State == "T" {
				t.Errorf("stopped: %v", p)
			}
		}
		stop(t, b, 0)
	})
}

// hotinit is in the background, where a terminal with tostop stops whoever
// writes to it.
func TestANewGenerationBecomesTheForegroundGroupAndHotinitCanStillWrite(t *testing.T) {
	term := newTerminal(t)
	term.set(unix.TOSTOP)
	sleep := command(t, "sleep")
	script := `exec "$0" --interval 100ms -- "$1" 1000 >&0 2>&0`
	b := term.start(command(t, "sh"), "sh", "-c", script, box.Hotinit, sleep)
	foreground := func() int {
		group, err := unix.IoctlGetInt(int(term.master.Fd()), unix.TIOCGPGRP)
		if err != nil {
			t.Fatal(err)
		}
		return group
	}
	newest := func() (pid int) {
		for _, p := range b.Processes() {
			if len(p.Args) > 0 && p.Args[0] == sleep && !p.Zombie() {
				pid = p.PID
			}
		}
		return pid
	}
	b.Until("the app is in the foreground", func() bool { return newest() != 0 && foreground() == newest() })
	before := foreground()
	b.Signal(unix.SIGHUP)
	if _, err := term.output.Find(`generation 2 is ready`); err != nil {
		t.Fatalf("%v\n%s", err, term.output)
	}
	b.Until("the new generation is in the foreground", func() bool {
		return newest() != before && foreground() == newest()
	})
	stop(t, b, 143)
}

func TestAnAppThatStopsItselfOnATerminalDoesNotHangHotinit(t *testing.T) {
	onTerminal(t, "tini", func(t *testing.T, term *terminal, start func(...string) *box.Box) {
		b := start(probe(t), "stop", strconv.Itoa(int(unix.SIGTSTP)))
		b.Line("^stopping$")
		b.Until("the app is stopped", func() bool {
			for _, p := range b.Processes() {
				if len(p.Args) > 1 && p.Args[1] == "stop" && p.State == "T" {
					return true
				}
			}
			return false
		})
		b.Signal(unix.SIGCONT)
		b.Line("^went on$")
		ended(t, b, 5)
	})
}

// dumb-init's way: a session of its own has no terminal, where the kernel drops
// TSTP, TTIN and TTOU; SIGSTOP stands in for them.
func TestWithoutATerminalSIGSTOPStandsInForJobControlSignals(t *testing.T) {
	sleep := command(t, "sleep")
	for _, n := range []unix.Signal{unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU} {
		t.Run(unix.SignalName(n), func(t *testing.T) {
			for _, words := range [][]string{{"--setsid"}, {"dumb-init"}} {
				o := box.Options{Args: append(words, "--", sleep, "1000")}
				if words[0] == "dumb-init" {
					o = box.Options{Name: "dumb-init", Args: []string{sleep, "1000"}}
				}
				b := run(t, o)
				b.Until("the app runs", func() bool { return state(b, sleep) == "S" })
				b.Signal(n)
				b.Until("the app is stopped", func() bool { return state(b, sleep) == "T" })
				b.Signal(unix.SIGCONT)
				b.Until("the app goes on", func() bool { return state(b, sleep) == "S" })
				stop(t, b, 143)
			}
		})
	}
}

// The kernel sends SIGHUP to the leader of a session whose terminal is gone.
func TestTheTerminalsHangUpEndsHotinit(t *testing.T) {
	onTerminal(t, "tini", func(t *testing.T, term *terminal, start func(...string) *box.Box) {
		b := start(command(t, "sh"), "-c", "echo up; exec sleep 1000")
		b.Line("^up$")
		b.Until("the app runs", func() bool { return state(b, "sleep") == "S" })
		if err := unix.IoctlSetInt(int(term.slave.Fd()), unix.TIOCVHANGUP, 0); err != nil {
			t.Skip("the terminal cannot be hung up:", err)
		}
		ended(t, b, 128+1)
		if b.Output.Count(regexp.MustCompile("generation 2")) != 0 {
			t.Error(b.Output)
		}
	})
}

// A SIGHUP that a process sends asks for a new generation, also on a terminal.
func TestAHUPFromAProcessIsNoHangUp(t *testing.T) {
	term := newTerminal(t)
	b := term.start(box.Hotinit, "hotinit", "--", command(t, "sleep"), "1000")
	b.Until("the app runs", func() bool { return state(b, command(t, "sleep")) == "S" })
	b.Signal(unix.SIGHUP)
	b.Line("generation 2 is started")
	stop(t, b, 128+15)
}
