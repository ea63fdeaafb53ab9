package release

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// grown makes a directory with a little of everything.
func grown(t *testing.T) Tree {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, "app")
	for _, d := range []string{"lib/deep", "data", "empty"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put(t, root+"/server.js", "require('./lib/a')", 0o644)
	put(t, root+"/lib/a.js", "a", 0o644)
	put(t, root+"/lib/deep/run", script("x"), 0o755)
	put(t, root+"/data/db", "rows", 0o666)
	for link, to := range map[string]string{"main.js": "server.js", "lib/abs": root + "/lib/a.js", "out": "/etc/passwd", "gone": "nowhere"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	return Tree{Root: root, Counts: func(rel string, isDir bool) bool { return rel != "data" }}
}

func digested(t *testing.T, tree Tree) Digest {
	t.Helper()
	d, err := tree.Digest(nil)
	if err != nil || !d.Known() {
		t.Fatalf("digest %v: %v", d, err)
	}
	return d
}

func TestATreesDigestCountsNamesModesLinksAndContents(t *testing.T) {
	for name, change := range map[string]func(root string) error{
		"content":         func(r string) error { return os.WriteFile(r+"/lib/a.js", []byte("b"), 0o644) },
		"name":            func(r string) error { return os.Rename(r+"/lib/a.js", r+"/lib/b.js") },
		"mode":            func(r string) error { return os.Chmod(r+"/lib/a.js", 0o755) },
		"new file":        func(r string) error { return os.WriteFile(r+"/lib/new", nil, 0o644) },
		"new directory":   func(r string) error { return os.Mkdir(r+"/lib/new", 0o755) },
		"removed":         func(r string) error { return os.Remove(r + "/lib/a.js") },
		"link":            func(r string) error { os.Remove(r + "/main.js"); return os.Symlink("lib/a.js", r+"/main.js") },
		"file for a link": func(r string) error { os.Remove(r + "/main.js"); return os.WriteFile(r+"/main.js", nil, 0o644) },
	} {
		tree := grown(t)
		before := digested(t, tree)
		if err := change(tree.Root); err != nil {
			t.Fatal(err)
		}
		if digested(t, tree) == before {
			t.Errorf("%s: the digest is as before", name)
		}
	}
}

func TestATreesDigestLeavesOutWhatDoesNotMatter(t *testing.T) {
	tree := grown(t)
	before := digested(t, tree)
	past := time.Unix(1e9, 0)
	os.Chtimes(tree.Root+"/lib/a.js", past, past)
	os.WriteFile(tree.Root+"/data/db", []byte("more rows"), 0o644)
	os.Chmod(tree.Root+"/lib/a.js", 0o664)
	os.WriteFile(tree.Root+"/lib/.new", []byte("a"), 0o644)
	os.Chmod(tree.Root+"/lib/.new", 0o644)
	os.Rename(tree.Root+"/lib/.new", tree.Root+"/lib/a.js") // the same bytes
	if after := digested(t, tree); after != before {
		t.Errorf("%v, before %v", after, before)
	}
}

func TestACopyOfATreeHasItsDigestWhateverHappensToTheOriginal(t *testing.T) {
	tree := grown(t)
	tree.Counts = func(rel string, isDir bool) bool { return rel != "data" || !isDir } // as data/ in .gitignore
	tree.Lead = func(rel string, isDir bool) bool { return rel == "data" && isDir }
	want := digested(t, tree)
	to := filepath.Join(filepath.Dir(tree.Root), "copy")
	c, err := tree.Copy(to, CopyOptions{})
	if err != nil || c.Cloned+c.Written != 3 {
		t.Fatalf("%+v, %v", c, err)
	}
	os.WriteFile(tree.Root+"/lib/a.js", []byte("overwritten in place"), 0o644)
	copied := Tree{Root: to, Counts: tree.Counts, Copied: true}
	if got := digested(t, copied); got != want {
		t.Errorf("the copy has the digest %v, want %v", got, want)
	}
	if b, err := os.ReadFile(to + "/lib/abs"); err != nil || string(b) != "a" {
		t.Errorf("a link into the tree leads to %q, %v", b, err)
	}
	if err := os.WriteFile(to+"/data/db", []byte("a new row"), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(tree.Root + "/data/db"); string(b) != "a new row" {
		t.Errorf("what is ignored is not the original: %q", b)
	}
	again := Tree{Root: to + "-again", Counts: tree.Counts, Copied: true}
	if _, err := copied.Copy(again.Root, CopyOptions{}); err != nil || digested(t, again) != want {
		t.Errorf("a copy of the copy: %v", err)
	}
	if link, _ := os.Readlink(again.Root + "/data"); link != tree.Root+"/data" {
		t.Errorf("its data is %q", link)
	}
	if st, _ := os.Stat(to + "/lib/deep/run"); st.Mode().Perm() != 0o755 {
		t.Errorf("mode %v", st.Mode())
	}
}

func TestAnUnmodifiedFileIsLinkedToTheCopyBeforeOnlyWhereTheAppMayNotWriteToIt(t *testing.T) {
	tree := grown(t)
	base := filepath.Dir(tree.Root)
	if _, err := tree.Copy(base+"/1", CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(tree.Root+"/lib/a.js", []byte("longer"), 0o644)
	c, err := tree.Copy(base+"/2", CopyOptions{Before: base + "/1", As: func(st *unix.Stat_t) bool { return st.Mode&0o111 != 0 }})
	if err != nil || c.Linked != 1 || c.Cloned+c.Written != 2 {
		t.Errorf("%+v, %v: the script may be written to, a.js differs, server.js is as it was", c, err)
	}
	if digested(t, Tree{Root: base + "/2"}) != digested(t, Tree{Root: tree.Root, Counts: tree.Counts}) {
		t.Error("the second copy differs")
	}
}

func TestATreeThatIsNoneSaysSo(t *testing.T) {
	for _, root := range []string{"/nonexistent", "/etc/passwd"} {
		if _, err := (Tree{Root: root}).Digest(nil); err == nil || !strings.Contains(err.Error(), root) {
			t.Errorf("%s: %v", root, err)
		}
	}
	done := make(chan struct{})
	close(done)
	if _, err := grown(t).Digest(done); !errors.Is(err, ErrStopped) {
		t.Errorf("stopped: %v", err)
	}
}

// A socket, a FIFO and a device of the app's, which come and go with it, count in
// no tree. Of the three, a copy has the FIFO.
func TestWhatIsSpecialCountsInNoTree(t *testing.T) {
	tree := grown(t)
	before := digested(t, tree)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: tree.Root + "/socket"})
	}
	if err == nil {
		err = unix.Mkfifo(tree.Root+"/lib/pipe", 0o600)
	}
	if err == nil {
		err = unix.Chmod(tree.Root+"/lib/pipe", 0o622) // as no umask leaves it
	}
	if err == nil && os.Geteuid() == 0 {
		err = unix.Mknod(tree.Root+"/lib/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
	}
	if err != nil {
		t.Fatal(err)
	}
	p, err := MakePrivate(Place{Dir: t.TempDir(), Exec: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Remove()
	copied, d, err := CopyTree(tree, p, CopyOptions{})
	if err != nil || d != before {
		t.Fatalf("the digest is %v, was %v before: %v", d, before, err)
	}
	if st, err := os.Lstat(copied.Root + "/lib/pipe"); err != nil || st.Mode() != os.ModeNamedPipe|0o622 {
		t.Errorf("the FIFO in the copy: %v, %v", st, err)
	}
	for _, name := range []string{"/socket", "/lib/null"} {
		if _, err := os.Lstat(copied.Root + name); !errors.Is(err, unix.ENOENT) {
			t.Errorf("the copy has %s: %v", name, err)
		}
	}
}

// The length of a file of proc(5) is 0, whatever is read from it: that is no change.
func TestAFileWithoutALengthOfItsOwnIsNamed(t *testing.T) {
	_, err := (Tree{Root: "/proc/sys/kernel/random"}).Digest(nil)
	if err == nil || errors.Is(err, unix.EAGAIN) || !strings.Contains(err.Error(), "/proc/sys/kernel/random/") {
		t.Error(err)
	}
}

// BenchmarkTree is where the figures in docs/watching.md come from.
func BenchmarkTree(b *testing.B) {
	root := b.TempDir() + "/app"
	for i := range 5000 {
		dir := fmt.Sprintf("%s/%d/%d", root, i%7, i%70)
		os.MkdirAll(dir, 0o755)
		os.WriteFile(fmt.Sprintf("%s/%d.js", dir, i), []byte(strings.Repeat("x", i%16384)), 0o644)
	}
	b.Run("digest", func(b *testing.B) {
		for b.Loop() {
			if _, err := (Tree{Root: root}).Digest(nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	n := 0
	b.Run("copy", func(b *testing.B) {
		for b.Loop() {
			n++
			c, err := (Tree{Root: root}).Copy(fmt.Sprintf("%s-%d", root, n), CopyOptions{})
			if err != nil || c.Cloned+c.Written != 5000 {
				b.Fatal(c, err)
			}
		}
	})
	b.Run("link", func(b *testing.B) {
		for b.Loop() {
			n++
			c, err := (Tree{Root: root}).Copy(fmt.Sprintf("%s-%d", root, n), CopyOptions{Before: root + "-1", As: func(*unix.Stat_t) bool { return false }})
			if err != nil || c.Linked != 5000 {
				b.Fatal(c, err)
			}
		}
	})
}
