package peer

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStopSaysWhatIsWrongWithThePIDFile(t *testing.T) {
	for text, want := range map[string]string{
		"":           "does not hold a PID",
		"-1":         "does not hold a PID",
		"12x":        "does not hold a PID",
		"2147483647": "names process 2147483647, which does not run",
	} {
		path := write(t, text)
		if err := Stop(path); err == nil || err.Error() != "cannot stop: --pid-file "+path+" "+want {
			t.Errorf("with %q in the file the error is %v, want %q", text, err, want)
		}
	}
	if err := Stop(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "cannot read --pid-file") {
		t.Errorf("without a file the error is %v", err)
	}
}

// The PID of a hotinit that is gone belongs to another process by now.
func TestAPIDFileThatWasLeftBehindHarmsNobody(t *testing.T) {
	other := exec.Command("sleep", "1000")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { other.Process.Kill(); other.Wait() }()
	path, status := write(t, strconv.Itoa(other.Process.Pid)+"\n"), write(t, "1:1\n")
	want := fmt.Sprintf("--pid-file %s was left behind: process %d, which it names, does not have it open", path, other.Process.Pid)
	for name, err := range map[string]error{"stop": Stop(path), "restart": Restart(path, status)} {
		if err == nil || !strings.HasPrefix(err.Error(), "cannot "+name+": "+want) {
			t.Errorf("%s: the error is %v, want %q", name, err, want)
		}
	}
	var got unix.WaitStatus
	if pid, err := unix.Wait4(other.Process.Pid, &got, unix.WNOHANG, nil); pid != 0 || err != nil {
		t.Errorf("the other process has ended: %v, %v", got, err)
	}
}

func TestAPIDFileIsLocked(t *testing.T) {
	path := write(t, "1")
	if locked(path) {
		t.Error("nobody has locked it")
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil || !locked(path) {
		t.Errorf("it is locked: %v", err)
	}
}

func TestRestartNeedsAGenerationInTheStatusFile(t *testing.T) {
	pid, status := write(t, strconv.Itoa(os.Getpid())+"\n"), write(t, "\n")
	f, err := os.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := "cannot restart: --status-file " + status + " names no generation"
	if err := Restart(pid, status); err == nil || err.Error() != want {
		t.Errorf("the error is %v, want %s", err, want)
	}
}

func TestGenerationsAreInOrder(t *testing.T) {
	if got := generations(write(t, "12:100\n9:200\nx:1\n10:300\n")); !slices.Equal(got, []int{9, 10, 12}) {
		t.Errorf("they are %v", got)
	}
}
