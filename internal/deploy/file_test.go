package deploy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/safepath"
)

func TestOnlyARegularFileIsDeployed(t *testing.T) {
	dir := t.TempDir()
	fifo, great := filepath.Join(dir, "fifo"), filepath.Join(dir, "great")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, why := range map[string]string{"/dev/zero": "not a regular file", fifo: "not a regular file"} {
		if f, err := open(path); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, %v", path, f, err)
		}
	}
	f, err := os.Create(great)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(mostBytes + 1); err != nil {
		t.Skip(err)
	}
	if f, err := open(great); err == nil || !strings.Contains(err.Error(), "64 GB") {
		t.Errorf("%v, %v", f, err)
	}
}

// A checksum that cannot be read is not left out: the release would be taken without.
func TestWhatBelongsToAFileIsNotLeftOut(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "new"), filepath.Join(dir, "server")
	for _, path := range []string{from, to} {
		if err := os.WriteFile(path, []byte("content"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(from+".sha256", 0o600); err != nil {
		t.Fatal(err)
	}
	r := &request{from: from, to: to}
	if _, _, err := r.putFile(strings.NewReader("new"), control.Target{}); err == nil || !strings.Contains(err.Error(), "new.sha256 is not a regular file") {
		t.Error(err)
	}
	if names, _ := filepath.Glob(dir + "/" + prefix + "*"); names != nil {
		t.Errorf("%q was left", names)
	}
}

func TestAFileIsBounded(t *testing.T) {
	dir := t.TempDir()
	for text, fits := range map[string]bool{"ten bytes.": true, "ten bytes..": false} {
		parent, name, err := safepath.Parent(filepath.Join(dir, "server"))
		if err != nil {
			t.Fatal(err)
		}
		f := &files{dir: parent, path: dir, lock: -1, most: 10}
		err = f.write(strings.NewReader(text), name, prefix+"1")
		if (err == nil) != fits {
			t.Errorf("%q: %v", text, err)
		}
		f.done()
	}
}

func TestWhereNothingCanBeMadeIsNamed(t *testing.T) {
	dir, name, err := safepath.Parent("/proc/server")
	if err != nil {
		t.Fatal(err)
	}
	f := &files{dir: dir, path: "/proc", lock: -1, most: 10}
	defer f.done()
	err = f.write(strings.NewReader("new"), name, prefix+"1")
	if err == nil || !strings.Contains(err.Error(), "cannot make a file in /proc, as user ") {
		t.Error(err)
	}
}
