package gitignore

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		patterns, path string // a path that ends in / is a directory
		want           bool
	}{
		{"*.log", "a.log", true},
		{"*.log", "x/y/a.log", true},
		{"*.log", "a.logs", false},
		{"/a", "a", true},
		{"/a", "x/a", false},
		{"x/a", "x/a", true},
		{"x/a", "y/x/a", false},
		{"build/", "build/", true},
		{"build/", "build", false},
		{"build/", "x/build/", true},
		{"a/**", "a/b/c", true},
		{"a/**", "a/", false},
		{"**/a", "x/y/a", true},
		{"**/a", "a", true},
		{"a/**/b", "a/b", true},
		{"a/**/b", "a/x/y/b", true},
		{"a/**/b", "a/x/y/c", false},
		{"*.log !keep.log", "keep.log", false},
		{"!keep.log *.log", "keep.log", true},
		{"# a", "# a", false},
		{`\#a`, "#a", true},
		{`\!a`, "!a", true},
		{"a?c", "abc", true},
		{"a?c", "a/c", false},
		{"a*c", "a/c", false},
		{"[a-c]x", "bx", true},
		{"[!a-c]x", "bx", false},
		{"[^a-c]x", "dx", true},
		{"[]]x", "]x", true},
		{"[a-]x", "-x", true},
		{`[\]]x`, "]x", true},
		{"[x", "[x", true},
		{`a\*`, "a*", true},
		{`a\*`, "ab", false},
		{"", "a", false},
		{"/", "a", false},
		{"*", "a", true},
		{"**", "a", true},
		{"a***b", "axyb", true},
	} {
		list := Parse(strings.Fields(c.patterns))
		rel, dir := strings.CutSuffix(c.path, "/")
		if got := list.Match(rel, dir); got != c.want {
			t.Errorf("%q for %q: %v", c.path, c.patterns, got)
		}
	}
}

// git is the authority on its own patterns.
func TestPatternsAsGitHasThem(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not installed")
	}
	dir := t.TempDir()
	if out, err := exec.Command("git", "init", "-q", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	patterns := []string{"*.log", "/top", "x/a", "build/", "a/**", "**/deep", "p/**/q", "f?o", "[a-c]z", "[!a-c]y", `\#h`, "*~", "!keep~", "**/m/n", "s/*/t", "*"}
	paths := []string{"a.log", "top", "d/top", "x/a", "y/x/a", "build", "a/b", "a/b/c", "deep", "e/deep", "p/q", "p/1/q", "p/1/2/q", "foo", "f/o", "az", "dz", "dy", "ay", "#h", "b~", "keep~", "m/n", "1/m/n", "s/1/t", "s/1/2/t", "s/t"}
	for _, p := range patterns {
		if err := os.WriteFile(filepath.Join(dir, ".gitignore"), []byte(p+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		list := Parse([]string{p})
		c := exec.Command("git", "check-ignore", "--no-index", "--stdin")
		c.Dir = dir
		c.Stdin = strings.NewReader(strings.Join(paths, "\n"))
		out, _ := c.Output() // its status is 1 where nothing is ignored
		ignored := strings.Split(string(out), "\n")
		for _, path := range paths {
			want := slices.Contains(ignored, path)
			got := false
			for i := range path + "/" { // each directory on the way, as a sweep sees them
				if i == len(path) || path[i] == '/' {
					got = got || list.Match(path[:i], i < len(path))
				}
			}
			if got != want {
				t.Errorf("%q for %q: %v, git says %v", path, p, got, want)
			}
		}
	}
}

func TestDefaultPatterns(t *testing.T) {
	list := Parse(Default())
	for path, want := range map[string]bool{
		".git/": true, "src/.git/": true, ".gitignore": false, "a.py~": true, ".a.py.swp": true, ".a.py.swx": true, "4913": true,
		"#a.py#": true, ".#a.py": true, "__pycache__/": true, "x/__pycache__/": true, "a.pyc": true, "a.py": false,
		"node_modules/": false, "vendor/": false, "config.yaml": false, ".env": false, ".nfs0001": true,
	} {
		rel, dir := strings.CutSuffix(path, "/")
		if got := list.Match(rel, dir); got != want {
			t.Errorf("%q: %v", path, got)
		}
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("**/a*[!b-d]/**", "x/aa/y/z")
	f.Add("****/**/*/**", "////")
	f.Fuzz(func(t *testing.T, pattern, path string) {
		if len(pattern) > 100 || len(path) > 100 {
			return
		}
		list := Parse([]string{pattern, "!" + pattern})
		if list.Match(path, false) && !strings.HasPrefix(pattern, "!") && !strings.HasPrefix(pattern, " ") {
			t.Errorf("%q ignored by %q, which was taken back", path, pattern)
		}
	})
}
