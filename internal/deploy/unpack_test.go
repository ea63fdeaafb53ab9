package deploy

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// archive makes one of headers; a file's content is its name.
func archive(t *testing.T, headers ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(h.Name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func unpacked(t *testing.T, in *bytes.Buffer) (dir string, err error) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "new")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	return dir, unpack(in, root, owner{-1, -1})
}

func TestAnArchiveIsUnpacked(t *testing.T) {
	dir, err := unpacked(t, archive(t,
		tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "0123"}},
		tar.Header{Typeflag: tar.TypeDir, Name: "./"},
		tar.Header{Typeflag: tar.TypeDir, Name: "./lib/", Mode: 0o555},
		tar.Header{Typeflag: tar.TypeReg, Name: "./lib/a", Mode: 0o4755},
		tar.Header{Typeflag: tar.TypeReg, Name: "bin/unnamed/server", Mode: 0o750},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/a", Linkname: "../lib/a"},
		tar.Header{Typeflag: tar.TypeLink, Name: "b", Linkname: "./lib/a"},
	))
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"lib": 0o555 | os.ModeDir, "lib/a": 0o755, "bin/unnamed/server": 0o750, "bin/unnamed": 0o755 | os.ModeDir, "b": 0o755} {
		if st, err := os.Lstat(filepath.Join(dir, name)); err != nil || st.Mode() != mode {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "bin", "a")); err != nil || string(b) != "./lib/a" {
		t.Errorf("the link leads to %q, %v", b, err)
	}
	_ = os.Chmod(filepath.Join(dir, "lib"), 0o755) // so that it can be removed
}

// TestNothingLeadsOutOfTheDirectory has what whoever makes an archive could try.
func TestNothingLeadsOutOfTheDirectory(t *testing.T) {
	link := func(name, to string) tar.Header {
		return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
	}
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644} }
	for what, headers := range map[string][]tar.Header{
		"a name with ..":             {file("../evil")},
		"a name with .. in it":       {file("a/../../evil")},
		"an absolute name":           {file("/evil")},
		"an absolute link":           {link("a", "/tmp")},
		"a link that leads out":      {link("a/b", "../../x")},
		"a file below a link":        {link("a", "."), file("a/evil")},
		"a directory below a link":   {link("a", "."), {Typeflag: tar.TypeDir, Name: "a"}},
		"a file in the place of one": {file("a"), file("a")},
		"a file in place of a link":  {link("a", "b"), file("a")},
		"a hard link that leads out": {{Typeflag: tar.TypeLink, Name: "a", Linkname: "../../etc/passwd"}},
		"an absolute hard link":      {{Typeflag: tar.TypeLink, Name: "a", Linkname: "/etc/passwd"}},
		"a hard link to a link":      {link("a", "b"), {Typeflag: tar.TypeLink, Name: "c", Linkname: "a"}},
		"a device":                   {{Typeflag: tar.TypeChar, Name: "a"}},
		"a FIFO":                     {{Typeflag: tar.TypeFifo, Name: "a"}},
		"nothing":                    nil,
	} {
		t.Run(what, func(t *testing.T) {
			dir, err := unpacked(t, archive(t, headers...))
			if err == nil {
				t.Error("it is unpacked")
			}
			if names, _ := filepath.Glob(filepath.Join(dir, "..", "*")); len(names) != 1 {
				t.Errorf("it has made %q", names)
			}
		})
	}
}

func TestWhatIsNoArchiveIsRefused(t *testing.T) {
	for _, text := range []string{"\x1f\x8b\x08 compressed", strings.Repeat("no tar ", 200)} {
		if _, err := unpacked(t, bytes.NewBufferString(text)); err == nil || !strings.Contains(err.Error(), "not compressed") {
			t.Errorf("%q: %v", text[:8], err)
		}
	}
}

// TestAnArchiveThatWasCutIsNotComplete cuts archives everywhere: within a header, a
// content that is zeros, its padding, a long name, and before the end.
func TestAnArchiveThatWasCutIsNotComplete(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []*tar.Header{
		{Typeflag: tar.TypeReg, Name: "server", Size: 700},
		{Typeflag: tar.TypeReg, Name: "zeros", Size: 1024},
		{Typeflag: tar.TypeReg, Name: strings.Repeat("long", 50) + "/name", Format: tar.FormatGNU},
		{Typeflag: tar.TypeReg, Name: strings.Repeat(strings.Repeat("x", 170)+"/", 3)[:512], Format: tar.FormatGNU}, // the last block of its name is zeros
		{Typeflag: tar.TypeReg, Name: "z-data", Size: 512},
	} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	whole := b.Len()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	refused := func(n int) error {
		root, err := os.OpenRoot(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		return unpack(bytes.NewReader(b.Bytes()[:n]), root, owner{-1, -1})
	}
	for n := block + 1; n < whole+block; n += 100 {
		if err := refused(n); err != errCut {
			t.Errorf("the first %d of %d bytes: %v", n, b.Len(), err)
		}
	}
	for n := block; n < whole+block; n += block {
		if err := refused(n); err != errCut {
			t.Errorf("the first %d of %d bytes: %v", n, b.Len(), err)
		}
	}
	// One block of zeros is an end, and so are more.
	for n := whole + block; n <= b.Len(); n += block {
		if err := refused(n); err != nil {
			t.Errorf("the first %d of %d bytes: %v", n, b.Len(), err)
		}
	}
}

// TestWhatProgramsForTarWriteIsComplete has each of them that is here.
func TestWhatProgramsForTarWriteIsComplete(t *testing.T) {
	from := t.TempDir()
	for name, n := range map[string]int{"a": 1, "b": 512, "c": 9728, "zeros": 10240} {
		if err := os.WriteFile(filepath.Join(from, name), make([]byte, n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range [][]string{
		{"tar", "-c", "."}, {"tar", "-c", "-b", "1", "."}, {"tar", "-c", "--format=v7", "."}, {"tar", "-c", "--format=posix", "."},
		{"bsdtar", "-c", "-f", "-", "."}, {"busybox", "tar", "-c", "."},
		{"sh", "-c", "ls | cpio -o -H ustar"}, {"python3", "-c", "import sys, tarfile; t = tarfile.open(fileobj=sys.stdout.buffer, mode='w|'); t.add('.'); t.close()"},
	} {
		t.Run(strings.Join(line, " "), func(t *testing.T) {
			c := exec.Command(line[0], line[1:]...)
			c.Dir = from
			out, err := c.Output()
			if err != nil {
				t.Skipf("%s: %v", line[0], err)
			}
			dir, err := unpacked(t, bytes.NewBuffer(out))
			if err != nil {
				t.Fatal(err)
			}
			if names, _ := os.ReadDir(dir); len(names) != 4 {
				t.Errorf("there are %v", names)
			}
		})
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte("no archive"))
	f.Fuzz(func(t *testing.T, b []byte) {
		base := t.TempDir()
		dir := filepath.Join(base, "new")
		_ = os.Mkdir(dir, 0o700)
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		_ = unpack(bytes.NewReader(b), root, owner{-1, -1})
		if names, _ := os.ReadDir(base); len(names) != 1 {
			t.Errorf("it has made %v", names)
		}
	})
}

func TestTwoDeploysToOneDirectoryAreKeptApart(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "current")
	if err := os.MkdirAll(filepath.Join(dir, "releases", "1"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("releases/1", link); err != nil {
		t.Fatal(err)
	}
	first, err := begin(link, filepath.Join(dir, "releases", "1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := begin(link, filepath.Join(dir, "releases", "1")); err == nil || !strings.Contains(err.Error(), "under way") {
		t.Errorf("a second one: %v", err)
	}
	first.done()
	stale := filepath.Join(dir, "releases", prefix+"killed", "sub")
	if err := os.MkdirAll(stale, 0o755); err != nil {
		t.Fatal(err)
	}
	again, err := begin(link, filepath.Join(dir, "releases", "1"))
	if err != nil {
		t.Fatal(err)
	}
	defer again.done()
	var st unix.Stat_t
	if unix.Stat(stale, &st) == nil {
		t.Error("what a killed one left is still there")
	}
}
