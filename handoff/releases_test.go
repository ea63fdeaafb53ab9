package handoff

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/release"
)

// opened is a script that was checked.
func opened(t *testing.T) (path string, f *release.File) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "server")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := release.Open(path, release.CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return path, f
}

func TestAFileIsUnmodifiedUntilItIsWrittenTo(t *testing.T) {
	path, f := opened(t)
	if !unmodified(path, f) || !intact(f) {
		t.Error("it counts as modified before")
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n:\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if unmodified(path, f) || intact(f) {
		t.Error("it counts as unmodified after")
	}
	if !leadsTo(path, f) {
		t.Error("it counts as another file")
	}
}

// Whoever overwrites it in place can put its size and its mtime back.
func TestAFileWithItsMtimePutBackIsModified(t *testing.T) {
	path, f := opened(t)
	if !f.Local() {
		t.Skip("the directory of temporary files is on a file system of another machine")
	}
	at, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	// The ctime is as coarse as the kernel's tick.
	for changed := false; !changed; {
		if err := os.WriteFile(path, []byte("#!/bin/no\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at.ModTime(), at.ModTime()); err != nil {
			t.Fatal(err)
		}
		changed = release.StatStamp(path).CTime != f.CTime
	}
	if unmodified(path, f) || intact(f) {
		t.Error("it counts as unmodified")
	}
	var st unix.Stat_t
	if err := statCached(path, &st); err != nil || asWas(&st, f) {
		t.Errorf("it counts as unmodified by its process: %v", err)
	}
}

func TestAHeldFileIsWhatItWasWhenItsPathLeadsToAnother(t *testing.T) {
	path, f := opened(t)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if unmodified(path, f) {
		t.Error("the other file counts as the one that was checked")
	}
	// To remove its name has changed its ctime, so that it is read again.
	read, err := reread(f, nil)
	if err != nil {
		t.Fatal(err)
	}
	if now, err := read(nil); err != nil || now.Digest != f.Digest {
		t.Errorf("the held file counts as modified: %v, %v", now.Digest, err)
	}
}

func TestWhatIsReadAgainIsWhatIsThere(t *testing.T) {
	path, f := opened(t)
	read, err := reread(f, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.Close() // the reader has a descriptor of its own
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	before := f.Digest
	now, err := read(nil)
	if err != nil || now.Digest == before || !now.Digest.Known() {
		t.Errorf("digest %v, %v; before %v", now.Digest, err, before)
	}
}

func TestAnOfferIsTakenOnlyWhileItsPathLeadsToIt(t *testing.T) {
	path, f := opened(t)
	s := &releases{offered: f}
	var now unix.Stat_t
	if err := unix.Stat(path, &now); err != nil {
		t.Fatal(err)
	}
	if got := s.takeOffered(path, &now); got != f || s.offered != nil {
		t.Fatalf("took %v, left %v", got, s.offered)
	}
	s.offered = f
	if got := s.takeOffered(path, nil); got != nil {
		t.Error("took a file that was removed")
	}
	if f.FD() >= 0 {
		t.Error("what was not taken is open still")
	}
}

func TestWhatIsCachedIsWhatStatSays(t *testing.T) {
	path, f := opened(t)
	var st unix.Stat_t
	if err := statCached(path, &st); err != nil || !isFile(&st, f) || !asWas(&st, f) {
		t.Errorf("%v: %+v is not as %+v", err, st, f.Release)
	}
	if err := statCached(path+"/none", &st); err != unix.ENOTDIR {
		t.Errorf("%v, want ENOTDIR", err)
	}
}

// An older kernel has no statx(2), and a filter may forbid it.
func TestWithoutStatxStatSaysIt(t *testing.T) {
	path, f := opened(t)
	defer func() { statx = unix.Statx }()
	for _, missing := range []unix.Errno{unix.ENOSYS, unix.EPERM, unix.EACCES} {
		statx = func(int, string, int, int, *unix.Statx_t) error { return missing }
		var st unix.Stat_t
		if err := statCached(path, &st); err != nil || !isFile(&st, f) || !asWas(&st, f) {
			t.Errorf("%v: %v: %+v is not as %+v", missing, err, st, f.Release)
		}
	}
}
