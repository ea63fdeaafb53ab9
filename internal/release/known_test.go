package release

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAFileThatNobodyHasTouchedIsNotReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "server")
	if err := os.WriteFile(path, []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	// readable reports the digest, or false where the file would have to be read.
	stop := make(chan struct{})
	close(stop)
	read := func(done chan struct{}) (Digest, bool) {
		t.Helper()
		f, err := OpenUnchecked(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if !f.local {
			t.Skip("the directory of temporary files is on a file system of another machine")
		}
		err = f.Read(done)
		return f.Digest, err == nil
	}
	first, _ := read(nil)
	if _, again := read(stop); again {
		t.Error("it was just changed, and yet was not read again")
	}
	defer func() { now = time.Now }()
	now = func() time.Time { return time.Now().Add(2 * settled) }
	read(nil)
	if d, known := read(stop); !known || d != first {
		t.Errorf("%v, %v: it was read again, or is not what it was", d, known)
	}
	at, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at.ModTime(), at.ModTime()); err != nil {
		t.Fatal(err)
	}
	if _, known := read(stop); known {
		t.Error("it has another content, and was not read again")
	}
	if d, _ := read(nil); d == first {
		t.Error("another content has the same digest")
	}
}

// A file gets and loses names while it is read, as when it is deployed: that is no
// change of its content.
func TestAFileThatLosesANameMeanwhileIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "server")
	if err := os.WriteFile(path, []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := OpenUnchecked(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.CTime-- // as if
	if err := f.Read(nil); err != nil || !f.Digest.Known() {
		t.Errorf("%v", err)
	}
	f.MTime--
	if err := f.Read(nil); err == nil {
		t.Error("it was written to, and counts as unmodified")
	}
}
