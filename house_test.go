// Package hotinit_test checks that the house is as docs/design.md draws it.
package hotinit_test

import (
	"go/build"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	module     = "github.com/hotinit/hotinit/"
	designFile = "docs/design.md"
)

// TestEachRoomImportsOnlyWhatTheDesignSays reads the table of rooms in
// docs/design.md and holds each package's imports against its row.
func TestEachRoomImportsOnlyWhatTheDesignSays(t *testing.T) {
	b, err := os.ReadFile(designFile)
	if err != nil {
		t.Fatal(err)
	}
	_, rooms, _ := strings.Cut(string(b), "\n## Rooms\n")
	rooms, _, _ = strings.Cut(rooms, "\n## ")
	var known []string
	for line := range strings.SplitSeq(rooms, "\n") {
		cells := strings.Split(line, " | ")
		if len(cells) != 3 || !strings.HasPrefix(line, "| `") {
			continue
		}
		room := strings.Trim(cells[0], "|` ")
		known = append(known, room)
		pkg, err := build.ImportDir(room, 0)
		if err != nil {
			t.Errorf("%s says that there is a room %s: %v", designFile, room, err)
			continue
		}
		for _, path := range pkg.Imports {
			other, ok := strings.CutPrefix(path, module)
			other = strings.TrimPrefix(other, "internal/")
			if ok && !strings.HasPrefix("internal/"+other, room+"/") && !strings.Contains(cells[2], "`"+other+"`") {
				t.Errorf("%s imports %s, and %s does not allow it", room, path, designFile)
			}
		}
	}
	for _, room := range packages(t) {
		if !slices.Contains(known, room) {
			t.Errorf("%s has no row for the package %s", designFile, room)
		}
	}
}

// TestPID1LinksNoNetwork keeps what serves HTTP, and what that needs, out of the
// executable that is PID 1.
func TestPID1LinksNoNetwork(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./cmd/hotinit").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	if !slices.Contains(packages, module+"init") {
		t.Fatalf("go list names %q", packages)
	}
	for _, path := range packages {
		if path == "net" || path == "net/http" || path == "crypto/tls" || strings.Contains(path, "prometheus") {
			t.Errorf("cmd/hotinit depends on %s", path)
		}
	}
}

// TestTheExporterHasWhatHotinitRequires notices where hotinit has come to require a
// module that cmd/hotinit-exporter, a module of its own, does not name yet.
func TestTheExporterHasWhatHotinitRequires(t *testing.T) {
	cmd := exec.Command("go", "list", "-mod=readonly", "-deps", ".")
	cmd.Dir = "cmd/hotinit-exporter"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("run go mod tidy in %s: %v\n%s", cmd.Dir, err, out)
	}
}

// TestCodeInTheDocsIsThatOfTheExamples compares each code block that says where
// it is from with that file, which the tests of the examples run.
func TestCodeInTheDocsIsThatOfTheExamples(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	for _, page := range append(pages, "README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, rest := range strings.Split(string(text), "<!-- from ")[1:] {
			file, rest, _ := strings.Cut(rest, " -->\n")
			_, rest, _ = strings.Cut(rest, "\n") // the fence and the language
			code, _, closed := strings.Cut(rest, "\n```\n")
			source, err := os.ReadFile(file)
			blocks++
			if err != nil || !closed || !strings.Contains(string(source), code) {
				t.Errorf("%s: the code from %s is not in it (%v)", page, file, err)
			}
		}
	}
	if blocks == 0 {
		t.Error("there is no such code")
	}
}

// packages returns the directories of the packages that need a row: all but
// tests, examples, tools for tests, and what belongs to one package alone.
func packages(t *testing.T) []string {
	var dirs []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() || path == "." {
			return err
		}
		switch {
		case strings.HasPrefix(d.Name(), "."), d.Name() == "testdata", path == "tests", path == "examples",
			path == "internal/testkit", strings.Count(path, "/") > 1:
			return fs.SkipDir
		}
		if pkg, err := build.ImportDir(path, 0); err == nil && len(pkg.GoFiles) > 0 {
			dirs = append(dirs, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

// raw is what prints without cleaning.
var raw = regexp.MustCompile(`\bfmt\.Print|\bos\.Std(out|err)\b|\bprintln\(|\blog\.`)

// TestOnlySayPrints looks for text that gets to a terminal or a log without
// having been cleaned by say: what an app says may be in it.
func TestOnlySayPrints(t *testing.T) {
	for _, dir := range packages(t) {
		if dir == "internal/say" || dir == "listener" || strings.HasPrefix(dir, "cmd/") {
			continue // listener runs in the app; the commands print what they were asked for
		}
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for i, line := range strings.Split(string(b), "\n") {
				code, _, _ := strings.Cut(line, "//")
				if !strings.HasSuffix(file, "_test.go") && raw.MatchString(code) {
					t.Errorf("%s:%d prints by itself, and not by package say: %s", file, i+1, strings.TrimSpace(line))
				}
			}
		}
	}
}
