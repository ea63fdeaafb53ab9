package release

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stateDir returns the path of a state directory. The temporary directory of a
// test is settled only if what is above it is.
func stateDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if _, err := OpenStore(dir, 0); err != nil {
		t.Skipf("no directory that is only ours: %v", err)
	}
	return dir
}

func opened(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := OpenStore(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// one makes a release of a script with this content.
func one(t *testing.T, content string) (Kept, *File) {
	t.Helper()
	f, err := Open(put(t, filepath.Join(t.TempDir(), "server"), content, 0o755), CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return Kept{Release: f.Release, Command: Command{f.Real, []string{f.Real}, "/"}, Since: time.Now().UTC()}, f
}

func keep(t *testing.T, s *Store, content string) Kept {
	t.Helper()
	k, f := one(t, content)
	if err := s.Keep(k, f, Tree{}, nil); err != nil {
		t.Fatal(err)
	}
	return k
}

func listOf(t *testing.T, s *Store) List {
	t.Helper()
	l, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestTheLastThreeGoodReleasesAreKept(t *testing.T) {
	dir := stateDir(t)
	s := opened(t, dir)
	if l := listOf(t, s); len(l.Good)+len(l.Rejected) != 0 {
		t.Errorf("a new one has %+v", l)
	}
	var all []Kept
	for i := range 5 {
		all = append(all, keep(t, s, script(fmt.Sprint(i))))
	}
	l := listOf(t, opened(t, dir))
	if len(l.Good) != 3 || l.Good[2].Name() != all[4].Name() || l.Last().Name() != all[4].Name() {
		t.Fatalf("%+v", l.Good)
	}
	if kept, _ := os.ReadDir(dir + "/releases"); len(kept) != 3 {
		t.Errorf("%d copies", len(kept))
	}
	os.Remove(all[4].Release.Real)
	f, _, err := s.Open(l.Last(), Tree{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 100)
	if n, _ := unix.Pread(f.FD(), b, 0); string(b[:n]) != script("4") {
		t.Errorf("%q", b[:n])
	}
}

func TestWhatWasRejectedIsNotTheLastGoodOne(t *testing.T) {
	s := opened(t, stateDir(t))
	a, b := keep(t, s, script("a")), keep(t, s, script("b"))
	if err := s.Reject(Rejected{Name: b.Name(), Reason: "exited with status 3", Since: time.Now().UTC()}); err != nil {
		t.Fatal(err)
	}
	l := listOf(t, s)
	if l.Last().Name() != a.Name() || l.RejectedAs(b.Name()) == nil || l.RejectedAs(b.Name()).Reason != "exited with status 3" {
		t.Errorf("%+v", l)
	}
	a = keep(t, s, script("a again"))
	for i := range 30 {
		if err := s.Reject(Rejected{Name: fmt.Sprintf("%032x", i), Reason: strings.Repeat("x", 1<<20)}); err != nil {
			t.Fatal(err)
		}
	}
	if l := listOf(t, s); len(l.Rejected) != mostReject || l.Last().Name() != a.Name() {
		t.Errorf("%d rejected, last %v", len(l.Rejected), l.Last())
	}
}

func TestATreeIsKeptAsAWhole(t *testing.T) {
	s := opened(t, stateDir(t))
	tree := grown(t)
	f, err := Open(tree.Root+"/lib/deep/run", CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.Root, f.Tree = tree.Root, digested(t, tree)
	k := Kept{Release: f.Release, Command: Command{f.Real, []string{f.Real}, tree.Root}, Since: time.Now().UTC()}
	if err := s.Keep(k, f, tree, nil); err != nil {
		t.Fatal(err)
	}
	os.RemoveAll(tree.Root)
	l := listOf(t, s)
	g, copied, err := s.Open(l.Last(), tree, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.Close()
	if b, _ := os.ReadFile(copied.Root + "/lib/abs"); string(b) != "a" {
		t.Errorf("lib/abs: %q", b)
	}
	os.WriteFile(copied.Root+"/lib/a.js", []byte("b"), 0o644)
	if _, _, err := s.Open(l.Last(), tree, nil); err == nil || !strings.Contains(err.Error(), "was changed") {
		t.Errorf("a changed copy: %v", err)
	}
}

func TestGarbageIsNotBelievedAndNotInTheWay(t *testing.T) {
	dir := stateDir(t)
	s := opened(t, dir)
	keep(t, s, script("a"))
	list := dir + "/" + listName
	whole, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func() error{
		"empty":      func() error { return os.WriteFile(list, nil, 0o600) },
		"half of it": func() error { return os.WriteFile(list, whole[:len(whole)/2], 0o600) },
		"a flipped bit": func() error {
			return os.WriteFile(list, bytes.Replace(whole, []byte("/server"), []byte("/serves"), 1), 0o600)
		},
		"a new version": func() error { return os.WriteFile(list, []byte(`{"version":2}`), 0o600) },
		"great":         func() error { return os.WriteFile(list, bytes.Repeat([]byte(" "), mostList+1), 0o600) },
		"a directory":   func() error { return os.Mkdir(list, 0o700) },
		"a FIFO":        func() error { return unix.Mkfifo(list, 0o600) },
		"a link":        func() error { return os.Symlink("/etc/passwd", list) },
		"writable":      func() error { os.WriteFile(list, whole, 0o600); return os.Chmod(list, 0o666) },
	} {
		os.RemoveAll(list)
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if l, err := s.List(); err == nil || !strings.Contains(err.Error(), listName) || len(l.Good) != 0 {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
		if name == "a directory" {
			continue // rename(2) does not replace it, which Reject says
		}
		if err := s.Reject(Rejected{Name: strings.Repeat("0", 32)}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if l := listOf(t, s); len(l.Rejected) != 1 {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

func TestAChangedCopyIsNotOpened(t *testing.T) {
	s := opened(t, stateDir(t))
	keep(t, s, script("a"))
	last := listOf(t, s).Last()
	path := s.file(last)
	for name, spoil := range map[string]func(){
		"changed": func() { os.Remove(path); os.WriteFile(path, []byte(script("b")), 0o755) },
		"gone":    func() { os.Remove(path) },
		"a link":  func() { os.Remove(path); os.Symlink("/bin/sh", path) },
		"a FIFO":  func() { os.Remove(path); unix.Mkfifo(path, 0o700) },
	} {
		spoil()
		if f, _, err := s.Open(last, Tree{}, nil); err == nil {
			f.Close()
			t.Errorf("%s: it was opened", name)
		}
	}
	keep(t, s, script("a")) // puts it right
}

func TestOnlyRootAndHotinitsUserMayWriteTheStateDirectory(t *testing.T) {
	dir := stateDir(t)
	for _, mode := range []os.FileMode{0o777, 0o770, 0o1777} {
		os.Chmod(dir, mode)
		if _, err := OpenStore(dir, 0); err == nil || !strings.Contains(err.Error(), "chmod") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	os.Chmod(dir, 0o700)
	s := opened(t, dir)
	os.Chmod(dir, 0o777)
	if _, err := s.List(); err == nil {
		t.Error("the list of a directory that others may write to since is believed")
	}
	os.Chmod(dir, 0o700)
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	os.Chown(dir, 1234, 1234)
	if _, err := OpenStore(dir, 0); err == nil {
		t.Error("somebody else's directory is used")
	}
}

func TestAStateDirectoryThatCannotBeWrittenSaysSo(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "mount")
	os.Mkdir(dir, 0o755)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=700"); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	s := opened(t, dir)
	small := keep(t, s, script("a"))
	k, f := one(t, script(strings.Repeat("x", 200<<10)))
	if err := s.Keep(k, f, Tree{}, nil); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("a full disk: %v", err)
	}
	if l := listOf(t, s); l.Last().Name() != small.Name() {
		t.Errorf("after that %+v", l)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := s.Reject(Rejected{Name: strings.Repeat("0", 32)}); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("read-only: %v", err)
	}
	if f, _, err := s.Open(listOf(t, s).Last(), Tree{}, nil); err != nil {
		t.Errorf("read-only: %v", err)
	} else {
		f.Close()
	}
}

// Replicas share one directory: nothing that one of them noted is lost.
func TestSeveralMayChangeTheListAtOnce(t *testing.T) {
	dir := stateDir(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			s, err := OpenStore(dir, 0)
			if err == nil {
				err = s.Reject(Rejected{Name: fmt.Sprintf("%032x", i)})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if l := listOf(t, opened(t, dir)); len(l.Rejected) != 8 {
		t.Errorf("%d of 8", len(l.Rejected))
	}
}

// TestHelperStore is the process that TestKilledAtAnyInstant kills.
func TestHelperStore(t *testing.T) {
	dir := os.Getenv("HOTINIT_TEST_STORE")
	if dir == "" {
		t.Skip("is run by another test")
	}
	s := opened(t, dir)
	for i := 0; ; i++ {
		keep(t, s, script(fmt.Sprint(i)+strings.Repeat("x", 100<<10)))
		if i == 0 {
			os.Stdout.Close() // it is at work
		}
	}
}

func TestKilledAtAnyInstantTheListIsWhole(t *testing.T) {
	dir := stateDir(t)
	s := opened(t, dir)
	keep(t, s, script("first"))
	for i := range 20 {
		c := exec.Command(os.Args[0], "-test.run=^TestHelperStore$")
		c.Env = append(os.Environ(), "HOTINIT_TEST_STORE="+dir)
		out, err := c.StdoutPipe()
		if err == nil {
			err = c.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, out); err != nil { // until it is at work
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 137 * time.Microsecond) // an instant like any other
		c.Process.Signal(syscall.SIGKILL)
		c.Wait()
		l := listOf(t, s)
		for i := range l.Good {
			f, _, err := s.Open(&l.Good[i], Tree{}, nil)
			if err != nil {
				t.Fatalf("%s: %v", l.Good[i].Name(), err)
			}
			f.Close()
		}
	}
}

func FuzzList(f *testing.F) {
	l := List{Good: []Kept{{Release: Release{Path: "/a", Real: "/a", Size: 1, Digest: Digest{1}}, Command: Command{"/a", []string{"/a"}, "/"}}},
		Rejected: []Rejected{{Name: strings.Repeat("a", 32), Reason: "x"}}}
	b, err := l.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1,"checksum":"sha256:","list":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParseList(b)
		if err != nil {
			return
		}
		again, err := l.Encode()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if _, err := ParseList(again); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		l.Last()
	})
}
