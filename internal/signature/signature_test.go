package signature

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"aead.dev/minisign"
)

func pair(t testing.TB) (path string, key minisign.PrivateKey) {
	t.Helper()
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := public.MarshalText()
	path = filepath.Join(t.TempDir(), "key.pub")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return path, private
}

func read(t testing.TB, content string) Content {
	t.Helper()
	c, err := Read(strings.NewReader(content), make([]byte, 3))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func signed(key minisign.PrivateKey, content, trusted string) []byte {
	r := minisign.NewReader(strings.NewReader(content))
	for buf := make([]byte, 512); ; {
		if _, err := r.Read(buf); err != nil {
			return r.SignWithComments(key, trusted, "anything")
		}
	}
}

func verify(t testing.TB, text []byte, content string, keys ...string) error {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		return err
	}
	return s.Verify(keys, read(t, content))
}

func fails(t *testing.T, err error, why string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("the error is %v, want one with %q", err, why)
	}
}

func TestASignatureHoldsForItsContentAndComment(t *testing.T) {
	path, key := pair(t)
	other, _ := pair(t)
	text := signed(key, "content", "timestamp:12\tfile:x")
	if err := verify(t, text, "content", other, path); err != nil {
		t.Error(err)
	}
	fails(t, verify(t, text, "Content", path), "does not belong to this content")
	fails(t, verify(t, bytes.Replace(text, []byte("timestamp:12"), []byte("timestamp:13"), 1), "content", path), "was altered")
	fails(t, verify(t, text, "content", other), "which is not trusted: --trusted-key has ")
	fails(t, verify(t, text[:len(text)-9], "content", path), "not a signature of minisign, or not a complete one")
	fails(t, verify(t, minisign.Sign(key, []byte("content")), "content", path), "old format")
	fails(t, verify(t, signed(key, "content", strings.Repeat("x", mostSignature)), "content", path), "more than 2048 bytes")
	// What is kept of it is as good.
	s, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(t, []byte(s.Text()), "content", path); err != nil || strings.Contains(s.Text(), "anything") {
		t.Errorf("%v:\n%s", err, s.Text())
	}
}

func TestTheTimeIsThatOfTheTrustedComment(t *testing.T) {
	_, key := pair(t)
	for comment, want := range map[string]int64{
		"timestamp:1700000000\tfile:server\thashed": 1700000000,
		"v2 timestamp:5":                5,
		"":                              -1,
		"xtimestamp:5":                  -1,
		"timestamp:-5":                  -1,
		"timestamp:5 timestamp:6":       -1,
		"timestamp:5 timestamp:5":       5,
		"timestamp:9223372036854775808": -1,
	} {
		s, err := Parse(signed(key, "content", comment))
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := s.Time(); ok != (want >= 0) || ok && got != want {
			t.Errorf("%q has the time %d, %v", comment, got, ok)
		}
	}
}

func TestAKeyThatOthersMayReplaceIsNotTrusted(t *testing.T) {
	path, key := pair(t)
	text := signed(key, "content", "")
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	fails(t, Keys{path}.Check(), "others than root and hotinit's own user may write to it")
	fails(t, verify(t, text, "content", path), "may write to it")
	_ = os.Chmod(path, 0o644)
	if err := (Keys{path}).Check(); err != nil {
		t.Error(err)
	}
	fails(t, Keys{path + "x"}.Check(), "no such file")
	fails(t, Keys{filepath.Dir(path)}.Check(), "cannot be used")
	if err := os.WriteFile(path, []byte("untrusted comment: x\nRWQ\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	fails(t, Keys{path}.Check(), "no public key of minisign")
}

func TestWhatDebiansMinisignSigns(t *testing.T) {
	if _, err := exec.LookPath("minisign"); err != nil {
		t.Skip("needs minisign: ", err)
	}
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		c := exec.Command("minisign", args...)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("minisign %v: %v\n%s", args, err, out)
		}
	}
	run("-G", "-W", "-p", "key.pub", "-s", "key")
	if err := os.WriteFile(filepath.Join(dir, "server"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	run("-S", "-s", "key", "-m", "server")
	text, err := os.ReadFile(filepath.Join(dir, "server"+Suffix))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "key.pub")
	if err := verify(t, text, "content", path); err != nil {
		t.Error(err)
	}
	fails(t, verify(t, text, "content.", path), "does not belong to this content")
	if s, err := Parse(text); err != nil {
		t.Error(err)
	} else if _, ok := s.Time(); !ok {
		t.Errorf("there is no time in\n%s", text)
	}
	run("-S", "-l", "-s", "key", "-m", "server")
	if text, err = os.ReadFile(filepath.Join(dir, "server"+Suffix)); err != nil {
		t.Fatal(err)
	}
	fails(t, verify(t, text, "content", path), "old format")
}

// FuzzParse holds that whatever is accepted is so in the form that is kept.
func FuzzParse(f *testing.F) {
	_, key := pair(f)
	f.Add(signed(key, "content", "timestamp:12\tfile:x"))
	f.Add(minisign.Sign(key, []byte("content")))
	f.Add([]byte("untrusted comment: \n\ntrusted comment: \n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, _ = ParseKey(text)
		s, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse([]byte(s.Text()))
		if err != nil || again.Text() != s.Text() || !again.parsed.Equal(s.parsed) {
			t.Fatalf("%v:\n%q\n%q", err, text, s.Text())
		}
		before, ok := s.Time()
		if after, still := again.Time(); after != before || still != ok {
			t.Fatalf("%d, %v is read as %d, %v", before, ok, after, still)
		}
	})
}
