package swap

import (
	"bytes"
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

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/pidone"
)

// TestStories runs the scripts in stories/. Each has a host of its own, $ADDR,
// a directory app/ for the application, hotinit at $HOTINIT, and these commands
// beside testscript's:
//
//	release VERSION FILE [FLAG...]  write a release of the test application
//	start [FLAG...] [--] COMMAND    start hotinit as PID 1
//	start-sub ...                   the same, not as PID 1
//	line PATTERN                    wait for the next line of output that matches
//	! line PATTERN                  no line so far matches
//	lines N PATTERN                 exactly N lines so far match
//	answers PREFIX                  wait until an answer starts so: "v2 generation 3"
//	get PATH                        ask the application; the answer is stdout
//	hold NAME                       begin a request that ends when its generation was told to go
//	held NAME                       wait for the rest of its answer, which is stdout
//	fifo FILE, open FILE            make a FIFO; open it for writing
//	signal NAME                     send a signal to hotinit
//	kill-handoff                    SIGKILL the handoff, and wait for another
//	! kill-handoff                  SIGKILL the handoff
//	running N                       wait until exactly N processes run $WORK/app/server
//	orphaned                        wait until none of the processes is a zombie
//	ends STATUS                     wait until hotinit ends, with this status
//	refuses STATUS [ARG...]         run hotinit to its end: this status, one line on stderr
//	cut FILE SIZE                   truncate a file
//	patch FILE OFFSET BYTE          change a byte
func TestStories(t *testing.T) {
	if box.Required("namespace") {
		box.NeedNamespace(t) // else the scripts skip themselves
	}
	testscript.Run(t, testscript.Params{
		Dir: "stories",
		Setup: func(e *testscript.Env) error {
			e.Values[storyKey{}] = &story{address: box.Address(), holds: map[string]func() (string, error){}, fifos: map[string]func(){}}
			e.Setenv("ADDR", e.Values[storyKey{}].(*story).address)
			e.Setenv("HOTINIT", box.Hotinit)
			return os.Mkdir(filepath.Join(e.WorkDir, "app"), 0o755)
		},
		Condition: func(name string) (bool, error) {
			switch name {
			case "namespace":
				return pidone.Supported() == nil, nil
			case "root":
				return os.Getuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"release":      command(2, -1, release),
			"start":        command(1, -1, start),
			"start-sub":    command(1, -1, startSub),
			"line":         line,
			"lines":        command(2, 2, lines),
			"answers":      command(1, 1, answers),
			"get":          command(1, 1, get),
			"hold":         command(1, 1, hold),
			"held":         command(1, 1, held),
			"fifo":         command(1, 1, fifo),
			"open":         command(1, 1, open),
			"signal":       command(1, 1, sendSignal),
			"kill-handoff": killHandoff,
			"running":      command(1, 1, running),
			"orphaned":     command(0, 0, orphaned),
			"ends":         command(1, 1, ends),
			"refuses":      command(1, -1, refuses),
			"cut":          command(2, 2, cut),
			"patch":        command(3, 3, patch),
		},
	})
}

type storyKey struct{}

// story is what a script has made so far.
type story struct {
	address string
	box     *box.Box
	holds   map[string]func() (string, error)
	fifos   map[string]func()
}

// script makes a TestScript what a Box needs of a test.
type script struct{ *testscript.TestScript }

func (s script) Helper()          {}
func (s script) Cleanup(f func()) { s.Defer(f) }

func (s script) story() *story { return s.Value(storyKey{}).(*story) }

// hotinit returns the one that the script has started.
func (s script) hotinit() *box.Box {
	b := s.story().box
	if b == nil {
		s.Fatalf("hotinit was not started")
	}
	return b
}

// command checks the number of words, and that there is no "!".
func command(least, most int, f func(s script, args []string)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < least || most >= 0 && len(args) > most {
			ts.Fatalf("wrong usage, see TestStories")
		}
		f(script{ts}, args)
	}
}

func number(s script, text string) int {
	n, err := strconv.Atoi(text)
	s.Check(err)
	return n
}

func release(s script, args []string) {
	box.Install(s, s.MkAbs(args[1]), args[0], args[2:]...)
}

func start(s script, args []string)    { launch(s, false, args) }
func startSub(s script, args []string) { launch(s, true, args) }

func launch(s script, sub bool, args []string) {
	if old := s.story().box; old != nil {
		select {
		case <-old.Ended():
		default:
			s.Fatalf("hotinit runs already")
		}
	}
	env := box.Environment("HOTINIT_PORTS=" + s.story().address)
	if v := s.Getenv("HOTINIT_PORTS"); v != "" {
		env[len(env)-1] = "HOTINIT_PORTS=" + v
	}
	s.story().box = box.Start(s, box.Options{Binary: s.Getenv("HOTINIT"), Args: args, Env: env, Dir: s.MkAbs("."), Sub: sub})
}

func line(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] line PATTERN")
	}
	s := script{ts}
	if !neg {
		s.hotinit().Line(args[0])
		return
	}
	if s.hotinit().Output.Count(regexp.MustCompile(args[0])) > 0 {
		s.Fatalf("a line matches %q:\n%s", args[0], s.hotinit().Output)
	}
}

func lines(s script, args []string) {
	if n := s.hotinit().Output.Count(regexp.MustCompile(args[1])); n != number(s, args[0]) {
		s.Fatalf("%d lines match %q, want %s:\n%s", n, args[1], args[0], s.hotinit().Output)
	}
}

func answers(s script, args []string) {
	s.hotinit().Answers(s.story().address, args[0])
}

func get(s script, args []string) {
	io.WriteString(s.Stdout(), s.hotinit().Get(s.story().address, args[0]))
}

func hold(s script, args []string) {
	first, rest, err := box.Hold(s.story().address)
	s.Check(err)
	s.Logf("%s holds %s", args[0], first)
	s.story().holds[args[0]] = func() (string, error) {
		text, err := rest()
		return first + text, err
	}
}

func held(s script, args []string) {
	rest := s.story().holds[args[0]]
	if rest == nil {
		s.Fatalf("there is no %s", args[0])
	}
	text, err := rest()
	s.Check(err)
	io.WriteString(s.Stdout(), text)
}

func fifo(s script, args []string) {
	s.story().fifos[args[0]] = box.Fifo(s, s.MkAbs(args[0]))
}

func open(s script, args []string) {
	s.story().fifos[args[0]]()
}

func sendSignal(s script, args []string) {
	sig := unix.SignalNum("SIG" + args[0])
	if sig == 0 {
		s.Fatalf("unknown signal %s", args[0])
	}
	s.hotinit().Signal(sig)
}

func killHandoff(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) > 0 {
		ts.Fatalf("usage: [!] kill-handoff")
	}
	s := script{ts}
	old := s.hotinit().Handoff()
	s.hotinit().SignalTo(old.PID, unix.SIGKILL)
	if neg {
		return
	}
	s.hotinit().Until("another handoff takes over", func() bool {
		return s.hotinit().Handoff().PID != old.PID
	})
}

func running(s script, args []string) {
	want := number(s, args[0])
	path := s.MkAbs("app/server")
	s.hotinit().Until(args[0]+" processes run the application", func() bool {
		n := 0
		for _, p := range s.hotinit().Processes() {
			if len(p.Args) > 0 && p.Args[0] == path {
				n++
			}
		}
		return n == want
	})
}

func orphaned(s script, args []string) {
	s.hotinit().Until("no process is a zombie", func() bool { return zombies(s.hotinit()) == 0 })
}

func zombies(b *box.Box) int {
	n := 0
	for _, p := range b.Processes() {
		if p.Zombie() {
			n++
		}
	}
	return n
}

func ends(s script, args []string) {
	b := s.hotinit()
	if status := b.Wait(); status != number(s, args[0]) {
		s.Fatalf("hotinit ended with status %d, want %s:\n%s", status, args[0], b.Output)
	}
	if left := b.Processes(); len(left) > 0 {
		s.Fatalf("processes are left: %v", left)
	}
}

func refuses(s script, args []string) {
	c := exec.Command(box.Hotinit, args[1:]...)
	c.Dir = s.MkAbs(".")
	c.Env = box.Environment()
	for _, name := range []string{"HOTINIT_PORTS", "HOTINIT_INTERVAL", "HOTINIT_ON_EXIT"} {
		if v := s.Getenv(name); v != "" {
			c.Env = append(c.Env, name+"="+v)
		}
	}
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	s.Check(pidone.Start(c))
	c.Wait()
	if status := c.ProcessState.ExitCode(); status != number(s, args[0]) {
		s.Fatalf("status %d, want %s; it said:\n%s%s", status, args[0], &stdout, &stderr)
	}
	if stdout.Len() > 0 || strings.Count(stderr.String(), "\n") != 1 {
		s.Fatalf("want one line on standard error, got %q, and %q on standard output", &stderr, &stdout)
	}
	stderr.WriteTo(s.Stderr())
}

func cut(s script, args []string) {
	s.Check(os.Truncate(s.MkAbs(args[0]), int64(number(s, args[1]))))
}

func patch(s script, args []string) {
	f, err := os.OpenFile(s.MkAbs(args[0]), os.O_WRONLY, 0)
	s.Check(err)
	defer f.Close()
	_, err = f.WriteAt([]byte{byte(number(s, args[2]))}, int64(number(s, args[1])))
	s.Check(err)
}
