package watch

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/testkit/box"
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
	s.Line(`^hotinit: release \w+ is not started: it was rejected before: exited with status 9, on .* \(hotinit reload tries it again\); the last good release, \w+, is started instead$`)
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
	s.Line(`the last good release, \w+, is started instead`)
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
	s.Line(`release \w+ is not started: it was rolled back by hand \(hotinit rollback NAME starts it\); the last good release, \w+, is started instead`)
	s.next("v1")
}

// listed returns what `hotinit releases` lists.
func (s *watched) listed() (list []control.Release) {
	s.T.Helper()
	code, text := s.Ask("releases", "--json")
	if err := json.Unmarshal([]byte(text), &list); code != 0 || err != nil {
		s.T.Fatalf("releases: %d, %v\n%s", code, err, text)
	}
	return list
}

// deployed is a site that served v1, v2 and v3, whose state directory has all three.
func deployed(t *testing.T, flags ...string) *watched {
	t.Helper()
	s := serve(t, flags...)
	for n, v := range []string{"v2", "v3"} {
		s.Proven(n + 1)
		s.release("new", v)
		s.sh(`mv new server`)
		s.next(v)
	}
	s.Proven(3)
	s.Until("three are kept", func() bool { return strings.Count(s.Read("state/releases.json"), `"command":`) == 3 })
	return s
}

func TestAfterARestartRollbackGoesAlongTheReleasesThatWereKept(t *testing.T) {
	t.Parallel()
	// Once it runs again, its content is known long before it is proven.
	s := deployed(t, "--state-dir", "state", "--probation", "200ms").restart("--state-dir", "state", "--probation", "5s")
	s.next("v3")
	s.Proven(1)
	var list []control.Release
	s.Until("the one that runs is known by its content", func() bool { list = s.listed(); return len(list) == 3 })
	for i, fate := range []string{"current", "kept in --state-dir", "kept in --state-dir"} {
		if list[i].Fate != fate || !list[i].Good || list[i].Path != s.Path || list[i].Since.IsZero() {
			t.Errorf("release %d is %+v, want %s", i, list[i], fate)
		}
	}
	third := list[0].Name

	// Its copy is open: it does not matter what becomes of the directory.
	s.KillHandoff()
	s.Status()
	s.sh(`until rm -rf state/releases; do :; done`) // a copy may just be made there
	for _, v := range []string{"v2", "v1"} {
		if code, text := s.Ask("rollback", "--wait"); code != 0 {
			t.Fatalf("rollback to %s: %d\n%s", v, code, text)
		}
		s.next(v)
	}
	if code, text := s.Ask("rollback", "--wait"); code != 1 || !strings.Contains(text, "there is no other good release") {
		t.Errorf("one more: %d\n%s", code, text)
	}
	if code, text := s.Ask("rollback", "--wait", third[:8]); code != 0 {
		t.Errorf("rollback %s: %d\n%s", third[:8], code, text)
	}
	s.next("v3")
	s.Stop(0)
}

func TestWhatWasRolledBackByHandCanBeNamedAfterARestart(t *testing.T) {
	t.Parallel()
	flags := []string{"--state-dir", "state", "--probation", "200ms"}
	s := deployed(t, flags...)
	third := s.listed()[0].Name
	if code, text := s.Ask("rollback", "--wait"); code != 0 {
		t.Fatalf("rollback: %d\n%s", code, text)
	}
	s.next("v2")
	s.Contains("state/releases.json", `"byHand":true`)
	s = s.restart(flags...)
	s.next("v2")
	if code, text := s.Ask("rollback", "--wait", third); code != 0 {
		t.Fatalf("rollback %s: %d\n%s", third, code, text)
	}
	s.next("v3")
	s.Until("it is not rejected any more", func() bool { return !strings.Contains(s.Read("state/releases.json"), `"byHand":true`) })
	s = s.restart(flags...)
	s.next("v3")
	s.Never("is not started")
	s.Stop(0)
}

// A file system whose server answers nothing.
func TestAStateDirectoryThatHangsDoesNotHoldUpTheApp(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	box.Install(t, filepath.Join(dir, "server"), "v1")
	state := filepath.Join(dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	fuse, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("/dev/fuse: %v", err)
	}
	mount(t, "none", state, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse))
	// Once: the number may be another test's file by then.
	answer := sync.OnceFunc(func() { unix.Close(fuse) })
	t.Cleanup(answer) // ends what waits for it
	s := launch(t, dir, false, []string{"--state-dir", state}, filepath.Join(dir, "server"))
	s.Line(`the state directory \S+ does not answer within 3s; the newest release is started`)
	s.next("v1")
	s.release("new", "v2")
	s.sh(`mv new server`)
	s.next("v2")
	answer()
	s.Line(`cannot use the state directory`)
	s.Stop(0)
}

// Without --snapshot too: the state directory has what was overwritten.
func TestADirectoryThatWasOverwrittenIsRolledBackFromTheStateDirectory(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	deploy := func(version, then string) {
		t.Helper()
		write(t, filepath.Join(dir, "app", "lib.sh"), "echo \"$HOTINIT_GENERATION: "+version+" in $PWD\"; "+then+"\n", 0o644)
	}
	if err := os.MkdirAll(filepath.Join(dir, "app"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "app", "main.sh"), `. "$(dirname "$0")/lib.sh"`+"\n", 0o644)
	deploy("v1", "exec sleep 1000")
	s := launch(t, dir, false, []string{"--state-dir", "state", "--interval", "100ms", "--probation", "1s", "--dir", "app", "--watch", "app", "--settle", "100ms"},
		"sh", filepath.Join(dir, "app", "main.sh"))
	s.Line(`^1: v1 in `)
	s.Proven(1)
	s.Contains("state/releases.json", `"good":[{`)
	deploy("v2", "sleep 0.5; exit 9")
	s.Line(`^2: v2 in `)
	s.Line(`^3: v1 in /tmp/`)
	s.Becomes(3, "current")
	s.Never("with what is there")
	s.Stop(143)
}
