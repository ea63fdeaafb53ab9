package release

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/passwd"
)

// put makes a file with a mode that no umask changes.
func put(t *testing.T, path, content string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenHoldsTheContentWhateverHappensToThePath(t *testing.T) {
	p := put(t, filepath.Join(t.TempDir(), "server"), script("kept"), 0o755)
	f, err := Open(p, CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	os.Remove(p)
	put(t, p, script("other"), 0o755)
	if d, err := digest(f.FD(), nil); err != nil || d != f.Digest || d != digestOf(script("kept")) {
		t.Fatalf("%s %v", d, err)
	}
}

func TestOpenTellsWhatItIs(t *testing.T) {
	dir := t.TempDir()
	real := put(t, filepath.Join(dir, "real"), string(self(t)), 0o755)
	link := filepath.Join(dir, "link")
	os.Symlink("real", link)
	f, err := Open(link, CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	resolved, _ := filepath.EvalSymlinks(real)
	if f.Kind != KindELF || f.Path != link || f.Real != resolved || f.Mode != 0o755 || f.Size == 0 {
		t.Fatalf("%+v", f.Release)
	}
	if flags, _ := unix.FcntlInt(uintptr(f.FD()), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
		t.Error("the descriptor would leak into generations")
	}
}

func TestOpenReasons(t *testing.T) {
	dir := t.TempDir()
	p := func(name string) string { return filepath.Join(dir, name) }
	put(t, p("empty"), "", 0o755)
	put(t, p("plain"), script("x"), 0o644)
	put(t, p("crlf"), "#!/bin/sh\r\n", 0o755)
	put(t, p("bare"), "#! \n", 0o755)
	put(t, p("nowhere"), "#!/nowhere/x -y\n", 0o755)
	put(t, p("folderish"), "#!/etc\n", 0o755)
	put(t, p("half"), string(self(t)[:100000]), 0o755)
	put(t, p("zeros"), "\x00\x00\x00\x00\x00\x00", 0o755)
	put(t, p("musl"), string(small(native, "/lib/ld-nowhere.so.1")), 0o755)
	put(t, p("mismatch"), script("x"), 0o755)
	put(t, p("mismatch.sha256"), strings.Repeat("0", 64)+"  mismatch\n", 0o644)
	put(t, p("vague"), script("x"), 0o755)
	put(t, p("vague.sha256"), "none\n", 0o644)
	unix.Mkfifo(p("fifo"), 0o755)
	for _, c := range []struct {
		name, want string
		err        error
	}{
		{"missing", "does not exist", unix.ENOENT},
		{"empty", "an empty file", nil},
		{"", "a directory, not a file", nil},
		{"fifo", "a FIFO, not a regular file", nil},
		{"plain", "not executable (mode 0644)", unix.EACCES},
		{"crlf", "as on Windows", nil},
		{"bare", "names no interpreter", nil},
		{"nowhere", "its interpreter /nowhere/x does not exist", unix.ENOENT},
		{"folderish", "its interpreter /etc is not a regular file", nil},
		{"half", "truncated ELF file: ", nil},
		{"zeros", "starts with zeros", nil},
		{"musl", "its interpreter /lib/ld-nowhere.so.1 does not exist", unix.ENOENT},
		{"mismatch", "does not match mismatch.sha256", nil},
		{"vague", "vague.sha256 has no SHA-256 for it", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := Open(p(c.name), CheckOptions{})
			f.Close()
			var reason *Reason
			if !errors.As(err, &reason) || !strings.Contains(reason.Text, c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if c.err != nil && !errors.Is(err, c.err) {
				t.Errorf("%v is not %v", err, c.err)
			}
		})
	}
}

func TestOpenForAnInterpreterNeedsNoX(t *testing.T) {
	p := put(t, filepath.Join(t.TempDir(), "app.py"), "#!/nowhere/python\n", 0o644)
	f, err := Open(p, CheckOptions{NoExec: true})
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func TestOpenAsksForTheUserThatWillRunIt(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	for _, c := range []struct {
		mode     os.FileMode
		uid, gid int
		as       passwd.Credential
		ok       bool
	}{
		{0o700, 10, 10, passwd.Credential{UID: 10, GID: 99}, true},
		{0o700, 10, 10, passwd.Credential{UID: 11, GID: 10}, false},
		{0o750, 10, 10, passwd.Credential{UID: 11, GID: 10}, true},
		{0o750, 10, 10, passwd.Credential{UID: 11, GID: 11, Groups: []uint32{9, 10}}, true},
		{0o750, 10, 10, passwd.Credential{UID: 11, GID: 11, Groups: []uint32{9}}, false},
		{0o705, 10, 10, passwd.Credential{UID: 11, GID: 10}, false}, // its group may not, though others may
		{0o755, 10, 10, passwd.Credential{UID: 11, GID: 11}, true},
		{0o001, 10, 10, passwd.Credential{}, true},
		{0o644, 10, 10, passwd.Credential{}, false}, // root needs an x too
	} {
		p := put(t, filepath.Join(dir, "server"), script("x"), 0o600)
		if err := os.Chown(p, c.uid, c.gid); err != nil {
			t.Fatal(err)
		}
		os.Chmod(p, c.mode)
		f, err := Open(p, CheckOptions{As: &c.as})
		f.Close()
		if (err == nil) != c.ok {
			t.Errorf("mode %o of %d:%d for %+v: %v", c.mode, c.uid, c.gid, c.as, err)
		}
	}
}

// asNobody runs one test function of this binary as an ordinary user.
func asNobody(t *testing.T, name string, env ...string) {
	t.Helper()
	needRoot(t)
	exe := filepath.Join(t.TempDir(), "test")
	put(t, exe, string(self(t)), 0o755)
	for dir := filepath.Dir(exe); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o755)
	}
	c := exec.Command(exe, "-test.run=^"+name+"$", "-test.v")
	c.Env = append(os.Environ(), env...)
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS: "+name) {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestAFileThatMayBeExecutedButNotRead(t *testing.T) {
	p := os.Getenv("HOTINIT_TEST_UNREADABLE")
	if p == "" {
		dir := t.TempDir()
		p := put(t, filepath.Join(dir, "server"), string(self(t)), 0o111)
		os.Chmod(dir, 0o755)
		os.Chmod(filepath.Dir(dir), 0o755)
		asNobody(t, t.Name(), "HOTINIT_TEST_UNREADABLE="+p)
		return
	}
	f, err := Open(p, CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Digest.Known() || !f.Same(f.Release) {
		t.Errorf("%+v", f.Release)
	}
	// It can be executed by its descriptor.
	if err := execCheck(f.FD()); err != nil && err != unix.EINVAL {
		t.Errorf("execute it: %v", err)
	}
	if _, err := Snapshot(f, "", false); err == nil {
		t.Error("copied what cannot be read")
	}
}

func TestSameIsTheContentAndNothingElse(t *testing.T) {
	a := Release{Path: "/a", Real: "/a", Dev: 1, Ino: 2, Size: 3, MTime: 4, CTime: 5, Mode: 0o755, Kind: KindELF, Digest: Digest{1}}
	copied := Release{Path: "/b", Real: "/a", Dev: 9, Ino: 9, Size: 3, MTime: 9, CTime: 9, Mode: 0o600, Digest: Digest{1}}
	if !a.Same(copied) {
		t.Error("a copy is the same")
	}
	other := a
	other.Digest = Digest{2}
	if a.Same(other) {
		t.Error("another content is not the same, whatever the inode")
	}
	unread := a
	unread.Digest = Digest{}
	unread.CTime, unread.Mode = 99, 0o711
	if !a.Same(unread) {
		t.Error("the same unmodified inode is the same")
	}
	unread.MTime++
	if a.Same(unread) {
		t.Error("a modified inode may not be")
	}
}

func TestListedDigest(t *testing.T) {
	a, b := Digest{0xaa}, Digest{0xbb}
	for _, c := range []struct {
		name, text string
		want       Digest
		ok         bool
	}{
		{"text mode", a.String() + "  server\n", a, true},
		{"binary mode", a.String() + " *server\n", a, true},
		{"with a directory", a.String() + "  dist/server\n", a, true},
		{"upper case", strings.ToUpper(a.String()) + "  server\n", a, true},
		{"--tag", "SHA256 (server) = " + a.String() + "\n", a, true},
		{"escaped", `\` + a.String() + "  server\n", a, true},
		{"digest alone", a.String(), a, true},
		{"CR LF", a.String() + "  server\r\n", a, true},
		{"one of several", b.String() + "  other\n" + a.String() + "  server\n", a, true},
		{"built under another name", a.String() + "  server-linux-amd64\n", a, true},
		{"several, none of it", a.String() + "  x\n" + b.String() + "  y\n", Digest{}, false},
		{"too short", a.String()[:62] + "  server\n", Digest{}, false},
		{"no digits", strings.Repeat("x", 64) + "  server\n", Digest{}, false},
		{"empty", "", Digest{}, false},
	} {
		got, ok := listedDigest(c.text, "server")
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%s: %s, %v", c.name, got, ok)
		}
	}
}

func TestADigestThatMatchesIsAccepted(t *testing.T) {
	dir := t.TempDir()
	p := put(t, filepath.Join(dir, "server"), script("x"), 0o755)
	put(t, p+".sha256", fmt.Sprintf("%s  server\n", digestOf(script("x"))), 0o644)
	f, err := Open(p, CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func TestReadingIsGivenUp(t *testing.T) {
	done := make(chan struct{})
	close(done)
	p := put(t, filepath.Join(t.TempDir(), "server"), script("x"), 0o755)
	if _, err := Open(p, CheckOptions{Done: done}); !errors.Is(err, ErrStopped) {
		t.Fatalf("got %v", err)
	}
}

func TestDigestText(t *testing.T) {
	a := digestOf("x")
	text, _ := a.MarshalText()
	var b Digest
	if err := b.UnmarshalText(text); err != nil || a != b {
		t.Fatalf("%s, %v", b, err)
	}
	if err := b.UnmarshalText([]byte("aa")); err == nil {
		t.Error("accepted two digits")
	}
}

func TestBeingWritten(t *testing.T) {
	p := put(t, filepath.Join(t.TempDir(), "server"), script("x"), 0o755)
	f, err := Open(p, CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if open, known := f.BeingWritten(); open || !known {
		t.Errorf("nobody writes it: %v, %v", open, known)
	}
	w, err := os.OpenFile(p, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if open, known := f.BeingWritten(); !open || !known {
		t.Errorf("somebody has it open: %v, %v", open, known)
	}
	w.Close()
	if open, _ := f.BeingWritten(); open {
		t.Error("nobody has it open any more")
	}
}

func TestBeingWrittenOfAnotherUsersFile(t *testing.T) {
	if p := os.Getenv("HOTINIT_TEST_FOREIGN"); p != "" {
		f, err := Open(p, CheckOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		open, known := f.BeingWritten()
		if known && !open {
			t.Error("it is being written, and that is denied")
		}
		if !known && execCheck(f.FD()) != unix.EINVAL {
			t.Error("the kernel can tell, and was not asked")
		}
		return
	}
	dir := t.TempDir()
	p := put(t, filepath.Join(dir, "server"), script("x"), 0o755)
	os.Chmod(dir, 0o755)
	os.Chmod(filepath.Dir(dir), 0o755)
	w, err := os.OpenFile(p, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	asNobody(t, t.Name(), "HOTINIT_TEST_FOREIGN="+p)
}

func TestAChecksumFileThatIsNoFileIsNamedSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "server")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(path+ChecksumSuffix, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path, CheckOptions{})
	if err == nil || !strings.Contains(err.Error(), "server.sha256 cannot be read: it is not a regular file") {
		t.Errorf("%v, %v", f, err)
	}
}
