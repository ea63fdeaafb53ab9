package sockets

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func parsed(t *testing.T, text string) Spec {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestProbeSaysWhatBindWould(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.sock")
	for _, text := range []string{"127.0.0.1:0", "unix:" + path, "unix:@hotinit-probe-test"} {
		s := parsed(t, text)
		if err := Probe(s); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if _, err := os.Lstat(path); s.HasFile() && err == nil {
			t.Fatalf("%s: it left a file", text)
		}
		fd, err := Bind(s, 0)
		if err != nil {
			t.Fatalf("%s cannot be bound once it was probed: %v", text, err)
		}
		defer unix.Close(fd)
		s = s.Bound(fd)
		probed := Probe(s)
		if _, err := Bind(s, 0); err == nil || probed == nil || err.Error() != probed.Error() {
			t.Errorf("%s, while it is bound: Probe says %v, Bind %v", text, probed, err)
		}
	}
	if err := Probe(parsed(t, "unix:"+filepath.Join(dir, "none", "a.sock"))); err == nil || !strings.Contains(err.Error(), "create its directory") {
		t.Errorf("without its directory: %v", err)
	}
}

func TestProbeLeavesAStaleSocketFileAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	fd, err := Bind(parsed(t, "unix:"+path), 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	if err := Probe(parsed(t, "unix:"+path)); err != nil {
		t.Errorf("a file that a process left: %v", err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error("it was removed")
	}
}
