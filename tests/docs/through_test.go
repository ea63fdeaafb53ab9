package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// throughs are the commands of --swap-through that docs/deploying.md proposes, by their
// first words.
func throughs(t *testing.T) map[string]string {
	t.Helper()
	_, section, _ := strings.Cut(pages(t)[filepath.Join("docs", "deploying.md")], "\n| `--swap-through` | |\n")
	section, _, _ = strings.Cut(section, "\n\n")
	found := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(.*?)` \\|").FindAllStringSubmatch(section, -1) {
		command := strings.ReplaceAll(m[1], `\|`, "|")
		for _, begin := range []string{"flock", "etcdctl", "sh -c 'sleep", "bash -c 'sleep", "sh -c '{} && /app/smoke-test", "sh -c 'notify"} {
			if strings.HasPrefix(command, begin) {
				found[begin] = command
				command = ""
			}
		}
		if command != "" {
			t.Errorf("docs/deploying.md proposes --swap-through %q, which no test runs", command)
		}
	}
	return found
}

// through opens a site whose swaps go through a command of docs/deploying.md, with
// programs of the test's own before all others in PATH, and with hotinit. Each is a shell
// script, which runs in the site's directory.
func through(t *testing.T, begin string, programs map[string]string) *site.Site {
	t.Helper()
	command := throughs(t)[begin]
	if command == "" {
		t.Fatalf("docs/deploying.md proposes no --swap-through %s", begin)
	}
	bin, dir := t.TempDir(), t.TempDir()
	for name, script := range programs {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(box.Hotinit, filepath.Join(bin, "hotinit")); err != nil {
		t.Fatal(err)
	}
	command = strings.NewReplacer("/app/smoke-test", "smoke-test", "/app/", dir+"/").Replace(command)
	s := site.Open(t, site.Options{Flags: []string{"--interval", "50ms", "--swap-through", command}, Env: []string{"PATH=" + bin + ":" + os.Getenv("PATH")}})
	s.Becomes(1, "current")
	return s
}

// reload asks for a swap and returns whether it was one.
func reload(s *site.Site) bool {
	s.T.Helper()
	status, text := s.Ask("reload", "--wait")
	if status > 1 {
		s.T.Fatalf("reload: status %d: %s", status, text)
	}
	return status == 0
}

func TestASwapThroughALock(t *testing.T) {
	site.Need(t, "flock")
	s := through(t, "flock", nil)
	if !reload(s) {
		t.Errorf("it was no swap:\n%s", s.Output)
	}
	s.Stop(0)
}

// Replicas that swap at different times: the shell that the page names must know the
// number that it is given, and that is not the same each time.
func TestASwapAtARandomTime(t *testing.T) {
	for begin, shells := range map[string][]string{
		"sh -c 'sleep":   {"dash", "bash", "busybox"},
		"bash -c 'sleep": {"bash"},
	} {
		for _, shell := range shells {
			t.Run(begin+" in "+shell, func(t *testing.T) {
				path, err := exec.LookPath(shell)
				if err != nil {
					t.Skip(err)
				}
				run := "exec " + path + ` "$@"`
				if shell == "busybox" {
					run = "exec " + path + ` sh "$@"`
				}
				s := through(t, begin, map[string]string{"sleep": `echo "$1" >>slept`, "sh": run})
				slept := map[string]bool{}
				for range 5 {
					if !reload(s) {
						t.Fatalf("it was no swap:\n%s", s.Output)
					}
				}
				for _, word := range strings.Fields(s.Read("slept")) {
					if n, err := strconv.Atoi(word); err != nil || n < 0 || n > 59 {
						t.Errorf("it sleeps for %q", word)
					}
					slept[word] = true
				}
				if len(slept) < 2 {
					t.Errorf("it sleeps for the same time each time: %q", s.Read("slept"))
				}
				s.Stop(0)
			})
		}
	}
}

func TestASwapThatASmokeTestTakesBack(t *testing.T) {
	s := through(t, "sh -c '{} && /app/smoke-test", map[string]string{"smoke-test": `echo tested >>tests; [ ! -e broken ]`})
	s.Swap("v2")
	s.Until("the swap was tested", func() bool { return strings.Count(s.Read("tests"), "tested") == 1 })
	s.Answers("v2 generation 2 ")
	s.Write("broken", "")
	s.Swap("v3")
	s.Answers("v2 generation 4 ")
	if n := strings.Count(s.Read("tests"), "tested"); n != 2 {
		t.Errorf("it was tested %d times", n)
	}
	s.Becomes(4, "current")
	s.Stop(0)
}

func TestANotificationBeforeAndAfterASwap(t *testing.T) {
	s := through(t, "sh -c 'notify", map[string]string{"notify": `echo "$1" >>notified`})
	notified := func(want string) {
		t.Helper()
		s.Until(fmt.Sprintf("%q is notified", want), func() bool { return s.Read("notified") == want })
	}
	s.Swap("v2")
	notified("begins\n0\n")
	s.Swap("v3", "-exit", "3")
	notified("begins\n0\nbegins\n1\n")
	s.Answers("v2 generation 2 ")
	s.Stop(0)
}
