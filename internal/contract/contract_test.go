package contract

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hotinit/hotinit/internal/sockets"
)

// environmentOf is the environment of generation 7 by a contract.
func environmentOf(t *testing.T, c Contract) (env, selfPID []string) {
	t.Helper()
	env, selfPID, err := c.Environment(7)
	if err != nil {
		t.Fatal(err)
	}
	return env, selfPID
}

// socketsOf returns sockets as generations inherit them. Their descriptors here
// are 20, 21, …, so that a mix-up with the numbers in the app shows.
func socketsOf(t *testing.T, texts ...string) (out []Socket) {
	t.Helper()
	var specs []sockets.Spec
	for _, text := range texts {
		spec, err := sockets.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		specs = append(specs, spec)
	}
	numbers, err := sockets.Assign(specs)
	if err != nil {
		t.Fatal(err)
	}
	for i, spec := range specs {
		out = append(out, Socket{spec, 20 + i, numbers[i]})
	}
	return out
}

func envdirOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func expectEnv(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("the environment is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestTheContractFollowsHotinitsOwnEnvironment(t *testing.T) {
	env, self := environmentOf(t, Contract{
		Base:    []string{"PATH=/bin", "A=1"},
		Sockets: socketsOf(t, "8080", "unix:/run/app.sock,name=admin"),
		Notify:  "@n", Watchdog: 5 * time.Second,
	})
	expectEnv(t, env, "PATH=/bin", "A=1", "HOTINIT_GENERATION=7", "SERVER_STARTER_GENERATION=7",
		"SERVER_STARTER_PORT=8080=3;/run/app.sock=4", "LISTEN_FDS=2", "LISTEN_FDNAMES=8080:admin",
		"NOTIFY_SOCKET=@n", "WATCHDOG_USEC=5000000")
	expectEnv(t, self, "LISTEN_PID", "WATCHDOG_PID")
}

func TestWithoutSocketsThereAreNoVariablesOfSockets(t *testing.T) {
	env, self := environmentOf(t, Contract{})
	expectEnv(t, env, "HOTINIT_GENERATION=7", "SERVER_STARTER_GENERATION=7")
	expectEnv(t, self)
}

func TestStartServersPortVariableIsThereWithoutSockets(t *testing.T) {
	env, _ := environmentOf(t, Contract{Always: true})
	expectEnv(t, env, "HOTINIT_GENERATION=7", "SERVER_STARTER_GENERATION=7", "SERVER_STARTER_PORT=")
}

func TestASocketBeyondAGapIsNotCountedByListenFDs(t *testing.T) {
	env, _ := environmentOf(t, Contract{Sockets: socketsOf(t, "8080", "9000=9")})
	expectEnv(t, env, "HOTINIT_GENERATION=7", "SERVER_STARTER_GENERATION=7",
		"SERVER_STARTER_PORT=8080=3;9000=9", "LISTEN_FDS=1", "LISTEN_FDNAMES=8080")
}

func TestWhatWasMeantForHotinitIsNotPassedOn(t *testing.T) {
	var base []string
	for _, name := range own {
		base = append(base, name+"=outer")
	}
	env, _ := environmentOf(t, Contract{Base: append(base, "LISTEN_FDSX=mine", "A=1")})
	expectEnv(t, env, "LISTEN_FDSX=mine", "A=1", "HOTINIT_GENERATION=7", "SERVER_STARTER_GENERATION=7")
}

func TestAPlainInitLeavesTheEnvironmentAsItIs(t *testing.T) {
	base := []string{"LISTEN_FDS=1", "LISTEN_PID=1", "NOTIFY_SOCKET=/run/n", "A=1"}
	env, self := environmentOf(t, Contract{Base: base, Plain: true, Notify: "@n"})
	expectEnv(t, env, base...)
	expectEnv(t, self)
}

func TestEnvdirSetsReplacesAndRemoves(t *testing.T) {
	dir := envdirOf(t, map[string]string{
		"NEW": "value\nnot this line", "OLD": "replaced \t\r\n", "GONE": "", "BLANK": "\n", "LINES": "a\x00b\n",
	})
	env, _ := environmentOf(t, Contract{Base: []string{"OLD=1", "GONE=1", "STAYS=1"}, EnvDir: dir, Plain: true})
	expectEnv(t, env, "STAYS=1", "BLANK=", "LINES=a\nb", "NEW=value", "OLD=replaced")
}

func TestEnvdirSkipsWhatIsNoVariable(t *testing.T) {
	dir := envdirOf(t, map[string]string{".hidden": "1", "A=B": "1", "OK": "1"})
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	env, _ := environmentOf(t, Contract{EnvDir: dir, Plain: true})
	expectEnv(t, env, "OK=1")
}

func TestAnEndlessFileOfTheEnvdirIsAnError(t *testing.T) {
	dir := envdirOf(t, map[string]string{"A": ""})
	if err := os.Truncate(filepath.Join(dir, "A"), longestVariable+1); err != nil {
		t.Fatal(err)
	}
	c := Contract{EnvDir: dir, ReadyFD: -1}
	if _, _, err := c.Environment(1); err == nil || !strings.Contains(err.Error(), "cannot read variable A of --envdir: it is longer than") {
		t.Errorf("the error is %v", err)
	}
}

func TestEnvdirIsReadAnewForEachGeneration(t *testing.T) {
	dir := envdirOf(t, map[string]string{"A": "1"})
	c := Contract{EnvDir: dir, Plain: true}
	env, _ := environmentOf(t, c)
	expectEnv(t, env, "A=1")
	if err := os.WriteFile(filepath.Join(dir, "A"), []byte("2"), 0o644); err != nil {
		t.Fatal(err)
	}
	env, _ = environmentOf(t, c)
	expectEnv(t, env, "A=2")
}

func TestEnvdirCannotReplaceTheContract(t *testing.T) {
	// getenv(3) takes the first of two: such a file would win.
	dir := envdirOf(t, map[string]string{"NOTIFY_SOCKET": "@other", "HOTINIT_GENERATION": "1"})
	env, _ := environmentOf(t, Contract{EnvDir: dir, Notify: "@n"})
	expectEnv(t, env, "HOTINIT_GENERATION=7", "SERVER_STARTER_GENERATION=7", "NOTIFY_SOCKET=@n")
}

func TestAMissingEnvdirIsAnError(t *testing.T) {
	c := Contract{EnvDir: filepath.Join(t.TempDir(), "none")}
	if _, _, err := c.Environment(1); err == nil || !strings.Contains(err.Error(), "cannot read --envdir "+c.EnvDir) {
		t.Errorf("the error is %v", err)
	}
}

func TestFilesPutsEachDescriptorAtItsNumber(t *testing.T) {
	c := Contract{Sockets: socketsOf(t, "8080", "9000=6"), Kept: map[int]int{8: 30}, ReadyFD: 5}
	got := c.Files([3]int{0, -1, 2}, 40)
	if want := []int{0, -1, 2, 20, -1, 40, 21, -1, 30}; !slices.Equal(got, want) {
		t.Errorf("the descriptors are %v, want %v", got, want)
	}
}

func TestFilesWithoutSocketsAreTheFirstThree(t *testing.T) {
	c := Contract{ReadyFD: -1}
	if got := c.Files([3]int{0, 1, 2}, -1); !slices.Equal(got, []int{0, 1, 2}) {
		t.Errorf("the descriptors are %v", got)
	}
}

// FuzzEnvdir gives --envdir a file: its variable is one assignment, and the others
// stay.
func FuzzEnvdir(f *testing.F) {
	f.Add("A", []byte("value \t\nmore"))
	f.Add("LD_PRELOAD", []byte("a\x00b"))
	f.Add("KEEP", []byte{})
	f.Add("LISTEN_FDS", []byte("9"))
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		dir := t.TempDir()
		if name != filepath.Base(name) || strings.ContainsAny(name, "\x00") || len(name) > 200 || os.WriteFile(filepath.Join(dir, name), content, 0o600) != nil {
			return
		}
		env, _ := environmentOf(t, Contract{Base: []string{"KEEP=1", "TWICE=1", "TWICE=2"}, EnvDir: dir, ReadyFD: -1})
		for _, v := range env {
			if strings.Contains(v, "\x00") {
				t.Errorf("%q is no variable", v)
			}
		}
		if got := len(slices.DeleteFunc(slices.Clone(env), func(v string) bool { return !strings.HasPrefix(v, name+"=") })); name != "TWICE" && got > 1 {
			t.Errorf("%s is set %d times: %q", name, got, env)
		}
		if name != "KEEP" && !slices.Contains(env, "KEEP=1") || name != "TWICE" && !slices.Contains(env, "TWICE=2") {
			t.Errorf("%s=%q took others away: %q", name, content, env)
		}
		if len(content) > 0 && (name == "HOTINIT_GENERATION" || name == "LISTEN_FDS") && slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "LISTEN_FDS=") }) {
			t.Errorf("what is hotinit's to set is %q", env)
		}
	})
}
