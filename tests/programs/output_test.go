package programs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// read returns what is in a file below the yard's directory, "" where there is none.
func (y *yard) read(name string) string {
	b, _ := os.ReadFile(filepath.Join(y.dir, name))
	return string(b)
}

func (y *yard) contains(name, text string) {
	y.t.Helper()
	y.Until(fmt.Sprintf("%s has %q in it", name, text), func() bool { return strings.Contains(y.read(name), text) })
}

// touch makes a file that a program waits for.
func (y *yard) touch(name string) {
	y.t.Helper()
	if err := os.WriteFile(filepath.Join(y.dir, name), nil, 0o644); err != nil {
		y.t.Fatal(err)
	}
}

// says is the file of a program that runs a shell script, until it is told to end.
func says(script string, more ...string) string {
	return fmt.Sprintf("HOTINIT_COMMAND=sh -c \"%s; exec sleep 1000\"\n%s\n", script, strings.Join(more, "\n"))
}

const waitFor = "while ! [ -e %s ]; do sleep 0.05; done; "

func TestLinesOfProgramsAreWholeWhateverBecomesOfTheHandoff(t *testing.T) {
	const programs, half = 20, 2000
	script := fmt.Sprintf("seq 1 %d; seq -f e%%.0f 1 %d >&2; "+fmt.Sprintf(waitFor, "go")+"seq %d %d; printf end", half, half, half+1, 2*half)
	files := make(map[string]string)
	for i := range programs {
		files[fmt.Sprintf("p%d", i)] = fmt.Sprintf("HOTINIT_COMMAND=sh -c \"%s\"\nHOTINIT_RUN=once\n", script)
	}
	y := open(t, files, "--log-prefix")
	y.Line("^p[0-9]+: 1$")
	y.ReplaceHandoff()
	said := func(text string) {
		pattern := regexp.MustCompile("^p[0-9]+: " + text + "$")
		y.Until("all have said "+text, func() bool { return y.Output.Count(pattern) == programs })
	}
	said(fmt.Sprint("e", half)) // all run
	y.touch("go")
	y.KillHandoff()
	said("end")
	y.stop(0)
	next := make(map[string]int)
	for _, line := range y.Output.All() {
		name, text, _ := strings.Cut(line, ": ")
		if name == "hotinit" {
			continue
		}
		stream := name
		if strings.HasPrefix(text, "e") && text != "end" {
			stream, text = name+" stderr", text[1:]
		}
		next[stream]++
		want := fmt.Sprint(next[stream])
		if next[stream] > 2*half {
			want = "end"
		}
		if text != want {
			t.Fatalf("of %s comes %q, and not %s", stream, line, want)
		}
	}
	if len(next) != 2*programs {
		t.Errorf("lines of %d streams came, of %d", len(next), 2*programs)
	}
	for stream, n := range next {
		if n != half && n != 2*half+1 {
			t.Errorf("%s has %d lines", stream, n)
		}
	}
}

// What puts the names before the lines is killed: the programs are not, and their next
// lines come.
func TestAProgramOutlivesWhatReadsItsLines(t *testing.T) {
	y := open(t, map[string]string{
		"web":   says("echo one; " + fmt.Sprintf(waitFor, "go") + "echo two >&2; echo three"),
		"plain": says("echo plain", "HOTINIT_LOG_PREFIX=no"),
	}, "--log-prefix")
	y.Line("^web: one$")
	y.Until("plain writes as it is", func() bool { return y.Output.Count(regexp.MustCompile("^plain$")) == 1 })
	before := y.Liner().PID
	y.SignalTo(before, unix.SIGTERM) // as whoever signals all processes
	y.SignalTo(before, unix.SIGKILL)
	y.Line("^hotinit: what puts programs' names before their lines .* was lost")
	if y.Liner().PID == before {
		t.Error("it is the same process")
	}
	y.touch("go")
	y.Line("^web: t")
	y.KillHandoff()
	y.write("web", says("echo four"))
	y.Line("^web: four$")
	y.stop(0)
	for _, text := range []string{"two", "three"} {
		if n := y.Output.Count(regexp.MustCompile("^web: " + text + "$")); n != 1 {
			t.Errorf("%s came %d times:\n%s", text, n, y.Output)
		}
	}
}

func TestAProgramHasALogFileOfItsOwn(t *testing.T) {
	y := open(t, map[string]string{
		"web":   says("echo here $HOTINIT_GENERATION", "HOTINIT_LOG_FILE=web.log"),
		"named": says("echo there; echo too >&2", "HOTINIT_LOG_FILE=named.log", "HOTINIT_LOG_PREFIX=yes"),
		"other": says("echo everywhere"),
	}, "--interval", "0")
	y.Line("^everywhere$")
	y.contains("web.log", "here 1\n")
	y.contains("named.log", "named: there\n")
	y.contains("named.log", "named: too\n")
	// It was rotated: the next generation finds that out.
	if err := os.Rename(filepath.Join(y.dir, "web.log"), filepath.Join(y.dir, "web.log.1")); err != nil {
		t.Fatal(err)
	}
	y.write("web", says("echo now $HOTINIT_GENERATION", "HOTINIT_LOG_FILE=web.log"))
	y.contains("web.log", "now 2\n")
	y.Line("web: generation 2 is ready")
	// A file that cannot be opened is a reason, and what runs runs on.
	y.write("web", says("echo never", "HOTINIT_LOG_FILE=none/web.log"))
	y.Line("^hotinit: web: .*cannot open HOTINIT_LOG_FILE .*none/web.log")
	y.stop(0)
	if got := y.read("web.log.1") + y.read("web.log"); got != "here 1\nnow 2\n" {
		t.Errorf("the log has %q", got)
	}
	if n := y.Output.Count(regexp.MustCompile("^(web|named)?:? ?(here|there|too|now)")); n != 0 {
		t.Errorf("hotinit's own output has it too:\n%s", y.Output)
	}
}

func TestAProgramHasALogCommandOfItsOwn(t *testing.T) {
	const command = "HOTINIT_LOG_FILE=| sed -u 's/^/got: /' >>web.log"
	y := open(t, map[string]string{"web": says("echo one; "+fmt.Sprintf(waitFor, "go")+"echo two", command)})
	sed := func() (pids []int) {
		for _, p := range y.Processes() {
			if len(p.Args) > 0 && p.Args[0] == "sed" && !p.Zombie() {
				pids = append(pids, p.PID)
			}
		}
		return pids
	}
	y.contains("web.log", "got: one\n")
	y.KillHandoff()
	y.Line("the handoff was lost")
	for _, pid := range sed() {
		y.SignalTo(pid, unix.SIGKILL)
	}
	y.Line("^hotinit: web: the command of HOTINIT_LOG_FILE .*started")
	y.touch("go")
	y.contains("web.log", "got: two\n")
	// With another command, the one before reads to the end, and ends.
	y.write("web", says("echo three", strings.Replace(command, "got", "new", 1)))
	y.contains("web.log", "new: three\n")
	y.Until("the command before has ended", func() bool { return len(sed()) == 1 })
	y.stop(0)
	if got := y.read("web.log"); got != "got: one\ngot: two\nnew: three\n" {
		t.Errorf("the log has %q", got)
	}
}

func TestTheLastWordsOfACommandAreWritten(t *testing.T) {
	t.Parallel()
	box.NeedNamespace(t)
	b := box.Start(t, box.Options{Args: []string{"--log-prefix", "--no-watch", "--", "sh", "-c", "echo out; echo err >&2; printf part; exit 3"}, Dir: t.TempDir()})
	if status := b.Wait(); status != 3 {
		t.Errorf("it ends with %d", status)
	}
	for _, want := range []string{"app: out", "app: err", "app: part"} {
		if n := b.Output.Count(regexp.MustCompile("^" + want + "$")); n != 1 {
			t.Errorf("%q comes %d times:\n%s", want, n, b.Output)
		}
	}
}
