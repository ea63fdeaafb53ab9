package adopt

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/adopt"
	"github.com/hotinit/hotinit/internal/testkit/box"
)

// running starts a server under hotinit.
func (p *place) running(t *testing.T, o box.Options, flags ...string) *box.Box {
	t.Helper()
	p.install()
	o.Args = append(o.Args, p.args(flags...)...)
	o.Dir, o.Env = p.tmp, append(box.Environment(p.env()...), o.Env...)
	b := box.Start(t, o)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("hotinit and the server said:\n%s", b.Output)
		}
	})
	return b
}

func TestHandoffsThatAreKilledLoseNoSocket(t *testing.T) {
	if err := adopt.Supported(); err != nil {
		t.Skip(err)
	}
	setpriv, err := exec.LookPath("setpriv")
	ways := map[string]box.Options{"taken": {}}
	if err == nil && os.Geteuid() == 0 {
		ways["made"] = box.Options{Binary: setpriv, Name: "setpriv", Args: []string{"--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace", box.Hotinit}}
	}
	for name, o := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := find(t, "static Go").prepare(t)
			b := p.running(t, o)
			b.Line(`^hotinit: generation 1 is ready`)
			l := startLoad("127.0.0.1:"+p.port, httpRequest, "generation")
			l.more(t, 20)
			for generation := 2; generation <= 6; generation++ {
				b.Signal(unix.SIGHUP)
				l.more(t, 3*generation) // some moment of the swap
				b.KillHandoff()
				b.Line(fmt.Sprintf(`^hotinit: generation %d is ready`, generation))
				b.Line(fmt.Sprintf(`^hotinit: generation %d ended`, generation-1))
				l.more(t, 20)
			}
			l.end()
			t.Logf("%d requests, %d refused, %d lost", l.done, len(l.refused), len(l.lost))
			if len(l.refused) > 0 || len(l.lost) > 5*workers {
				t.Errorf("refused %v, lost %d", l.refused, len(l.lost))
			}
		})
	}
}

func TestAServerThatIsToldToStopRefusesOnceItHasClosedItsSocket(t *testing.T) {
	if err := adopt.Supported(); err != nil {
		t.Skip(err)
	}
	s := find(t, "python http.server")
	s.release, s.command = "stop.py", "python3 {tmp}/stop.py"
	p := s.prepare(t)
	b := p.running(t, box.Options{})
	b.Line("^ready$")
	b.Signal(unix.SIGTERM)
	b.Line("^closed$") // and it lives on
	// Init lets go of the socket at the same time.
	b.Until("connections are refused once the app has closed its socket", func() bool {
		refused, err := box.Refused("127.0.0.1:" + p.port)
		return err == nil && refused
	})
	b.Signal(unix.SIGTERM)
	b.Wait()
}

// A filter with notifications can be there once: so the inner one of two cannot.
func TestWithoutNotificationsAutoSaysSoAndOnIsAnError(t *testing.T) {
	if err := adopt.Supported(); err != nil {
		t.Skip(err)
	}
	outer := []string{"--adopt", "on", "--", box.Hotinit}
	t.Run("auto", func(t *testing.T) {
		p := find(t, "python http.server").prepare(t)
		b := p.running(t, box.Options{Args: outer})
		b.Line("^hotinit: a server that binds its own port cannot be swapped here: .*filter with notifications.*--adopt")
		b.Answers("127.0.0.1:"+p.port, "generation 1")
	})
	t.Run("on", func(t *testing.T) {
		p := find(t, "python http.server").prepare(t)
		b := p.running(t, box.Options{Args: outer}, "--adopt", "on")
		if status := b.Wait(); status != 125 {
			t.Errorf("status %d, want 125", status)
		}
	})
}

func TestAdoptionIsOffWhereSudoWouldLoseItsPrivileges(t *testing.T) {
	if err := adopt.Supported(); err != nil {
		t.Skip(err)
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil || os.Geteuid() != 0 {
		t.Skip("needs root, and setpriv (util-linux)")
	}
	as := []string{"--reuid", "65534", "--regid", "65534", "--clear-groups"}
	for name, want := range map[string]string{
		"with sudo": "^hotinit: a server that binds its own port cannot be swapped here: .*/sudo is there.*--adopt on",
		"without":   "^hotinit: generation 1 listens on",
		"off":       "^ready$",
	} {
		t.Run(name, func(t *testing.T) {
			s := find(t, "python http.server")
			s.release, s.command = "stop.py", "/usr/bin/python3 {tmp}/stop.py"
			p := s.prepare(t)
			bin := filepath.Join(p.tmp, "bin")
			if err := os.Mkdir(bin, 0o755); err != nil {
				t.Fatal(err)
			}
			if name != "without" {
				if err := os.WriteFile(filepath.Join(bin, "sudo"), nil, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			// Another user could not reach the directory of the test's own hotinit.
			hotinit := filepath.Join(p.tmp, "hotinit")
			b, err := os.ReadFile(box.Hotinit)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(hotinit, b, 0o755); err != nil {
				t.Fatal(err)
			}
			for dir := p.tmp; dir != filepath.Dir(dir) && dir != os.TempDir(); dir = filepath.Dir(dir) {
				_ = os.Chmod(dir, 0o755)
			}
			flags := []string{}
			if name == "off" {
				flags = []string{"--adopt", "off"}
			}
			run := p.running(t, box.Options{Binary: setpriv, Name: "setpriv", Args: append(as, hotinit), Env: []string{"PATH=" + bin}}, flags...)
			run.Line(want)
			if name == "off" && strings.Contains(run.Output.Text(), "adopt") {
				t.Errorf("hotinit said:\n%s", run.Output)
			}
		})
	}
}
