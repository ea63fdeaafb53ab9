package inits

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// own are the probe's descriptors that a test is about: those below 20, as the
// test's own environment may leave some higher ones open.
func own(s map[string]string) string {
	var few []string
	for _, d := range strings.Split(s["descriptors"], ",") {
		if len(strings.TrimSuffix(d, "s")) == 1 {
			few = append(few, d)
		}
	}
	return strings.Join(few, ",")
}

func TestActivatedSocketsArePassedOn(t *testing.T) {
	b := around(t, []string{"activate", "2", "web:admin"}, "--ready", "interval", "--interval", "50ms", "--", probe(t), "state", "15")
	var ports []string
	for generation := range 3 {
		s := fields(t, b)
		if own(s) != "0,1,2,3s,4s" || s["LISTEN_FDS"] != "2" || s["LISTEN_FDNAMES"] != "web:admin" || s["LISTEN_PID"] != s["pid"] {
			t.Errorf("generation %d: %v", generation+1, s)
		}
		b.Line("^ready$")
		ports = append(ports, readlink(t, "/proc/"+itoa(app(t, b, "state").PID)+"/fd/4"))
		if ports[0] != ports[generation] {
			t.Errorf("generation %d has another socket: %v", generation+1, ports)
		}
		switch generation {
		case 0:
			b.Signal(1)
		case 1:
			b.KillHandoff() // init holds them
			b.Signal(1)
		}
	}
}

func TestActivatedSocketsStandBesideThoseOfPort(t *testing.T) {
	b := around(t, []string{"activate", "1", "web"}, "--port", "127.0.0.1:0", "--", probe(t), "state")
	ended(t, b, 0)
	if s := fields(t, b); own(s) != "0,1,2,3s,4s" || s["LISTEN_FDS"] != "2" || !strings.HasPrefix(s["LISTEN_FDNAMES"], "web:") {
		t.Errorf("%v", s)
	}
}

func TestSocketsThatAreForAnotherProcessAreNoActivation(t *testing.T) {
	// The shell has another PID than hotinit: it is not LISTEN_PID's process.
	b := run(t, box.Options{
		Args: []string{"--", probe(t), "state"},
		Env:  box.Environment("LISTEN_FDS=1", "LISTEN_PID=4711", "LISTEN_FDNAMES=web"),
	})
	ended(t, b, 0)
	if s := fields(t, b); own(s) != "0,1,2" || s["LISTEN_FDS"] != "" || s["LISTEN_PID"] != "" {
		t.Errorf("%v", s)
	}
}

// redirected runs an init whose descriptors a shell has opened.
func redirected(t *testing.T, init, redirections string, words ...string) *box.Box {
	t.Helper()
	script := `exec "$0" "$@" ` + redirections
	return run(t, box.Options{Binary: command(t, "sh"), Name: "sh", Args: append([]string{"-c", script, init}, words...)})
}

func TestDescriptorsKeepTheirNumbersWhereThereAreNoSockets(t *testing.T) {
	for _, init := range []string{box.Hotinit, "tini"} {
		t.Run(filepath.Base(init), func(t *testing.T) {
			if init == "tini" {
				init = command(t, "tini")
			}
			b := redirected(t, init, "5</dev/null 9</dev/null", "--", probe(t), "state")
			ended(t, b, 0)
			if s := fields(t, b); own(s) != "0,1,2,5,9" {
				t.Errorf("descriptors %s, want 0,1,2,5,9", own(s))
			}
		})
	}
}

func TestKeepFDsNamesThoseThatStandBesideSockets(t *testing.T) {
	b := redirected(t, box.Hotinit, "5</dev/null 9</dev/null", "--port", "127.0.0.1:0", "--keep-fds", "9", "--", probe(t), "state")
	ended(t, b, 0)
	if s := fields(t, b); own(s) != "0,1,2,3s,9" {
		t.Errorf("descriptors %s, want 0,1,2,3s,9", own(s))
	}
}

func TestKeepFDsOfADescriptorThatIsNotThereIsAnError(t *testing.T) {
	b := start(t, "--port", "127.0.0.1:0", "--keep-fds", "8", "--", probe(t), "state")
	ended(t, b, 125)
	b.Line(`--keep-fds 8.*not started with a descriptor 8`)
}

// A relative path is relative to where hotinit was started: its own directory is /.
func TestARelativeSocketPathIsInTheFolderThatHotinitWasStartedIn(t *testing.T) {
	dir := t.TempDir()
	b := run(t, box.Options{Dir: dir, Args: []string{"--path", "app.sock", "--", probe(t), "state", "15"}})
	b.Line("^ready$")
	if info, err := os.Stat(filepath.Join(dir, "app.sock")); err != nil || info.Mode()&os.ModeSocket == 0 {
		t.Errorf("%v, %v", info, err)
	}
	stop(t, b, 0)
	if _, err := os.Stat(filepath.Join(dir, "app.sock")); !os.IsNotExist(err) {
		t.Errorf("the socket's file is left: %v", err)
	}
}
