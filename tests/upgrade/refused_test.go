package upgrade

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"aead.dev/minisign"

	"github.com/hotinit/hotinit/internal/testkit/site"
)

// What is wrong with a file is found out before anything is replaced, or by its
// handoff.
func TestWhatIsNoHotinitIsRefused(t *testing.T) {
	s := run(t, site.Options{})
	pid := s.Generation(1).PID
	handoff := s.Handoff().PID
	dir, err := builds()
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, b []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Remove(path) })
		return path
	}
	good, err := os.ReadFile(hotinit(t, newer))
	if err != nil {
		t.Fatal(err)
	}
	other := append([]byte(nil), good...)
	other[18], other[19] = 243, 0 // e_machine: riscv
	folder := filepath.Join(dir, "folder")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, why := range map[string]string{
		filepath.Join(dir, "missing"): "no such file",
		folder:                        "directory",
		file("script", []byte("#!/bin/sh\nexit 0\n")): "not an ELF file",
		file("text", []byte("text\n")):                "not an ELF file",
		file("cut", good[:len(good)/2]):               "truncated",
		file("machine", other):                        "riscv",
		"/bin/true":                                   "it is not hotinit: asked with version --json, it does not say what it is",
		stranger(t, "mute"):                           "within 5s",
		stranger(t, "messages"):                       "version 99 of the messages",
		stranger(t, "records"):                        "version 99 of the records",
	} {
		rejected(t, s, path, why, older)
		s.Line("hotinit is not upgraded: .*" + regexp.QuoteMeta(path) + ".*" + regexp.QuoteMeta(why))
	}
	if got := s.Handoff().PID; got != handoff {
		t.Errorf("the handoff was replaced for it\noutput:\n%s", s.Output)
	}
	for kind, why := range map[string]string{"ends": "ended before it acted", "hangs": "did not act within 10s"} {
		rejected(t, s, stranger(t, kind), why, older)
	}
	same(t, s, 1, pid)
	s.Stop(0)
}

// One that says that it is at work is waited for, until it ends.
func TestAHandoffThatIsAtWorkIsWaitedFor(t *testing.T) {
	s := run(t, site.Options{})
	rejected(t, s, stranger(t, "slow"), "ended before it acted", older)
	s.Stop(0)
}

// The app runs as another user, and hotinit as root: nothing that the app could
// have made or changed is executed.
func TestWhatTheAppCanChangeIsRefused(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can start an app as another user")
	}
	s := run(t, site.Options{Flags: []string{"--user", "4711"}, Prepare: func(s *site.Site) { s.Enter() }})
	good, err := os.ReadFile(hotinit(t, newer))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "hotinit-refused")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	_ = os.Chmod(dir, 0o755)
	put := func(name string, mode os.FileMode, owner int, dirMode os.FileMode, dirOwner int) string {
		t.Helper()
		d := filepath.Join(dir, name)
		path := filepath.Join(d, "hotinit")
		err := os.Mkdir(d, 0o755)
		for _, f := range []func() error{
			func() error { return os.WriteFile(path, good, 0o755) },
			func() error { return os.Chown(path, owner, -1) },
			func() error { return os.Chmod(path, mode) },
			func() error { return os.Chown(d, dirOwner, -1) },
			func() error { return os.Chmod(d, dirMode) },
		} {
			if err == nil {
				err = f()
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	for path, why := range map[string]string{
		put("owner", 0o755, 4711, 0o755, 0):             "belongs to user 4711",
		put("group", 0o775, 0, 0o755, 0):                "is not executed: it can be changed by others than its owner (mode 0775): chmod go-w",
		put("others", 0o757, 0, 0o755, 0):               "is not executed: it can be changed by others than its owner (mode 0757): chmod go-w",
		put("setuid", os.ModeSetuid|0o755, 0, 0o755, 0): "set-user-ID",
		put("directory", 0o755, 0, 0o755, 4711):         "in a directory that others than root can change",
		put("sticky", 0o755, 0, os.ModeSticky|0o777, 0): "in a directory that others than root can change",
	} {
		rejected(t, s, path, why, older)
	}
	link := filepath.Join(dir, "directory", "link")
	if err := os.Symlink(hotinit(t, newer), link); err != nil {
		t.Fatal(err)
	}
	rejected(t, s, link, "symbolic link", older)
	upgrade(t, s, newer)
	s.Stop(0)
}

// With --trusted-key, hotinit is a release like others.
func TestOnlyASignedHotinitTakesOverWhereReleasesAreSigned(t *testing.T) {
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(path string) {
		t.Helper()
		b, err := os.ReadFile(path)
		r := minisign.NewReader(bytes.NewReader(b))
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if err == nil {
			err = os.WriteFile(path+".minisig", r.SignWithComments(private, "timestamp:1700000000", "-"), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s := run(t, site.Options{Flags: []string{"--trusted-key", "key.pub"}, Prepare: func(s *site.Site) {
		text, _ := public.MarshalText()
		s.Write("key.pub", string(text))
		sign(s.Path)
	}})
	dir := t.TempDir()
	path := filepath.Join(dir, "hotinit")
	b, err := os.ReadFile(hotinit(t, newer))
	if err == nil {
		err = os.WriteFile(path, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	rejected(t, s, path, "not signed", older)
	sign(path)
	if status, text := s.Ask("upgrade", path); status != 0 {
		t.Errorf("%s\noutput:\n%s", text, s.Output)
	}
	if v := s.Status().Version; v != newer {
		t.Errorf("hotinit %s runs", v)
	}
	// A later one must be signed, too.
	rejectedSigned := append([]byte(nil), b...)
	rejectedSigned[len(rejectedSigned)-1] ^= 1
	if err := os.WriteFile(path+".other", rejectedSigned, 0o755); err != nil {
		t.Fatal(err)
	}
	sig, _ := os.ReadFile(path + ".minisig")
	_ = os.WriteFile(path+".other.minisig", sig, 0o644)
	if status, text := s.Ask("upgrade", path+".other"); status != 1 {
		t.Errorf("status %d, %s", status, text)
	}
	s.Stop(0)
}
