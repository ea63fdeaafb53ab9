package spawn

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// numbered opens n files that can be told apart.
func numbered(t *testing.T, n int) (fds []int) {
	t.Helper()
	for range n {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = unix.Close(p[0])
			_ = unix.Close(p[1])
		})
		fds = append(fds, p[0])
	}
	return fds
}

// lister is a shell command that lists the shell's descriptors. The one that
// it reads the directory with is gone when it looks again. (A Go program would not
// do: its runtime opens files of its own.)
const lister = `for f in /proc/$$/fd/*; do [ -e $f ] && echo ${f##*/}; done; true`

// listed are the descriptors of the started shell.
func listed(t *testing.T, s *Spec) []string {
	t.Helper()
	s.Path, s.Argv = "/bin/sh", []string{"sh", "-c", lister}
	out, _ := output(t, s)
	return strings.Fields(out)
}

// inodes are those of descriptors 0 to n-1 of the started shell.
func inodes(t *testing.T, s *Spec, n int) []string {
	t.Helper()
	s.Path, s.Argv = "/bin/sh", []string{"sh", "-c", `i=0; while [ $i -lt ` + strconv.Itoa(n) + ` ]; do readlink /proc/$$/fd/$i || echo none; i=$((i+1)); done`}
	out, _ := output(t, s)
	return strings.Split(strings.TrimSpace(out), "\n")
}

func link(fd int) string {
	l, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return "none"
	}
	return l
}

func TestDescriptorsArriveInAnyOrder(t *testing.T) {
	both(t, func(t *testing.T) {
		fds := numbered(t, 5)
		low := slices.Clone(fds)
		slices.Reverse(low)
		for name, files := range map[string][]int{
			"reversed":   append([]int{0, 1, 2}, low...),
			"repeated":   {0, 1, 2, fds[3], fds[3], fds[0]},
			"with holes": {0, 1, 2, -1, fds[1], -1, fds[0]},
			// Each of them is wanted at the number of another.
			"rotated": append(slices.Repeat([]int{-1}, fds[0]), fds[1], fds[2], fds[0]),
			"in place": func() []int {
				f := slices.Repeat([]int{-1}, fds[4]+1)
				f[fds[4]], f[fds[2]] = fds[4], fds[2]
				return f
			}(),
		} {
			t.Run(name, func(t *testing.T) {
				s := spec(t, "")
				s.Files = slices.Clone(files)
				s.Files[0], s.Files[2] = 0, 2
				got := inodes(t, s, len(files))
				for i, fd := range s.Files {
					if i == 1 {
						continue // the pipe that the shell writes to
					}
					want := "none"
					if fd >= 0 {
						want = link(fd)
					}
					if got[i] != want {
						t.Errorf("%d is %s, not %s (%v)", i, got[i], want, got)
					}
				}
			})
		}
	})
}

func TestNoOtherDescriptorIsInherited(t *testing.T) {
	both(t, func(t *testing.T) {
		// Not close-on-exec, and far up.
		leak, err := unix.FcntlInt(0, unix.F_DUPFD, 200)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Close(leak) }()
		s := spec(t, "")
		s.Files = []int{0, 1, 2, -1, 0}
		if got := listed(t, s); !slices.Equal(got, []string{"0", "1", "2", "4"}) {
			t.Errorf("%v", got)
		}
	})
}

func TestNonBlockingDescriptorsStaySo(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	s := spec(t, "report")
	s.Files = append(s.Files, fd)
	if report(t, s).Files[3]&unix.O_NONBLOCK == 0 {
		t.Error("the child's is blocking")
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Error("ours became blocking", err)
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Error("ours is not close-on-exec any more", err)
	}
}

// both runs a test with close_range(2) and as on a kernel without.
func both(t *testing.T, f func(*testing.T)) {
	t.Run("close_range", func(t *testing.T) {
		if !rangeWorks() {
			t.Skip("this kernel has none")
		}
		f(t)
	})
	t.Run("without", func(t *testing.T) {
		forceNoRange = true
		defer func() { forceNoRange = false }()
		f(t)
	})
}
