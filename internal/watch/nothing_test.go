package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hotinit/hotinit/internal/release"
)

// ignored waits until a look at a changed file was concluded to be nothing.
func (r *rig) ignored(before release.Stamp) {
	r.t.Helper()
	r.looked(func(c conclusion) bool {
		return c.verdict.kind == verdictIgnore && c.observation.id.file != before
	})
}

func TestNothingHappensFor(t *testing.T) {
	for _, way := range []struct{ name, line string }{
		{"touch", `touch server`},
		{"touch into the past", `touch -d 2001-01-01 server`},
		{"chmod", `chmod 700 server`},
		{"chmod -x", `chmod -x server`},
		{"the same bytes in place", `cp server t; cp t server`},
		{"the same bytes renamed over", `cp -p server t; mv t server`},
		{"the same bytes by install", `cp server t; install -m 755 t server`},
		{"a hard link to it", `ln server other`},
		{"gone and back", `mv server other; mv other server`},
	} {
		t.Run(way.name, func(t *testing.T) {
			r := newRig(t, rigOptions{})
			before := release.StatStamp(r.path)
			r.sh(way.line)
			r.ignored(before)
			r.only()
			for _, said := range r.said() {
				if !strings.Contains(said, "removed") {
					t.Errorf("nothing is worth a word, but said: %s", said)
				}
			}
		})
	}
}

func TestNothingHappensForChown(t *testing.T) {
	needRoot(t)
	r := newRig(t, rigOptions{})
	before := release.StatStamp(r.path)
	if err := os.Chown(r.path, 1, 1); err != nil {
		t.Fatal(err)
	}
	r.ignored(before)
	r.only()
}

func TestReadingCausesNoLook(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.forget()
	for range 100 {
		if _, err := os.ReadFile(r.path); err != nil {
			t.Fatal(err)
		}
	}
	past := time.Unix(1e9, 0)
	os.Chtimes(r.path, past, past) // reported after all that the reading may have caused
	r.looked(func(c conclusion) bool { return c.observation.id.file.MTime == past.UnixNano() })
	r.only()
}

func TestOtherFilesCauseNoLook(t *testing.T) {
	r := newRig(t, rigOptions{})
	before := release.StatStamp(r.path)
	r.forget()
	for i := range 10000 {
		name := filepath.Join(r.dir, fmt.Sprintf("other-%d", i))
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	r.sh(`touch -d 2001-01-01 server`)
	looks := 0
	r.looked(func(c conclusion) bool {
		if c.observation.id.file == before {
			looks++
		}
		return c.verdict.kind == verdictIgnore && c.observation.id.file != before
	})
	// A full queue means one look more, and not one for each file.
	if looks > 10 {
		t.Errorf("%d looks at the release for 10,000 other files", looks)
	}
	r.only()
}

func TestRefusedAndSaidOnce(t *testing.T) {
	for _, c := range []struct{ name, line, reason string }{
		{"a removed file", `rm server`, "was removed"},
		{"an empty file", `: >t; chmod +x t; mv t server`, "an empty file"},
		{"a directory", `rm server; mkdir server`, "a directory, not a file"},
		{"a FIFO", `rm server; mkfifo server`, "a FIFO, not a regular file"},
		{"a socket-like special file", `rm server; ln -s /dev/null server`, "not a regular file"},
		{"a file without x", `rm server; echo other >server`, "not executable (mode 0644)"},
		{"a script for an interpreter that is not there", `printf '#!/nowhere/sh\n' >t; chmod +x t; mv t server`, "its interpreter /nowhere/sh does not exist"},
		{"a digest that does not match", `echo 0000000000000000000000000000000000000000000000000000000000000000 >server.sha256; printf '#!/bin/sh\n:' >t; chmod +x t; mv t server`, "does not match server.sha256"},
		{"a symbolic link to itself", `rm server; ln -s server server`, "too many levels of symbolic links"},
		{"a symbolic link to nothing", `ln -sf nothing server`, "was removed"},
		{"a path through a file", `rm server; ln -s nothing/server server; : >nothing`, "is not a directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, rigOptions{})
			r.sh(c.line)
			r.log(c.reason)
			r.forget()
			r.loop.notes <- []note{{}}
			r.verdict(verdictIgnore) // looked again, and it is not said again
			for _, said := range r.said() {
				t.Errorf("said too: %s", said)
			}
			r.sh(`rm -rf server server.sha256 nothing`)
			r.only()
		})
	}
}

func TestAnInterruptedCopyIsRefusedAndSaidOnce(t *testing.T) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, rigOptions{})
	r.write(r.path, string(self[:len(self)/2]))
	r.log("truncated ELF file")
	r.forget()
	r.loop.notes <- []note{{}}
	r.verdict(verdictIgnore)
	for _, said := range r.said() {
		t.Errorf("said too: %s", said)
	}
	// It is resumed after all.
	f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(self[len(self)/2:]); err != nil {
		t.Fatal(err)
	}
	f.Close()
	r.release(string(self))
	r.only()
}

func TestAGrowingFileIsNoRelease(t *testing.T) {
	r := newRig(t, rigOptions{})
	f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		f.WriteString("# more\n")
		os.Chmod(r.path, 0o755) // makes it look
	}
	size := int64(len(script("first")) + 50*len("# more\n"))
	c := r.looked(func(c conclusion) bool { return c.observation.id.file.Size == size })
	if c.observation.writer != release.WriterOpen || c.verdict.kind != verdictWait {
		t.Fatalf("%+v", c)
	}
	f.Close()
	e := r.event()
	if e.Release.Size != size {
		t.Fatalf("size %d, want %d", e.Release.Size, size)
	}
	r.only()
}

func TestAWriterThatDiesHasFinished(t *testing.T) {
	r := newRig(t, rigOptions{})
	fd, err := syscall.Open(r.path, syscall.O_WRONLY|syscall.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	syscall.Write(fd, []byte("#!/bin/sh\n"))
	syscall.Close(fd) // what the kernel does for it
	r.release("#!/bin/sh\n")
	r.only()
}
