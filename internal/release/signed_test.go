package release

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSumsAreReadAsSha256sumWritesThem(t *testing.T) {
	d := Digest(sha256.Sum256([]byte("x")))
	for line, name := range map[string]string{
		d.String() + "  ./lib/a b":              "lib/a b",
		d.String() + " *a":                      "a",
		`\` + d.String() + `  a\nb\\c\r`:        "a\nb\\c\r",
		"SHA256 (a (1) = b) = " + d.String():    "a (1) = b",
		`\SHA256 (a\n) = ` + d.String():         "a\n",
		strings.ToUpper(d.String()) + "  upper": "upper",
	} {
		sums, err := parseSums(line + "\n")
		if err != nil || len(sums) != 1 || sums[name] != d {
			t.Errorf("%q is read as %v, %v", line, sums, err)
		}
	}
	for _, line := range []string{
		"", " ", "# comment", d.String(), d.String() + "  ", d.String() + " a", d.String()[1:] + "  a", "MD5 (a) = " + d.String(),
		d.String() + "  /etc/passwd", d.String() + "  ../a", d.String() + "  a/../../b", `\` + d.String() + `  a\x`, `\` + d.String() + `  a\`,
		d.String() + "  a\n" + strings.Repeat("0", 64) + "  ./a",
	} {
		if sums, err := parseSums(line + "\n"); err == nil {
			t.Errorf("%q is read as %v", line, sums)
		}
	}
	if sums, err := parseSums(d.String() + "  a\n" + d.String() + "  ./a"); err != nil || len(sums) != 1 {
		t.Errorf("the same twice is read as %v, %v", sums, err)
	}
}

func TestTheNewestSignatureIsTheOneThatCounts(t *testing.T) {
	var trust Trust
	for _, step := range []struct {
		signed int64
		newer  bool
	}{{5, true}, {4, false}, {5, false}, {6, true}} {
		if trust.Ran(step.signed) != step.newer {
			t.Errorf("%d is newer: %v", step.signed, !step.newer)
		}
	}
	if trust.Newest() != 6 {
		t.Errorf("the newest is %d", trust.Newest())
	}
}

// A copy that hotinit owns has the digest of the original, whatever its modes.
func TestACopyOfOnesOwnCanBeReadAndNotWritten(t *testing.T) {
	tree := grown(t)
	tree.Plain = true
	if err := os.Chmod(filepath.Join(tree.Root, "lib", "a.js"), os.ModeSetuid|0o622); err != nil {
		t.Fatal(err)
	}
	want := digested(t, tree)
	copied := tree.at(filepath.Join(filepath.Dir(tree.Root), "copy"))
	if _, err := tree.Copy(copied.Root, CopyOptions{Own: &Own{Group: -1}}); err != nil {
		t.Fatal(err)
	}
	if got := digested(t, copied); got != want {
		t.Errorf("the copy has the digest %v, want %v", got, want)
	}
	for name, mode := range map[string]os.FileMode{"lib/a.js": 0o640, "lib/deep/run": 0o755, "lib": os.ModeDir | 0o755} {
		if st, err := os.Stat(filepath.Join(copied.Root, name)); err != nil || st.Mode() != mode {
			t.Errorf("%s is %v, %v, want %v", name, st.Mode(), err, mode)
		}
	}
}

// FuzzSums holds that what is accepted names files below the directory, and is
// read alike when it is written anew.
func FuzzSums(f *testing.F) {
	d := Digest(sha256.Sum256(nil)).String()
	f.Add(d + "  ./a\n" + d + " *b\n\\" + d + "  c\\n\nSHA256 (d) = " + d + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		sums, err := parseSums(text)
		if err != nil {
			return
		}
		var b strings.Builder
		escape := strings.NewReplacer("\\", `\\`, "\n", `\n`, "\r", `\r`)
		for name, d := range sums {
			if !filepath.IsLocal(name) || filepath.Clean(name) != name {
				t.Errorf("%q lists %q", text, name)
			}
			fmt.Fprintf(&b, "\\%v  %s\n", d, escape.Replace(name))
		}
		again, err := parseSums(b.String())
		if err != nil || len(again) != len(sums) {
			t.Fatalf("%q is written as %q, and read as %v, %v", text, b.String(), again, err)
		}
		for name, d := range sums {
			if again[name] != d {
				t.Errorf("%q is %v, and then %v", name, d, again[name])
			}
		}
	})
}

// FuzzChecksum finds the checksum of a file in what may be any text.
func FuzzChecksum(f *testing.F) {
	d := Digest(sha256.Sum256(nil))
	f.Add(d.String() + "  server\n")
	f.Add("SHA256 (server) = " + d.String())
	f.Add(`\` + d.String() + " *dir/server\r\n0")
	f.Fuzz(func(t *testing.T, text string) {
		if got, ok := listedDigest(text, "server"); ok && !strings.Contains(strings.ToLower(text), got.String()) {
			t.Errorf("%q has the digest %v", text, got)
		}
		if got, ok := listedDigest(d.String()+"  server\n"+text, "server"); !ok || got != d {
			t.Errorf("a line before %q is read as %v, %v", text, got, ok)
		}
	})
}
