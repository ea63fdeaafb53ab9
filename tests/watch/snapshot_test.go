package watch

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

func TestWithoutASnapshotARunningProgramCannotBeOverwritten(t *testing.T) {
	s := serve(t)
	if err := os.WriteFile(s.Path, []byte("overwritten"), 0o755); !errors.Is(err, unix.ETXTBSY) {
		t.Errorf("writing to a program that runs: %v, want ETXTBSY", err)
	}
	s.only("v2")
}

// copies are the two places for private copies.
func copies(t *testing.T, test func(t *testing.T, flags []string)) {
	t.Run("in memory", func(t *testing.T) { test(t, []string{"--snapshot"}) })
	t.Run("in a directory", func(t *testing.T) {
		dir := directory(t)
		test(t, []string{"--snapshot", "--snapshot-dir", dir})
		left, err := os.ReadDir(dir)
		if err != nil || len(left) > 0 {
			t.Errorf("left in the directory: %v, %v", left, err)
		}
	})
}

func TestWithASnapshotAnyWriteInPlaceWorks(t *testing.T) {
	for _, c := range []struct{ name, tool, line string }{
		{"cp", "cp", `cp new server`},
		{"rsync --inplace", "rsync", `mkdir -p from; mv new from/server; rsync -a -I --inplace from/server .`},
		{"scp", "scp", `scp -q new server`},
		{"a slow writer", "dd", `dd if=new of=server bs=65536 conv=notrunc 2>/dev/null`},
		{"mv", "mv", `mv new server`},
	} {
		t.Run(c.name, func(t *testing.T) {
			site.Need(t, c.tool)
			copies(t, func(t *testing.T, flags []string) {
				t.Parallel()
				s := serve(t, flags...)
				for i := 2; i <= 3; i++ {
					version := fmt.Sprintf("v%d", i)
					s.release("new", version)
					s.sh(c.line)
					s.next(version)
				}
			})
		})
	}
}

// A tmpfs of Docker's is mounted noexec, which harms nothing that is only read.
func TestADirectoryIsCopiedToWhereNothingCanBeExecuted(t *testing.T) {
	dir, to := directory(t), directory(t)
	s := &watched{Site: &site.Site{T: t, Dir: dir}}
	s.sh(`mkdir app; printf '#!/bin/sh\necho "$0"; exec sleep 1000\n' >app/main.sh; chmod 755 app/main.sh`)
	mount(t, "tmpfs", to, "tmpfs", unix.MS_NOEXEC, "mode=1777")
	flags := []string{"--interval", "100ms", "--watch", "app", "--snapshot", "--snapshot-dir", to}
	s = launch(t, dir, false, flags, "sh", dir+"/app/main.sh")
	s.Line(`^hotinit: private copies are in \S+, which is mounted noexec: `)
	s.Line(`^\S+/tree/main.sh$`)
	s.Becomes(1, "current")
	s = launch(t, dir, false, flags, dir+"/app/main.sh")
	s.Line(`cannot make the private copy of .* is mounted noexec \(it needs a directory to write to: docker run --tmpfs /tmp:exec, or a volume and --snapshot-dir\)`)
	s.Ends(125)
}

// A socket of the app's comes and goes in the directory that is copied and kept.
func TestASocketInTheDirectoryIsNoRelease(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	s := &watched{Site: &site.Site{T: t, Dir: dir}}
	s.sh(`mkdir app; echo 'echo v1; exec sleep 1000' >app/main.sh; mkfifo -m 622 app/pipe`)
	bind := func(name string) {
		l, err := net.Listen("unix", filepath.Join(dir, "app", name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
	}
	bind("before")
	s = launch(t, dir, false, []string{"--interval", "100ms", "--settle", "100ms", "--probation", "100ms", "--watch", "app",
		"--snapshot", "--state-dir", "state"}, "sh", dir+"/app/main.sh")
	s.Line(`^v1$`)
	s.Proven(1)
	bind("meanwhile")
	s.sh(`echo 'echo v2; exec sleep 1000' >app/main.sh`)
	s.Line(`^v2$`)
	s.Proven(2)
	s.Until("both releases are kept", func() bool {
		left, _ := filepath.Glob(filepath.Join(dir, "state", "releases", "*", "tree", "main.sh"))
		return len(left) == 2
	})
	s.Never("cannot be kept")
}

func TestTheLastGoodReleaseSurvivesOverwritingInPlace(t *testing.T) {
	copies(t, func(t *testing.T, flags []string) {
		dir := directory(t)
		path := filepath.Join(dir, "server")
		box.Install(t, path, "v1")
		s := launch(t, dir, true, append(flags, "--probation", "3s"), path)
		s.next("v1")
		s.Proven(1)
		s.release("new", "v2")
		s.sh(`cp new server`)
		s.next("v2")
		box.Get(s.Address, "/exit?status=3")
		s.Line(`generation 2 exited with status 3 in its probation.*; the last good release, .*, is started again`)
		s.next("v1")
		// What is at the path was rejected: it does not come back by itself.
		s.sh(`touch server`)
		s.release("new", "v4")
		s.sh(`cp new server`)
		s.next("v4")
	})
}

func TestTheNameInPS(t *testing.T) {
	dir := directory(t)
	for _, c := range []struct {
		name  string
		flags []string
		want  string
	}{
		{"without a copy", nil, "server"},
		{"a copy in a directory", []string{"--snapshot", "--snapshot-dir", dir}, "server"},
		{"a copy in memory", []string{"--snapshot"}, "memfd:server"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, c.flags...)
			pid := s.pid(1)
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
			if err != nil {
				t.Fatal(err)
			}
			comm := strings.TrimSpace(string(b))
			if c.flags != nil && strings.Trim(comm, "0123456789") == "" {
				t.Skipf("before Linux 6.14 the name is the descriptor's number: %s", comm)
			}
			if comm != c.want {
				t.Errorf("the name is %q, want %q", comm, c.want)
			}
			if p, ok := s.Find(s.inside(pid)); !ok || p.Args[0] != s.Path {
				t.Errorf("its command line is %v, want %s", p, s.Path)
			}
		})
	}
}

// inside is the PID in the box of one outside.
func (s *watched) inside(pid int) int {
	for _, p := range s.Processes() {
		if p.PID == pid {
			return p.Inside
		}
	}
	return -1
}

func TestASnapshotOfAReadOnlyFileSystem(t *testing.T) {
	source, dir := directory(t), directory(t)
	box.Install(t, filepath.Join(source, "server"), "v1")
	mount(t, source, dir, "", unix.MS_BIND)
	mount(t, "", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY)
	s := launch(t, dir, false, []string{"--snapshot"}, filepath.Join(dir, "server"))
	s.next("v1")
	s.sh(fmt.Sprintf(`cp server %s/new; printf '\n#app v2' >>%[1]s/new; cp %[1]s/new %[1]s/server`, source))
	s.next("v2")
}

func TestAFolderForCopiesThatIsMountedNoexecIsNamed(t *testing.T) {
	dir, copies := directory(t), directory(t)
	path := filepath.Join(dir, "server")
	box.Install(t, path, "v1")
	mount(t, "tmpfs", copies, "tmpfs", unix.MS_NOEXEC)
	s := launch(t, dir, false, []string{"--snapshot", "--snapshot-dir", copies}, path)
	s.Line(`cannot run a copy from .*` + filepath.Base(copies) + `: its file system is mounted noexec; choose another directory`)
	if status := s.Wait(); status != 125 {
		t.Errorf("status %d, want 125", status)
	}
}
