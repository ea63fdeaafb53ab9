package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

func TestAFolderThatIsWatchedToo(t *testing.T) {
	dir := directory(t)
	path, more := filepath.Join(dir, "server"), filepath.Join(dir, "templates")
	box.Install(t, path, "v1")
	if err := os.MkdirAll(filepath.Join(more, "deep/down"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := launch(t, dir, false, []string{"--watch", more, "--ignore", "*.log", "--settle", "100ms"}, path)
	s.next("v1")
	s.Line("^hotinit: version .* watches ") // by then the release has its name, which the folder is part of
	s.sh(`echo 1 >templates/deep/down/index.html`)
	s.next("v1")
	s.sh(`echo noise >templates/a.log; touch templates/deep/down/index.html`)
	s.sh(`mkdir templates/new; echo 2 >templates/new/page.html`)
	s.next("v1")
	s.only("v2")
}

func TestAWatchedFileMayMeanASignal(t *testing.T) {
	dir := directory(t)
	path, conf := filepath.Join(dir, "server"), filepath.Join(dir, "app.conf")
	box.Install(t, path, "v1", "-echo")
	write(t, conf, "one", 0o644)
	s := launch(t, dir, false, []string{"--watch", filepath.Join(dir, "*.conf") + ":HUP"}, path)
	s.Line("^listening to signals")
	write(t, conf, "two", 0o644)
	s.Line(`app.conf changed; SIGHUP is sent`)
	s.Line("got SIGHUP")
	s.n = 1
	s.release("new", "v2")
	s.sh(`mv new server`)
	s.next("v2")
}

func TestABurstOfFilesIsOneSwap(t *testing.T) {
	dir := directory(t)
	path := filepath.Join(dir, "server")
	box.Install(t, path, "v1")
	// The program is among what changes.
	s := launch(t, dir, false, []string{"--watch", dir, "--settle", "2s"}, path)
	s.next("v1")
	other := directory(t)
	box.Install(t, filepath.Join(other, "new"), "v2")
	for i := range 5000 {
		if i%100 == 0 {
			if err := os.Mkdir(filepath.Join(dir, fmt.Sprint("part", i/100)), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		write(t, filepath.Join(dir, fmt.Sprint("part", i/100), fmt.Sprint(i)), "content", 0o644)
		if i == 2500 {
			if err := os.Rename(filepath.Join(other, "new"), path); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.next("v2")
	write(t, filepath.Join(dir, "last"), "change", 0o644)
	s.next("v2")
}

// text is an application in an interpreted language. It says who it is and
// waits to be told to go.
func text(version, then string) string {
	return fmt.Sprintf("import os, signal, sys\n# %s\nprint('script %[1]s generation ' + os.environ['HOTINIT_GENERATION'], flush=True)\n%s\nsignal.pause()\n", version, then)
}

func shellText(version, then string) string {
	return fmt.Sprintf("echo script %s generation $HOTINIT_GENERATION\n%s\nexec sleep 1000\n", version, then)
}

func TestTheScriptIsWatchedNotItsInterpreter(t *testing.T) {
	for _, c := range []struct {
		interpreter string
		text        func(version, then string) string
	}{
		{"sh", shellText},
		{"perl", func(v, _ string) string {
			return fmt.Sprintf("$| = 1; print \"script %s generation $ENV{HOTINIT_GENERATION}\\n\"; sleep 1000;\n", v)
		}},
		{"python3", text},
	} {
		t.Run(c.interpreter, func(t *testing.T) {
			site.Need(t, c.interpreter)
			dir := directory(t)
			app := filepath.Join(dir, "app")
			write(t, app, c.text("v1", ""), 0o644)
			s := launch(t, dir, false, []string{"--interval", "50ms", "--settle", "100ms"}, c.interpreter, "app")
			s.Line("script v1 generation 1")
			write(t, app+".new", c.text("v2", ""), 0o644)
			s.sh(`mv app.new app`)
			s.Line("script v2 generation 2")
			write(t, app, c.text("v3", ""), 0o644) // a script may be overwritten
			s.Line("script v3 generation 3")
		})
	}
}

func TestAScriptRollsBackThroughItsReleaseFolder(t *testing.T) {
	dir := directory(t)
	for _, version := range []string{"v1", "v2", "v3"} {
		release := filepath.Join(dir, "releases", version)
		if err := os.MkdirAll(release, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(release, "app.sh"), shellText(version, ""), 0o644)
	}
	if err := os.Symlink("releases/v1", filepath.Join(dir, "current")); err != nil {
		t.Fatal(err)
	}
	s := launch(t, dir, true, []string{"--interval", "50ms", "--probation", "2s"}, "sh", "current/app.sh")
	s.Line("script v1 generation 1")
	s.Proven(1)
	s.sh(`ln -sfn releases/v2 current`)
	s.Line("script v2 generation 2")
	s.Line("generation 2 is ready")
	s.SignalTo(s.pid(2), unix.SIGKILL)
	s.Line(`the last good release, .*, is started again`)
	s.Line("script v1 generation 3")
	s.Line("generation 3 is ready")
	s.sh(`ln -sfn releases/v3 current`)
	s.Line("script v3 generation 4")
}

func TestAScriptThatWasReplacedCannotBeRolledBackAndThatIsSaid(t *testing.T) {
	dir := directory(t)
	app := filepath.Join(dir, "app.sh")
	write(t, app, shellText("v1", ""), 0o644)
	s := launch(t, dir, true, []string{"--interval", "50ms", "--probation", "2s"}, "sh", "app.sh")
	s.Line("script v1 generation 1")
	s.Proven(1)
	write(t, app+".new", shellText("v2", ""), 0o644)
	s.sh(`mv app.sh.new app.sh`)
	s.Line("generation 2 is ready")
	s.SignalTo(s.pid(2), unix.SIGKILL)
	s.Line(`the last good release, .*, is started again`)
	s.Line(`the last good release of .*app.sh was replaced, and sh can only read what is at a path`)
	if status := s.Wait(); status != 128+9 {
		t.Errorf("status %d, want 137", status)
	}
	if strings.Contains(s.Output.Text(), "script v2 generation 3") {
		t.Errorf("the release that failed ran again:\n%s", s.Output)
	}
}
