package box

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/pidone"
)

// Hotinit and App are the paths of what Main built.
var Hotinit, App string

// Main builds hotinit, as its users do, and the application, and runs the
// tests of a package. In the end it calls the functions.
func Main(m *testing.M, finally ...func()) {
	pidone.Enter()
	// Under nohup(1) SIGHUP is ignored, and would be in whatever is started here.
	// One that is caught has its default action again after execve(2).
	if signal.Ignored(unix.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), unix.SIGHUP)
	}
	status := run(m)
	for _, f := range finally {
		f()
	}
	os.Exit(status)
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "hotinit-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	// Others than the owner execute what is in it, in the tests with --user.
	os.Chmod(dir, 0o755)
	Hotinit, App = filepath.Join(dir, "hotinit"), filepath.Join(dir, "app")
	for _, build := range [][]string{
		{"-ldflags", "-s -w -E hotinit_entry", "-o", Hotinit, "github.com/hotinit/hotinit/cmd/hotinit"},
		{"-ldflags", "-s -w", "-o", App, "github.com/hotinit/hotinit/internal/testkit/app"},
	} {
		c := exec.Command("go", append([]string{"build", "-trimpath"}, build...)...)
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "cannot build (%v): %v\n%s", c, err, out)
			return 1
		}
	}
	return m.Run()
}

// Release returns the content of a release of the application: its binary
// with the version and flags at its end. Without flags it serves.
func Release(version string, flags ...string) ([]byte, error) {
	binary, err := os.ReadFile(App)
	if err != nil {
		return nil, err
	}
	line := strings.Join(append([]string{"\n#app", version}, flags...), " ")
	return append(binary, line...), nil
}

// Install writes a release of the application to a file that nobody runs yet.
func Install(t T, path, version string, flags ...string) {
	t.Helper()
	content, err := Release(version, flags...)
	if err == nil {
		err = os.WriteFile(path, content, 0o755)
	}
	if err != nil {
		t.Fatalf("cannot install %s: %v", version, err)
	}
}

// Swap puts a release in the place of a file, as a careful deployment does: by
// renaming a complete file.
func Swap(t T, path, version string, flags ...string) {
	t.Helper()
	Install(t, path+".new", version, flags...)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatalf("cannot swap in %s: %v", version, err)
	}
}

// Need skips a test on a machine that lacks something, and says why. Where
// HOTINIT_TEST_REQUIRE names it, the machine is known to have it, and the test
// fails instead.
func Need(t testing.TB, what string, missing error) {
	t.Helper()
	if missing == nil {
		return
	}
	if Required(what) {
		t.Fatalf("HOTINIT_TEST_REQUIRE says that this machine has %s: %v", what, missing)
	}
	t.Skipf("needs %s: %v", what, missing)
}

// Required tells whether HOTINIT_TEST_REQUIRE, a list with commas, names it.
func Required(what string) bool {
	return slices.Contains(strings.Split(os.Getenv("HOTINIT_TEST_REQUIRE"), ","), what)
}

// NeedNamespace skips a test where nothing can be PID 1.
func NeedNamespace(t testing.TB) {
	t.Helper()
	Need(t, "namespace", pidone.Supported())
}
