package upgrade

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/lines"
	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// printer prints numbered lines, each in two halves, until it is told to go. The pause
// after some keeps it from using a whole processor.
const printer = `trap 'over=1' TERM
n=0
while [ -z "$over" ]; do
	n=$((n + 1))
	printf "$HOTINIT_GENERATION line $n "
	printf "ends\n"
	[ $((n % 20)) -ne 0 ] || sleep 0.02
done
echo "$HOTINIT_GENERATION last $n"
`

// asker prints the half of a line, and the other one once there is a file.
const asker = `printf "half of "
while [ ! -e "$0.go" ]; do sleep 0.05; done
echo "a line"
exec sleep 1000
`

// While programs print, hotinit is replaced over and over, and with it the process that
// puts their names before their lines. Each line comes whole, once and in its order.
func TestNoLineIsLostTornOrDoubledByUpgrades(t *testing.T) {
	const printers = 4
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !way.Sub {
				box.NeedNamespace(t)
			}
			hotinit(t, newer)
			s := &site.Site{T: t, Dir: t.TempDir()}
			s.Write("printer", printer)
			s.Write("asker", asker)
			program := func(name, script, more string) {
				t.Helper()
				s.Write("new", fmt.Sprintf("HOTINIT_COMMAND=sh %s\nHOTINIT_READY=interval\nHOTINIT_INTERVAL=1ms\n%s\n", s.File(script), more))
				err := os.MkdirAll(s.File("programs"), 0o755)
				if err == nil {
					err = os.Rename(s.File("new"), s.File("programs/"+name+".env"))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			for i := range printers {
				program(fmt.Sprintf("p%d", i), "printer", "")
			}
			program("file", "printer", "HOTINIT_LOG_FILE="+s.File("file.log"))
			program("ask", "asker", "")
			s.Box = box.Start(t, box.Options{Binary: hotinit(t, older), Args: []string{"--log-prefix", "--settle", "50ms", "--programs", s.File("programs")}, Sub: way.Sub})
			prints := func(n int) { // each of them has printed, and goes on to
				for i := range printers {
					s.Line(fmt.Sprintf(`^p%d: %d line \d+ ends$`, i, n))
				}
			}
			prints(1)
			s.Until("the half of a line is read", func() bool {
				for _, p := range s.Processes() {
					if len(p.Args) == 2 && p.Args[1] == s.File("asker") {
						return true
					}
				}
				return false
			})
			pid := s.Liner().PID
			for i := range rounds(t) / 4 {
				version := []string{newer, older}[i%2]
				if status, text := s.Ask("upgrade", hotinit(t, version)); status != 0 {
					t.Fatalf("%s\noutput:\n%s", text, s.Output)
				}
				s.Until(lines.Name+" is of "+version, func() bool { return executes(t, s.Liner().PID, version) })
				prints(1)
				if i%3 == 2 {
					s.KillHandoff() // the next one asks for what is there already
				}
			}
			if got := s.Liner().PID; got != pid {
				t.Errorf("%s was process %d, and is %d: what it had read is lost\noutput:\n%s", lines.Name, pid, got, s.Output)
			}
			// Generations are replaced as before.
			for i := range printers {
				program(fmt.Sprintf("p%d", i), "printer", "A=1")
			}
			prints(2)
			s.Write("asker.go", "")
			s.Line("^ask: half of a line$")
			s.Stop(0)
			all := s.Output.All()
			for line := range strings.Lines(s.Read("file.log")) {
				all = append(all, strings.TrimSuffix(line, "\n"))
			}
			counted(t, all, 2*printers+1)
		})
	}
}

// counted checks the lines of printers, and that so many generations of them have printed
// to their end.
func counted(t *testing.T, all []string, generations int) {
	t.Helper()
	line := regexp.MustCompile(`^(p\d|file): (\d+) (line|last) (\d+)( ends)?$`)
	count := map[string]int{}
	ended := 0
	for _, text := range all {
		m := line.FindStringSubmatch(text)
		switch {
		case strings.HasPrefix(text, "hotinit: "), strings.HasPrefix(text, "ask: "):
			continue
		case m == nil || (m[3] == "line") != (m[5] != ""):
			t.Fatalf("%q is torn", text)
		}
		key := m[1] + " " + m[2]
		n, _ := strconv.Atoi(m[4])
		if m[3] == "line" {
			count[key]++
		} else {
			ended++
		}
		if n != count[key] {
			t.Fatalf("%q comes after %d lines of generation %s", text, count[key], key)
		}
	}
	if ended != generations {
		t.Errorf("%d generations have printed to their end, of %d: %v", ended, generations, count)
	}
	t.Logf("lines: %v", count)
}

// executes reports whether a process executes the hotinit of a version.
func executes(t *testing.T, pid int, version string) bool {
	t.Helper()
	var want, got unix.Stat_t
	if err := unix.Stat(hotinit(t, version), &want); err != nil {
		t.Fatal(err)
	}
	return unix.Stat(fmt.Sprintf("/proc/%d/exe", pid), &got) == nil && got.Ino == want.Ino
}

// An upgrade waits for the command of --on-event that runs, and for the events that wait:
// each is reported once, in order.
func TestAnUpgradeWaitsForTheEventsThatAreToBeReported(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			way.Flags = []string{"--on-event", `sh -c 'echo "begins $HOTINIT_EVENT $HOTINIT_EVENT_GENERATION" >>events
				case $HOTINIT_EVENT in ready) while [ ! -e go ]; do sleep 0.05; done; rm go; esac
				echo "ends $HOTINIT_EVENT $HOTINIT_EVENT_GENERATION" >>events'`}
			s := run(t, way)
			s.Write("go", "")
			s.Contains("events", "ends ready 1\n")
			want := "begins started 1\nends started 1\nbegins ready 1\nends ready 1\n"
			for i, version := range []string{newer, older} {
				n := i + 2
				s.Swap(fmt.Sprintf("v%d", n))
				s.Contains("events", fmt.Sprintf("begins ready %d\n", n))
				s.Line(fmt.Sprintf("^hotinit: generation %d ended", n-1)) // an event that waits
				answers := make(chan string, 2)
				for range cap(answers) { // one of them is told that the other one waits
					c := s.Client("upgrade", hotinit(t, version))
					go func() {
						_, text := site.Finish(t, c)
						answers <- strings.TrimSpace(text)
					}()
				}
				if text := <-answers; !strings.Contains(text, "another upgrade is waiting for the command of --on-event") {
					t.Fatalf("the upgrade does not wait: %s\noutput:\n%s", text, s.Output)
				}
				s.Write("go", "")
				if text := <-answers; text != "hotinit "+version+" runs" {
					t.Fatalf("%s\noutput:\n%s", text, s.Output)
				}
				for _, event := range []string{fmt.Sprintf("started %d", n), fmt.Sprintf("ready %d", n), fmt.Sprintf("ended %d", n-1)} {
					want += "begins " + event + "\nends " + event + "\n"
				}
				// The one that was told to wait was refused.
				want += "begins upgrade-rejected \nends upgrade-rejected \nbegins upgraded \nends upgraded \n"
				s.Contains("events", want)
			}
			s.Stop(0)
			if got := s.Read("events"); !strings.HasPrefix(got, want) {
				t.Errorf("the events are\n%s\nand not\n%s", got, want)
			}
		})
	}
}
