package programs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

var startLine = regexp.MustCompile(`^hotinit: web: generation [0-9]+ is started `)

// deploy runs hotinit deploy with a release of the test application on its standard
// input.
func (y *yard) deploy(version string, args ...string) (status int, output string) {
	y.t.Helper()
	path := filepath.Join(y.t.TempDir(), "server")
	box.Install(y.t, path, version)
	content, err := os.ReadFile(path)
	if err != nil {
		y.t.Fatal(err)
	}
	c := y.client(append([]string{"deploy"}, args...)...)
	c.Stdin = bytes.NewReader(content)
	return site.Finish(y.t, c)
}

// content returns what is at the path of the test application.
func (y *yard) content() string {
	y.t.Helper()
	b, err := os.ReadFile(y.server)
	if err != nil {
		y.t.Fatal(err)
	}
	return string(b)
}

func TestADeployAfterARollbackOfSettingsIsOneStart(t *testing.T) {
	a := box.Address()
	y := open(t, map[string]string{"web": serves(a, "A=1", "HOTINIT_PROBATION=0")})
	y.Until("generation 1 is current", func() bool { return y.row("web").State == "serving" })
	for i, line := range []string{"A=2", "A=3"} {
		y.write("web", serves(a, line, "HOTINIT_PROBATION=0"))
		y.Until("the settings are in force", func() bool { return y.row("web").Generation == i+2 })
	}
	if code, text := y.ask("rollback", "--program", "web", "--wait"); code != 0 {
		t.Fatalf("rollback: %d, %s", code, text)
	}
	before := y.content()
	code, text := y.deploy("v2", "web", "-")
	if code != 0 || !strings.HasPrefix(text, "generation 5 is current") {
		t.Errorf("deploy: %d, %s\n%s", code, text, y.Output)
	}
	if y.content() == before {
		t.Error("the file before was put back")
	}
	y.Answers(a, "v2 generation 5 ")
	if n := y.Output.Count(startLine); n != 5 {
		t.Errorf("%d generations were started, not 5:\n%s", n, y.Output)
	}
	y.stop(0)
}

func TestADeployAfterARollbackOfSettingsIsTheStartThatTheWatchBegan(t *testing.T) {
	a, gate := box.Address(), filepath.Join(t.TempDir(), "gate")
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	y := open(t, map[string]string{"web": serves(a, "A=1", "HOTINIT_PROBATION=0")})
	y.Until("generation 1 is current", func() bool { return y.row("web").State == "serving" })
	y.write("web", serves(a, "A=2", "HOTINIT_PROBATION=0", "HOTINIT_READY=exec:test -e "+gate))
	y.Until("the settings are in force", func() bool { return y.row("web").Generation == 2 })
	if code, text := y.ask("rollback", "--program", "web", "--wait"); code != 0 {
		t.Fatalf("rollback: %d, %s", code, text)
	}
	if err := os.Remove(gate); err != nil {
		t.Fatal(err)
	}
	inode := func() uint64 {
		info, err := os.Stat(y.server)
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Ino
	}
	box.Swap(t, y.server, "v2")
	y.Line("web: generation 4 is started")
	before := inode()
	go func() {
		y.Until("the same content is put there by the deploy", func() bool { return inode() != before })
		_ = os.WriteFile(gate, nil, 0o644)
	}()
	code, text := y.deploy("v2", "web", "-")
	if code != 0 || !strings.Contains(text, "generation 4 ") {
		t.Errorf("deploy: %d, %s\n%s", code, text, y.Output)
	}
	if n := y.Output.Count(startLine); n != 4 {
		t.Errorf("%d generations were started, not 4:\n%s", n, y.Output)
	}
	y.stop(0)
}

func TestADeployIsASuccessThoughTheSettingsChangeMeanwhile(t *testing.T) {
	a := box.Address()
	gate := filepath.Join(t.TempDir(), "gate")
	y := open(t, map[string]string{"web": serves(a, "A=1")})
	y.Until("generation 1 is current", func() bool { return y.row("web").State == "serving" })
	y.write("web", serves(a, "A=2", "HOTINIT_READY=exec:test -e "+gate))
	y.Line("web: generation 2 is started")
	type result struct {
		code int
		text string
	}
	done := make(chan result, 1)
	go func() {
		code, text := y.deploy("v2", "--program", "web", "-")
		done <- result{code, text}
	}()
	// On a busy machine one of the two changes may be seen in two parts, and takes two starts.
	y.Line("web: generation [0-9]+ is started")
	y.write("web", serves(a, "A=3"))
	if r := <-done; r.code != 0 || !regexp.MustCompile(`^generation [4-9] is current`).MatchString(r.text) {
		t.Errorf("deploy: %d, %s\n%s", r.code, r.text, y.Output)
	}
	var serving int
	y.Until("the last settings are in force", func() bool {
		var given box.Given
		body, err := box.Get(a, "/given")
		if err != nil || json.Unmarshal([]byte(body), &given) != nil || given.Env["A"] != "3" {
			return false
		}
		serving, _ = strconv.Atoi(given.Env["HOTINIT_GENERATION"])
		return y.row("web").Generation == serving
	})
	y.Answers(a, fmt.Sprintf("v2 generation %d ", serving))
	y.stop(0)
}

func TestADeployToAProgramThatDoesNotRunIsRefused(t *testing.T) {
	y := open(t, map[string]string{
		"web":     serves(box.Address()),
		"waiting": serves(box.Address(), "HOTINIT_AFTER=nosuch"),
		"once":    "HOTINIT_COMMAND=SERVER -exit 0\nHOTINIT_RUN=once\n",
		"other":   "HOTINIT_COMMAND=SERVER --echo\nHOTINIT_INTERVAL=0\n",
	})
	y.Until("web serves", func() bool { return y.row("web").State == "serving" })
	if code, text := y.ask("stop", "web"); code != 0 {
		t.Fatalf("stop: %d, %s", code, text)
	}
	y.Until("web is stopped", func() bool { return y.row("web").State == "stopped by hand" })
	before := y.content()
	for name, why := range map[string]string{
		"web":     "program web does not run: stopped by hand",
		"waiting": "program waiting does not run: ",
		"wbe":     `there is no program "wbe"`,
		"":        "several programs run: name one of once, other, waiting, web, with FILE or - after it (usage: hotinit deploy ",
	} {
		args := []string{"-"}
		if name != "" {
			args = []string{"--program", name, "-"}
		}
		if code, text := y.deploy("v2", args...); code != 125 || !strings.Contains(text, why) {
			t.Errorf("deploy to %q: %d, %s", name, code, text)
		}
		if y.content() != before {
			t.Fatalf("deploy to %q changed the file", name)
		}
	}
	y.Until("what runs once is done", func() bool { return y.row("once").State == "done" })
	if code, text := y.deploy("v2", "once", "-"); code != 0 || !strings.Contains(text, "the next run takes it") || y.content() == before {
		t.Errorf("deploy to what runs once: %d, %s", code, text)
	}
	y.stop(0)
}
