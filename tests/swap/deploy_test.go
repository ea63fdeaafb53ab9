package swap

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// releaseOf makes a release of the test application outside of what is watched.
func releaseOf(t *testing.T, version string, flags ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "server")
	box.Install(t, path, version, flags...)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// deploy runs hotinit deploy with something on its standard input.
func deploy(s *site.Site, in []byte, args ...string) (status int, output string) {
	s.T.Helper()
	c := s.Client(append([]string{"deploy"}, args...)...)
	c.Stdin = bytes.NewReader(in)
	return site.Finish(s.T, c)
}

// tarOf makes an archive of a program in bin/server, and a file beside it.
func tarOf(t *testing.T, program []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range map[string][]byte{"bin/server": program, "conf/a": []byte("a")} {
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(content))})
		if err == nil {
			_, err = w.Write(content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// sweptBy waits until what the watch saw of a deploy has been acted upon: the next
// release, which is renamed into place, is the next generation.
func sweptBy(s *site.Site, n int) {
	s.T.Helper()
	s.Swap("last")
	s.Until("the next release is current", func() bool {
		for _, g := range s.Status().Generations {
			if g.Phase == "current" && g.N >= n {
				if g.N != n {
					s.T.Fatalf("the next release is generation %d, not %d: something was started twice\n%s", g.N, n, s.Output)
				}
				return true
			}
		}
		return false
	})
}

// nothingLeft fails where a deploy left a file of its own.
func nothingLeft(s *site.Site) {
	s.T.Helper()
	_ = filepath.WalkDir(s.Dir, func(path string, d fs.DirEntry, err error) error {
		if strings.HasPrefix(filepath.Base(path), ".hotinit-deploy-") {
			s.T.Errorf("%s was left", path)
		}
		return nil
	})
}

func TestDeployPutsAFileInPlaceAndSwapsOnce(t *testing.T) {
	s := site.Serving(t, site.Options{})
	if err := os.Chmod(s.Path, 0o750); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(s.Path, 65534, 65533); err != nil {
			t.Fatal(err)
		}
	}
	var before, after unix.Stat_t
	_ = unix.Stat(s.Path, &before)
	status, text := deploy(s, releaseOf(t, "v2"), "-")
	if status != 0 || !strings.HasPrefix(text, "generation 2 is current (release ") {
		t.Fatalf("status %d: %s\n%s", status, text, s.Output)
	}
	s.Answers("v2 generation 2 ")
	_ = unix.Stat(s.Path, &after)
	if before.Mode != after.Mode || before.Uid != after.Uid || before.Gid != after.Gid {
		t.Errorf("mode %o, owner %d, group %d; it was %o, %d, %d", after.Mode, after.Uid, after.Gid, before.Mode, before.Uid, before.Gid)
	}
	nothingLeft(s)
	status, text = deploy(s, releaseOf(t, "v2"))
	if status != 0 || !strings.Contains(text, "generation 2 runs it") {
		t.Errorf("the same once more: status %d: %s", status, text)
	}
	sweptBy(s, 3)
}

func TestDeployIntoAWatchedDirectorySwapsOnce(t *testing.T) {
	s := site.Open(t, site.Options{
		Command: []string{"app/server"}, Flags: []string{"--watch", "app", "--settle", "10ms"},
		Prepare: func(s *site.Site) {
			s.Path = s.File("app/server")
			_ = os.Mkdir(s.File("app"), 0o755)
			box.Install(t, s.Path, "v1")
		},
	})
	s.Becomes(1, "current")
	if status, text := deploy(s, releaseOf(t, "v2")); status != 0 || !strings.HasPrefix(text, "generation 2 is current") {
		t.Fatalf("status %d: %s\n%s", status, text, s.Output)
	}
	s.Answers("v2 generation ")
	nothingLeft(s)
	s.Write("app/more", "x")
	s.Until("the change after it is started", func() bool { return started(s) > 2 })
	s.Until("it is current", func() bool {
		return slices.ContainsFunc(s.Status().Generations, func(g control.Generation) bool { return g.Phase == "current" && g.N > 2 })
	})
	if n := started(s); n != 3 {
		t.Errorf("%d generations were started\n%s", n, s.Output)
	}
}

// started counts the generations that were started.
func started(s *site.Site) int {
	return s.Output.Count(regexp.MustCompile(`^hotinit: generation [0-9]+ is started `))
}

func TestARejectedDeployPutsTheFileBeforeBack(t *testing.T) {
	s := site.Serving(t, site.Options{})
	before := s.Read("server")
	status, text := deploy(s, releaseOf(t, "v2", "-exit", "9"))
	if status != 1 || !strings.Contains(text, "exited with status 9") || !strings.Contains(text, "what was there before is back at "+s.Path) {
		t.Errorf("status %d: %s", status, text)
	}
	if s.Read("server") != before {
		t.Error("the file before is not back")
	}
	nothingLeft(s)
	if status, text := s.Ask("status"); status != 0 || !strings.Contains(text, ": exited with status 9") || strings.Contains(text, "a restart of hotinit") {
		t.Errorf("status warns of what is not there any more: %s", text)
	}
	// It is tried again where somebody asks, although it was rejected.
	if status, text := deploy(s, releaseOf(t, "v2", "-exit", "9")); status != 1 || !strings.Contains(text, "exited with status 9") {
		t.Errorf("once more: status %d: %s", status, text)
	}
	s.Answers("v1 generation 1 ")
	sweptBy(s, 4)
}

func TestADeployThatIsNoReleaseChangesNothing(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--check", "sh -c 'if grep -q \"#app bad\" {}; then echo line 3 is bad; echo the test failed; exit 1; fi'"}})
	before := s.Read("server")
	good := releaseOf(t, "good")
	for what, in := range map[string][]byte{
		"a truncated program":     good[:len(good)/2],
		"nothing":                 {},
		"what --check refuses":    releaseOf(t, "bad"),
		"a script without a name": []byte("#!/none/sh\n"),
		"a text":                  []byte("hello\n"),
	} {
		status, text := deploy(s, in)
		if status != 125 || strings.Contains(text, "is current") {
			t.Errorf("%s: status %d: %s", what, status, text)
		}
		why := map[string]string{
			"a text":               "nothing is changed: neither an ELF file nor a #! script",
			"what --check refuses": "--check: it exited with status 1: line 3 is bad; the test failed",
			"nothing":              "there is nothing to put at " + s.Path + ": the input is empty (docker exec needs -i)",
		}[what]
		if !strings.Contains(text, why) {
			t.Errorf("%s: %s", what, text)
		}
		if s.Read("server") != before {
			t.Errorf("%s was put in place", what)
		}
		nothingLeft(s)
	}
}

// TestADeployThatIsStoppedLeavesNothing has the signals come while the input is not over.
func TestADeployThatIsStoppedLeavesNothing(t *testing.T) {
	program := releaseOf(t, "v2")
	for sig, args := range map[unix.Signal][]string{unix.SIGINT: nil, unix.SIGTERM: {"--dir"}, unix.SIGHUP: {"--dir"}} {
		t.Run(sig.String(), func(t *testing.T) {
			s := site.Open(t, site.Options{
				Command: []string{"app/bin/server"}, Flags: []string{"--watch", "app"},
				Prepare: func(s *site.Site) {
					_ = os.MkdirAll(s.File("app/bin"), 0o755)
					box.Install(t, s.File("app/bin/server"), "v1")
				},
			})
			s.Becomes(1, "current")
			before := s.Read("app/bin/server")
			in := program
			if args != nil {
				in = tarOf(t, program)
			}
			c := s.Client(append([]string{"deploy"}, args...)...)
			input, err := c.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer input.Close()
			var out bytes.Buffer
			c.Stdout, c.Stderr = &out, &out
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := input.Write(in[:len(in)/2]); err != nil {
				t.Fatal(err)
			}
			s.Until("something is written", func() bool {
				names, _ := filepath.Glob(s.File("app/bin/.hotinit-deploy-*"))
				more, _ := filepath.Glob(s.File(".hotinit-deploy-*"))
				return len(names)+len(more) > 0
			})
			for _, p := range s.Processes() {
				if len(p.Args) > 1 && p.Args[0] == box.Hotinit && p.Args[1] == "deploy" {
					_ = unix.Kill(p.PID, sig)
				}
			}
			if err := c.Wait(); err == nil || !strings.Contains(out.String(), "nothing is changed: stopped by a signal") {
				t.Errorf("%v: %s", err, &out)
			}
			nothingLeft(s)
			if s.Read("app/bin/server") != before {
				t.Error("the old file is not there")
			}
			s.Answers("v1 generation 1 ")
		})
	}
}

func TestADeployOfWhatAnInterpreterReadsNeedsNoForm(t *testing.T) {
	s := site.Open(t, site.Options{
		Command: []string{"sh", "app.sh"}, Flags: []string{"--ready", "interval", "--interval", "0"},
		Prepare: func(s *site.Site) { s.Write("app.sh", "exec sleep 1000 # 1\n") },
	})
	s.Becomes(1, "current")
	if status, text := deploy(s, []byte("exec sleep 1000 # 2\n")); status != 0 || !strings.HasPrefix(text, "generation 2 is current") {
		t.Errorf("status %d: %s", status, text)
	}
}

// behindALink runs a release that a link leads to, which is watched.
func behindALink(t *testing.T, link string, flags ...string) *site.Site {
	t.Helper()
	s := site.Open(t, site.Options{
		Command: []string{link + "/bin/server"}, Flags: append([]string{"--watch", link}, flags...),
		Prepare: func(s *site.Site) {
			_ = os.MkdirAll(s.File("releases/1/bin"), 0o755)
			box.Install(t, s.File("releases/1/bin/server"), "v1")
			s.Link("releases/1", link)
		},
	})
	s.Becomes(1, "current")
	return s
}

func TestDeployTurnsALinkToANewDirectory(t *testing.T) {
	s := behindALink(t, "current", "--settle", "10ms")
	status, text := deploy(s, tarOf(t, releaseOf(t, "v2")), "--dir")
	if status != 0 || !strings.Contains(text, "generation 2 is current") {
		t.Fatalf("status %d: %s\n%s", status, text, s.Output)
	}
	s.Answers("v2 generation ")
	led, _ := os.Readlink(s.File("current"))
	if !strings.HasPrefix(led, "releases/2") || s.Read("current/conf/a") != "a" || s.Read("releases/1/bin/server") == "" {
		t.Errorf("current leads to %q", led)
	}
	status, text = deploy(s, tarOf(t, releaseOf(t, "v3", "-exit", "9")), "--dir")
	if now, _ := os.Readlink(s.File("current")); status != 1 || now != led {
		t.Errorf("status %d, current leads to %q, not %q: %s", status, now, led, text)
	}
	if status, text = deploy(s, tarOf(t, []byte("#!/none/sh\n")), "--dir", "--to", s.File("current")); status != 125 {
		t.Errorf("status %d: %s", status, text)
	}
	whole := tarOf(t, releaseOf(t, "v4"))
	if status, text = deploy(s, whole[:len(whole)-2*512], "--dir"); status != 125 || !strings.Contains(text, "the archive is not complete") {
		t.Errorf("status %d: %s", status, text)
	}
	if status, text = deploy(s, nil, "--dir"); status != 125 || !strings.Contains(text, "there is nothing to put at "+s.File("current")+": the archive is empty (docker exec needs -i)") {
		t.Errorf("status %d: %s", status, text)
	}
	if names, _ := os.ReadDir(s.File("releases")); len(names) != 2 {
		t.Errorf("there are %v", names)
	}
	s.Answers("v2 generation ")
}

// TestDeployOfADirectoryStartsItOnce has the watch see what was deployed once that runs,
// and is not ready yet.
func TestDeployOfADirectoryStartsItOnce(t *testing.T) {
	for what, flags := range map[string][]string{"a link": nil, "a link, with copies": {"--snapshot"}, "a directory": nil} {
		t.Run(what, func(t *testing.T) {
			s := site.Open(t, site.Options{
				Command: []string{"app/bin/server"}, Flags: append([]string{"--watch", "app", "--settle", "500ms", "--ready", "notify", "-vv"}, flags...),
				Prepare: func(s *site.Site) {
					at := "releases/1"
					if what == "a directory" {
						at = "app"
					} else {
						s.Link(at, "app")
					}
					_ = os.MkdirAll(s.File(at+"/bin"), 0o755)
					box.Install(t, s.File(at+"/bin/server"), "v1", "-ready", "once")
				},
			})
			s.Becomes(1, "current")
			fifo := s.File("ready")
			open := box.Fifo(t, fifo)
			c := s.Client("deploy", "--dir")
			c.Stdin = bytes.NewReader(tarOf(t, releaseOf(t, "v2", "-ready", fifo)))
			var out bytes.Buffer
			c.Stdout, c.Stderr = &out, &out
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			s.Becomes(2, "candidate")
			s.Line("has new content|leads to another file|conf/a changed")
			open()
			if err := c.Wait(); err != nil || !strings.HasPrefix(out.String(), "generation 2 is current") {
				t.Errorf("%v: %s", err, &out)
			}
			if n := started(s); n != 2 {
				t.Errorf("%d generations were started\n%s", n, s.Output)
			}
		})
	}
}

// TestOnHoldWhatWasDeployedDoesNotWaitForResume has the watch see it, too.
func TestOnHoldWhatWasDeployedDoesNotWaitForResume(t *testing.T) {
	s := behindALink(t, "app", "--settle", "1ms")
	s.Ask("hold")
	if status, text := deploy(s, tarOf(t, releaseOf(t, "v2")), "--dir"); status != 0 {
		t.Fatalf("status %d: %s\n%s", status, text, s.Output)
	}
	s.Line("app/bin/server has new content")
	if _, text := s.Ask("status"); strings.Contains(text, "waits for hotinit resume") {
		t.Errorf("status: %s", text)
	}
	s.Write("app/conf/b", "b")
	s.Until("the change after it waits", func() bool {
		_, text := s.Ask("status")
		return strings.Contains(text, "waits for hotinit resume")
	})
	if status, text := s.Ask("resume"); status != 0 || !strings.Contains(text, "generation 3 is being started") {
		t.Errorf("status %d: %s", status, text)
	}
}

func TestDeployExchangesADirectory(t *testing.T) {
	s := site.Open(t, site.Options{
		Command: []string{"app/bin/server"}, Flags: []string{"--watch", "app", "--settle", "10ms"},
		Prepare: func(s *site.Site) {
			_ = os.MkdirAll(s.File("app/bin"), 0o755)
			box.Install(t, s.File("app/bin/server"), "v1")
		},
	})
	s.Becomes(1, "current")
	status, text := deploy(s, tarOf(t, releaseOf(t, "v2")), "--dir", "-")
	if status != 0 || !strings.Contains(text, "generation 2 is current") {
		t.Fatalf("status %d: %s\n%s", status, text, s.Output)
	}
	s.Answers("v2 generation ")
	status, text = deploy(s, tarOf(t, releaseOf(t, "v3", "-exit", "9")), "--dir")
	if status != 1 || !strings.Contains(text, "is back at") || s.Read("app/conf/a") != "a" {
		t.Errorf("status %d: %s", status, text)
	}
	s.Answers("v2 generation ")
}

func TestADeploySurvivesAKilledHandoff(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--ready", "notify"}, App: []string{"-ready", "once"}})
	fifo := s.File("ready")
	open := box.Fifo(t, fifo)
	c := s.Client("deploy")
	c.Stdin = bytes.NewReader(releaseOf(t, "v2", "-ready", fifo))
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	s.Becomes(2, "candidate")
	s.KillHandoff()
	s.Becomes(2, "candidate") // the next handoff answers
	open()
	if err := c.Wait(); err != nil || !strings.Contains(out.String(), "generation 2 ") {
		t.Errorf("%v: %s\n%s", err, &out, s.Output)
	}
	s.Answers("v2 generation 2 ")
}
