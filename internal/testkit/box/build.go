package box

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
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
	// Under nohup(1) SIGHUP is ignored, in the background of a script SIGINT and
	// SIGQUIT are, and would be in whatever is started here. One that is caught has
	// its default action again after execve(2).
	for _, s := range []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	status := run(m)
	for _, f := range finally {
		f()
	}
	os.Exit(status)
}

func run(m *testing.M) int {
	dir, root, err := shared()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	Hotinit, App = filepath.Join(dir, "hotinit"), filepath.Join(dir, "app")
	if err := build(dir, root); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// shared returns the directory of what the tests of this checkout build, and that of
// the checkout. All packages' tests use one build: go build links nothing that is up
// to date. A module of its own, such as cmd/hotinit-exporter, uses it too.
func shared() (dir, root string, err error) {
	b, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/hotinit/hotinit").Output()
	if err != nil {
		return "", "", fmt.Errorf("cannot find the checkout: %w", err)
	}
	root = strings.TrimSpace(string(b))
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s", b, runtime.Version()))
	dir = filepath.Join(os.TempDir(), fmt.Sprintf("hotinit-test-%d-%x", os.Getuid(), sum[:6]))
	// Others than the owner execute what is in it, in the tests with --user.
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", "", err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", "", err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || int(st.Uid) != os.Getuid() {
		return "", "", fmt.Errorf("%s is not this user's directory: remove it, or set TMPDIR", dir)
	}
	return dir, root, os.Chmod(dir, 0o755)
}

// build builds hotinit, as its users do, and the application.
func build(dir, root string) error {
	lock, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		return err
	}
	defer lock.Close()
	// One package's tests build, the others wait and find it up to date.
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	for _, words := range [][]string{
		{"-ldflags", "-s -w -E hotinit_entry", "-o", Hotinit, "github.com/hotinit/hotinit/cmd/hotinit"},
		{"-ldflags", "-s -w", "-o", App, "github.com/hotinit/hotinit/internal/testkit/app"},
	} {
		c := exec.Command("go", append([]string{"build", "-trimpath"}, words...)...)
		c.Dir = root
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("cannot build (%v): %w\n%s", c, err, out)
		}
	}
	return nil
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

// Required reports whether HOTINIT_TEST_REQUIRE, a list with commas, names it.
func Required(what string) bool {
	return slices.Contains(strings.Split(os.Getenv("HOTINIT_TEST_REQUIRE"), ","), what)
}

// NeedNamespace skips a test where nothing can be PID 1.
func NeedNamespace(t testing.TB) {
	t.Helper()
	Need(t, "namespace", pidone.Supported())
}
