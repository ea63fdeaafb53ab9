package peer

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
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

func TestRestartNeedsAGenerationInTheStatusFile(t *testing.T) {
	pid, status := write(t, strconv.Itoa(os.Getpid())+"\n"), write(t, "\n")
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
