package watch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// restart ends hotinit, and starts another one with the same flags.
func (s *watched) restart(flags ...string) *watched {
	s.T.Helper()
	s.Signal(unix.SIGTERM)
	s.Wait()
	return launch(s.T, s.Dir, false, flags, s.Path)
}

// rolledBack is a site whose second release died in its probation.
func rolledBack(t *testing.T, flags ...string) *watched {
	t.Helper()
	s := serve(t, append(flags, "--probation", "3s")...)
	s.Proven(1)
	s.Path = filepath.Join(s.Dir, "server")
	s.release("new", "v2")
	s.sh(`mv new server`)
	s.next("v2")
	s.Die(9)
	s.Line(`generation 2 exited with status 9 in its probation`)
	s.next("v1")
	return s
}

func TestARejectedReleaseIsNotStartedAfterARestart(t *testing.T) {
	t.Parallel()
	flags := []string{"--state-dir", "state", "--probation", "3s"}
	s := rolledBack(t, "--state-dir", "state")
	s.Until("both are noted", func() bool {
		b, _ := os.ReadFile(filepath.Join(s.Dir, "state", "releases.json"))
		return strings.Contains(string(b), `"good":[{`) && strings.Contains(string(b), "exited with status 9")
	})
	s = s.restart(flags...)
	s.Line(`was rejected before \(exited with status 9, on .*\); the last good one, \w+, is started in its stead. Deploy another one`)
	s.next("v1")
	s.Never("v2 generation")

	// The handoff of the second hotinit is lost: nothing changes.
	s.KillHandoff()
	s.Status()
	s.Answers("v1 generation 1 ")

	// Who asks gets what is there.
	if status, text := s.Ask("reload", "--wait"); status != 0 {
		t.Fatalf("reload: %d, %s", status, text)
	}
	s.next("v2")
	s.release("new", "v3")
	s.sh(`mv new server`)
	s.next("v3")
}

func TestWithoutAStateDirectoryTheFailedFileRunsAgainWhichIsSaid(t *testing.T) {
	t.Parallel()
	s := rolledBack(t)
	s.Line(`after a restart, hotinit will start .*server again.*--state-dir`)
	s = s.restart()
	s.next("v2")
}

func TestAStateDirectoryWithGarbageOrOfSomebodyElseIsSaidAndNotBelieved(t *testing.T) {
	t.Parallel()
	s := rolledBack(t, "--state-dir", "state")
	list := filepath.Join(s.Dir, "state", "releases.json")
	s.Until("it is noted", func() bool {
		b, _ := os.ReadFile(list)
		return strings.Contains(string(b), "exited with status 9")
	})
	write(t, list, `{"version":1,"checksum":"sha256:00","list":{"good":[{"release":{}}]}}`, 0o600)
	s = s.restart("--state-dir", "state")
	s.Line(`releases.json is not believed: its checksum is wrong; hotinit begins a new list`)
	s.next("v2")

	if err := os.Chmod(filepath.Join(s.Dir, "state"), 0o777); err != nil {
		t.Fatal(err)
	}
	s = s.restart("--state-dir", "state")
	s.Line(`cannot use the state directory .*: others than root and hotinit's own user may write`)
	s.next("v2")
}

// Where the good release's own file is gone, the copy is what runs.
func TestAScriptOfTheStateDirectoryRunsFromACopyOfItsDirectory(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	deploy := func(name, lib string) {
		t.Helper()
		write(t, filepath.Join(dir, "app", "main.sh"), `. "$(dirname "$0")/lib.sh"`+"\n", 0o644)
		write(t, filepath.Join(dir, "app", "lib.sh"), "echo \"$HOTINIT_GENERATION: "+name+" in $PWD\"; "+lib+"\n", 0o644)
	}
	if err := os.MkdirAll(filepath.Join(dir, "app"), 0o755); err != nil {
		t.Fatal(err)
	}
	deploy("v1", "exec sleep 1000")
	flags := []string{"--state-dir", "state", "--interval", "100ms", "--probation", "1s", "--dir", "app", "--watch", "app", "--settle", "100ms", "--snapshot", "--user", "65534"}
	s := launch(t, dir, false, flags, "sh", filepath.Join(dir, "app", "main.sh"))
	s.Line(`^1: v1 in `)
	s.Proven(1)
	deploy("v2", "sleep 0.5; exit 9") // in place, as git pull does
	s.Line(`^2: v2 in `)
	s.Line(`^3: v1 in `)
	s.Until("both are noted", func() bool {
		b, _ := os.ReadFile(filepath.Join(s.Dir, "state", "releases.json"))
		return strings.Contains(string(b), `"good":[{`) && strings.Contains(string(b), "exited with status 9")
	})
	s.Path = "sh"
	s.Signal(unix.SIGTERM)
	s.Wait()
	s = launch(t, dir, false, flags, "sh", filepath.Join(dir, "app", "main.sh"))
	s.Line(`is started in its stead`)
	s.Line(`^1: v1 in `)
	s.Never("v2 in")
}

func TestWhatWasRolledBackByHandStaysSoAfterARestart(t *testing.T) {
	t.Parallel()
	flags := []string{"--state-dir", "state", "--probation", "1s"}
	s := serve(t, flags...)
	s.Proven(1)
	s.release("new", "v2")
	s.sh(`mv new server`)
	s.next("v2")
	s.Proven(2)
	if status, text := s.Ask("rollback", "--wait"); status != 0 {
		t.Fatalf("rollback: %d, %s", status, text)
	}
	s.next("v1")
	s.Until("it is noted", func() bool {
		b, _ := os.ReadFile(filepath.Join(s.Dir, "state", "releases.json"))
		return strings.Contains(string(b), `"byHand":true`)
	})
	s = s.restart(flags...)
	s.Line(`was rejected before \(it was rolled back by hand, on .*\); the last good one, \w+, is started in its stead`)
	s.next("v1")
}
