// Package packaging_test tests what can be tested of a release without making one;
// packaging/check makes one.
package packaging_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// The releases with the entry point are those of the architectures that have one.
func TestEachArchitectureIsLinkedAsItCanBe(t *testing.T) {
	config, err := os.ReadFile("../.goreleaser.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, builds, _ := strings.Cut(string(config), "\nbuilds:\n")
	builds, _, _ = strings.Cut(builds, "\narchives:\n")
	linked := 0
	for _, build := range strings.Split(builds, "  - id: ")[1:] {
		list := regexp.MustCompile(`goarch: \[(.*)\]`).FindStringSubmatch(build)
		if list == nil {
			t.Fatalf("no goarch in %s", build)
		}
		if strings.HasPrefix(build, "hotinit-exporter") {
			continue
		}
		for _, arch := range strings.Split(list[1], ", ") {
			arch = strings.Trim(arch, `"`)
			_, err := os.Stat("../internal/entry/entry_" + arch + ".s")
			if has, does := err == nil, strings.Contains(build, "-E hotinit_entry"); has != does {
				t.Errorf("%s has an entry point: %v; it is linked with it: %v", arch, has, does)
			}
			linked++
		}
	}
	if linked != 7 {
		t.Errorf("there are releases for %d architectures", linked)
	}
}

// From the same source in another directory comes the same file.
func TestTwoBuildsAreTheSame(t *testing.T) {
	copied := filepath.Join(t.TempDir(), "in", "another", "place")
	for _, name := range []string{"go.mod", "go.sum", "cmd/hotinit", "init", "handoff", "reaper", "internal"} {
		to := filepath.Join(copied, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("cp", "-r", filepath.Join("..", name), to).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	var sums [2][sha256.Size]byte
	for i, dir := range []string{"..", copied} {
		file := filepath.Join(t.TempDir(), fmt.Sprint("hotinit", i))
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -E hotinit_entry", "-o", file, "./cmd/hotinit")
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = sha256.Sum256(b)
	}
	if sums[0] != sums[1] {
		t.Error("two builds of the same source differ")
	}
}

// The recipe's commands, run here, take what a release has and nothing else.
func TestTheRecipeTakesOnlyWhatTheChecksumNames(t *testing.T) {
	for _, tool := range []string{"wget", "sha256sum"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	recipe, err := os.ReadFile("app.Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	_, script, _ := strings.Cut(string(recipe), "\nRUN ")
	script, _, found := strings.Cut(script, "\n\n")
	if !found {
		t.Fatal("there is no RUN")
	}
	script = strings.ReplaceAll(script, "\\\n", "")

	content := []byte("#!/bin/sh\necho hotinit\n")
	var sums bytes.Buffer
	for _, arch := range []string{"386", "amd64", "arm64", "armv7", "ppc64le", "riscv64", "s390x"} {
		fmt.Fprintf(&sums, "%x  hotinit_1.2.3_linux_%s\n%x  hotinit_1.2.3_linux_%s.deb\n", sha256.Sum256(content), arch, sha256.Sum256(nil), arch)
	}
	var served atomic.Pointer[[]byte]
	served.Store(&content)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v1.2.3/hotinit_1.2.3_sha256.txt":
			_, _ = w.Write(sums.Bytes())
		case strings.HasPrefix(r.URL.Path, "/v1.2.3/hotinit_1.2.3_linux_"):
			_, _ = w.Write(*served.Load())
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	run := func(sum string) (string, error) {
		dir := t.TempDir()
		cmd := exec.Command("sh", "-c", script)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "HOTINIT_VERSION=1.2.3", "HOTINIT_SHA256="+sum, "HOTINIT_RELEASES="+server.URL)
		out, err := cmd.CombinedOutput()
		if err != nil {
			if _, err := os.Stat(filepath.Join(dir, "hotinit")); err == nil {
				t.Error("what failed has left a hotinit")
			}
			return string(out), err
		}
		said, err := exec.Command(filepath.Join(dir, "hotinit")).Output()
		return string(said), err
	}
	right := fmt.Sprintf("%x", sha256.Sum256(sums.Bytes()))
	if said, err := run(right); err != nil || said != "hotinit\n" {
		t.Errorf("%v: %s", err, said)
	}
	if said, err := run(strings.Repeat("0", 64)); err == nil {
		t.Errorf("a list of checksums that is another one was taken: %s", said)
	}
	other := slices.Concat(content, []byte("# and more\n"))
	served.Store(&other)
	if said, err := run(right); err == nil {
		t.Errorf("a file that is another one was taken: %s", said)
	}
}
