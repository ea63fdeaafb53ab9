package inits

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/proc"
	"github.com/hotinit/hotinit/internal/testkit/box"
)

// aJob runs a test with dumb-init, with hotinit under its name, and with plain
// hotinit that gives the app a session of its own: each as a shell would run it,
// not as PID 1.
func aJob(t *testing.T, test func(t *testing.T, start func(flags []string, words ...string) *box.Box)) {
	for _, init := range []string{"dumb-init", "hotinit as dumb-init", "hotinit --setsid"} {
		t.Run(init, func(t *testing.T) {
			o := box.Options{Sub: true, Name: "dumb-init"}
			var own []string
			switch init {
			case "dumb-init":
				path, err := exec.LookPath("dumb-init")
				box.Need(t, "dumb-init", err)
				o.Binary = path
			case "hotinit --setsid":
				o.Name, own = "hotinit", []string{"--setsid", "--group"}
			}
			test(t, func(flags []string, words ...string) *box.Box {
				o := o
				o.Args = append(append(append(own, flags...), "--"), words...)
				return run(t, o)
			})
		})
	}
}

// told waits until init's parent, which is this process, is told that it was
// stopped (unix.WSTOPPED), or goes on (unix.WCONTINUED), as a shell is.
func told(b *box.Box, what int) {
	b.Until("its parent is told that it has stopped, or goes on", func() bool {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, b.PID(), &info, what|unix.WNOHANG, nil)
		return err == nil && info.Signo != 0
	})
}

// stopped tells whether a process is, by its PID outside.
func stopped(t *testing.T, pid int) bool {
	t.Helper()
	st, err := proc.Read(pid)
	if err != nil {
		t.Fatal(err)
	}
	return st.State == 'T'
}

// sessionOfItsOwn waits for the app of a job, and sees to it that it ends with
// the test: a box knows its processes by their session.
func sessionOfItsOwn(t *testing.T, b *box.Box) (pid int) {
	t.Helper()
	pid = atoi(b.Line(`^blocked=.* pid=(\d+) `)[1])
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		unix.Close(fd)
	})
	b.Line("^ready$")
	return pid
}

func TestAJobStopsAndGoesOnWithItsApp(t *testing.T) {
	for _, n := range []unix.Signal{unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU} {
		t.Run(unix.SignalName(n), func(t *testing.T) {
			aJob(t, func(t *testing.T, start func([]string, ...string) *box.Box) {
				b := start(nil, probe(t), "state", "15")
				app := sessionOfItsOwn(t, b)
				for range 3 {
					b.Signal(n)
					told(b, unix.WSTOPPED)
					b.Until("the app is stopped", func() bool { return stopped(t, app) })
					b.Signal(unix.SIGCONT)
					told(b, unix.WCONTINUED)
					got(b, int(unix.SIGCONT))
					b.Signal(unix.SIGUSR1)
					got(b, int(unix.SIGUSR1))
				}
				b.Signal(unix.SIGTERM)
				ended(t, b, 0)
			})
		})
	}
}

// What comes while it is stopped is acted upon when it goes on.
func TestAStoppedJobIsToldToEnd(t *testing.T) {
	aJob(t, func(t *testing.T, start func([]string, ...string) *box.Box) {
		b := start(nil, probe(t), "state", "15")
		sessionOfItsOwn(t, b)
		b.Signal(unix.SIGTSTP)
		told(b, unix.WSTOPPED)
		b.Signal(unix.SIGTERM)
		b.Signal(unix.SIGCONT)
		got(b, int(unix.SIGTERM))
		ended(t, b, 0)
	})
}

// --rewrite names what the app gets; the job stops all the same.
func TestAJobStopsAlsoWhereTheSignalIsRewritten(t *testing.T) {
	aJob(t, func(t *testing.T, start func([]string, ...string) *box.Box) {
		b := start([]string{"--rewrite", "20:10"}, probe(t), "state", "15")
		sessionOfItsOwn(t, b)
		b.Signal(unix.SIGTSTP)
		told(b, unix.WSTOPPED)
		got(b, int(unix.SIGUSR1))
		b.Signal(unix.SIGCONT)
		told(b, unix.WCONTINUED)
		b.Signal(unix.SIGTERM)
		ended(t, b, 0)
	})
}

// The handoff has a clock for init to see that it hangs, and init one for the
// handoff: neither takes the time that init was stopped for that.
func TestTheHandoffOutlivesThatTheJobIsStopped(t *testing.T) {
	b := run(t, box.Options{Sub: true, Name: "dumb-init", Args: []string{probe(t), "state", "15"}})
	sessionOfItsOwn(t, b)
	handoff := b.Handoff().PID
	for range 20 {
		b.Signal(unix.SIGTSTP)
		for n := 35; n <= 60; n++ {
			b.Signal(unix.Signal(n))
		}
		told(b, unix.WSTOPPED)
		b.Signal(unix.SIGCONT)
		got(b, 60)
	}
	if now := b.Handoff().PID; now != handoff {
		t.Errorf("the handoff was %d and is %d:\n%s", handoff, now, b.Output)
	}
	b.Signal(unix.SIGTERM)
	ended(t, b, 0)
}

// tini and catatonit, and hotinit left alone, pass the signal on and run.
func TestOtherInitsDoNotStop(t *testing.T) {
	for _, name := range []string{"hotinit", "tini", "catatonit"} {
		b := run(t, box.Options{Sub: true, Name: name, Args: []string{"--", probe(t), "signals", "15"}})
		b.Line("^ready$")
		b.Signal(unix.SIGTSTP)
		got(b, 20)
		b.Signal(unix.SIGUSR1) // behind it, so that it would be stopped by now
		got(b, 10)
		if stopped(t, b.PID()) {
			t.Errorf("as %s it is stopped", name)
		}
		stop(t, b, 0)
	}
}

// Nothing stops PID 1, neither dumb-init nor hotinit under its name.
func TestPID1IsNotStoppedByItself(t *testing.T) {
	alike(t, "dumb-init", func(t *testing.T, start func([]string, ...string) *box.Box) {
		b := start(nil, probe(t), "state", "15")
		b.Line("^ready$")
		b.Signal(unix.SIGTSTP)
		pid := app(t, b, "state").PID
		b.Until("the app is stopped", func() bool { return stopped(t, pid) })
		b.Signal(unix.SIGCONT)
		got(b, int(unix.SIGCONT))
		stop(t, b, 0)
	})
}

func TestControlZInAShellStopsTheJob(t *testing.T) {
	bash := command(t, "bash")
	for _, init := range []string{"dumb-init", "hotinit as dumb-init", "hotinit --setsid"} {
		t.Run(init, func(t *testing.T) {
			job := box.Hotinit + " --setsid --"
			switch init {
			case "dumb-init":
				job = command(t, "dumb-init")
			case "hotinit as dumb-init":
				link := filepath.Join(t.TempDir(), "dumb-init")
				if err := os.Symlink(box.Hotinit, link); err != nil {
					t.Fatal(err)
				}
				job = link
			}
			term := newTerminal(t)
			b := term.start(bash, "bash", "--norc", "-i")
			term.press("PS1=; exec 2>&1; " + job + " " + probe(t) + " state 15\n")
			b.Line("^ready$")
			for range 2 {
				term.press("\x1a")
				b.Line("Stopped")
				term.press("echo $((6*7)); fg\n")
				b.Line("42")
				got(b, int(unix.SIGCONT))
			}
			term.press("\x03")
			got(b, int(unix.SIGINT))
			b.Signal(unix.SIGKILL)
			b.Wait()
			if n := b.Output.Count(regexp.MustCompile("^got 2$")); n != 1 {
				t.Errorf("SIGINT arrived %d times", n)
			}
		})
	}
}
