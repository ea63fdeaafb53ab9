package swap

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// serve starts hotinit as PID 1 with a release of the application, and returns
// it with the application's path and address once it answers.
func serve(t *testing.T, flags []string, appFlags ...string) (b *box.Box, path, address string) {
	t.Helper()
	box.NeedNamespace(t)
	path, address = filepath.Join(t.TempDir(), "server"), box.Address()
	box.Install(t, path, "v1", appFlags...)
	b = box.Start(t, box.Options{
		Args: append(flags, "--", path),
		Env:  box.Environment("HOTINIT_PORTS="+address, "MINE=kept as it is"),
		Dir:  "/",
	})
	b.Answers(address, "v1 generation 1 ")
	return b, path, address
}

// stop ends a hotinit in order.
func stop(t *testing.T, b *box.Box) {
	t.Helper()
	b.Signal(unix.SIGTERM)
	if status := b.Wait(); status != 0 {
		t.Errorf("hotinit ended with status %d:\n%s", status, b.Output)
	}
}

func TestTheAppGetsItsVariables(t *testing.T) {
	b, path, address := serve(t, nil)
	for generation := 1; generation <= 3; generation++ {
		b.Answers(address, fmt.Sprintf("v1 generation %d ", generation))
		g := b.GivenTo(address, generation)
		for name, want := range map[string]string{
			"SERVER_STARTER_PORT":       address + "=3",
			"SERVER_STARTER_GENERATION": strconv.Itoa(generation),
			"HOTINIT_GENERATION":        strconv.Itoa(generation),
			"LISTEN_FDS":                "1",
			"LISTEN_PID":                strconv.Itoa(g.PID),
			"MINE":                      "kept as it is",
			"HOTINIT_PORTS":             address,
		} {
			if got := g.Env[name]; got != want {
				t.Errorf("generation %d: %s is %q, want %q", generation, name, got, want)
			}
		}
		for _, name := range []string{"LISTEN_FDNAMES", "NOTIFY_SOCKET"} {
			if g.Env[name] == "" {
				t.Errorf("generation %d: %s is not set", generation, name)
			}
		}
		if len(g.Args) != 1 || g.Args[0] != path {
			t.Errorf("generation %d: its arguments are %q, want %q alone", generation, g.Args, path)
		}
		b.Signal(unix.SIGHUP)
	}
}

func TestTheAppIsAsIfItWasExecutedDirectly(t *testing.T) {
	b, path, address := serve(t, nil)
	c := exec.Command(path, "-given")
	c.Dir = "/"
	text, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	var direct box.Given
	if err := json.Unmarshal(text, &direct); err != nil {
		t.Fatal(err)
	}
	g := b.Given(address)
	if g.Dir != direct.Dir || g.UID != 0 || g.Umask != direct.Umask || g.NoFile != direct.NoFile {
		t.Errorf("directory %q, user %d, umask %#o, %d files: want %q, 0, %#o, %d",
			g.Dir, g.UID, g.Umask, g.NoFile, direct.Dir, direct.Umask, direct.NoFile)
	}
	if g.Group != g.PID {
		t.Errorf("its process group is %d, its PID %d: want a group of its own", g.Group, g.PID)
	}
	for name, want := range direct.Signals {
		if got := g.Signals[name]; got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

// What a C program sees is exact: Go's runtime changes its dispositions.
func TestSignalStateReachesTheCommandUnchanged(t *testing.T) {
	box.NeedNamespace(t)
	grep, err := exec.LookPath("grep")
	if err != nil {
		t.Skip(err)
	}
	words := []string{"^Sig[BI]", "/proc/self/status"}
	direct, err := exec.Command(grep, words...).Output()
	if err != nil {
		t.Fatal(err)
	}
	b := box.Start(t, box.Options{Args: append([]string{"--", grep}, words...)})
	if status := b.Wait(); status != 0 || b.Output.Text() != strings.TrimSpace(string(direct)) {
		t.Errorf("status %d, under hotinit:\n%s\ndirectly:\n%s", status, b.Output, direct)
	}
}

func TestNothingElseLeaksIntoTheApp(t *testing.T) {
	b, path, address := serve(t, nil)
	check := func(generation int) {
		t.Helper()
		g := b.GivenTo(address, generation)
		if len(g.Descriptors) != 4 {
			t.Errorf("generation %d: its descriptors are %v, want 0 to 3", generation, g.Descriptors)
		}
		for i, d := range g.Descriptors {
			if d.Number != i {
				t.Errorf("generation %d: has descriptor %d (%s), want 0 to 3", generation, d.Number, d.Target)
			}
		}
		if d := g.Descriptors[3]; !strings.HasPrefix(d.Target, "socket:") || d.Address != box.Port {
			t.Errorf("generation %d: descriptor 3 is %s with port %s, want the socket", generation, d.Target, d.Address)
		}
	}
	check(1)
	box.Swap(t, path, "v2")
	b.Answers(address, "v2 generation 2 ")
	check(2)
	b.KillHandoff()
	b.Signal(unix.SIGHUP)
	b.Answers(address, "v2 generation 3 ")
	check(3)
	stop(t, b)
}

// O_NONBLOCK belongs to the open file, which all generations share: were it
// changed for one, a Go server of another would hang in accept(2).
func TestStartingAGenerationLeavesTheListenerNonBlocking(t *testing.T) {
	b, _, address := serve(t, []string{"--ready", "notify"}, "-exit-by-number")
	for generation := 2; generation <= 4; generation++ {
		b.Signal(unix.SIGHUP)
		b.Line(fmt.Sprintf(`generation %d .*exited with status %[1]d`, generation))
		if got := b.Get(address, "/nonblocking"); got != "true\n" {
			t.Fatalf("after generation %d was started the listener is non-blocking: %s", generation, got)
		}
		if generation == 3 {
			b.KillHandoff()
		}
	}
	stop(t, b)
}

func TestAListenerThatAnAppMadeNonBlockingStaysSo(t *testing.T) {
	box.NeedNamespace(t)
	perl, err := exec.LookPath("perl")
	if err != nil {
		t.Skip(err)
	}
	// Generation 1 makes the socket non-blocking; each one prints what it found.
	program := `use Fcntl; use IO::Handle; STDOUT->autoflush(1);
		open(my $l, "<&=", 3) or die; my $f = fcntl($l, F_GETFL, 0) or die;
		print "generation $ENV{HOTINIT_GENERATION} found ", ($f & O_NONBLOCK ? "non-blocking" : "blocking"), "\n";
		fcntl($l, F_SETFL, $f | O_NONBLOCK) or die;
		$SIG{TERM} = sub { exit 0 }; print "up\n"; sleep 1000 while 1;`
	b := box.Start(t, box.Options{
		Args: []string{"--ready", "interval", "--interval", "100ms", "--port", box.Address(), "--", perl, "-e", program},
		Env:  box.Environment(),
	})
	b.Line(`generation 1 found blocking`)
	b.Line(`up`)
	for generation := 2; generation <= 3; generation++ {
		b.Signal(unix.SIGHUP)
		b.Line(fmt.Sprintf(`generation %d found non-blocking`, generation))
		b.Line(`up`)
	}
	stop(t, b)
}

func TestTheSocketsAreBoundOnce(t *testing.T) {
	b, path, address := serve(t, nil)
	socket := b.Given(address).Descriptors[3].Target
	box.Swap(t, path, "v2")
	b.Answers(address, "v2 ")
	b.KillHandoff()
	b.Signal(unix.SIGHUP)
	b.Answers(address, "v2 generation 3 ")
	if now := b.GivenTo(address, 3).Descriptors[3].Target; now != socket {
		t.Errorf("descriptor 3 was %s and is %s", socket, now)
	}
	stop(t, b)
	if refused, err := box.Refused(address); err != nil || !refused {
		t.Errorf("after the end somebody still listens on %s (%v)", address, err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}
