package watch

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// inMounts runs the test once more in a process whose mounts nobody else sees,
// and which take their loop devices with them however it ends. It reports
// whether this is that process.
func inMounts(t *testing.T) bool {
	t.Helper()
	const variable = "HOTINIT_TEST_MOUNTS"
	if os.Getenv(variable) == t.Name() {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a file system of a device")
	}
	c := exec.Command("/proc/self/exe", "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v")
	c.Env = append(os.Environ(), variable+"="+t.Name())
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	out, err := c.CombinedOutput()
	text := string(out)
	switch {
	case err != nil && len(out) == 0:
		t.Skipf("needs a mount namespace: %v", err)
	case err != nil || !strings.Contains(text, "--- PASS: "+t.Name()) && !strings.Contains(text, "--- SKIP: "+t.Name()):
		t.Fatalf("%v\n%s", err, text)
	case strings.Contains(text, "--- SKIP"):
		t.Skip(text)
	}
	t.Log(text)
	return false
}

// disk mounts a new file system of a kind, in a file.
func disk(t *testing.T, kind string, options ...string) string {
	t.Helper()
	site.Need(t, "mkfs."+kind)
	site.Need(t, "mount")
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skipf("needs loop devices: %v", err)
	}
	image, dir := filepath.Join(t.TempDir(), "image"), directory(t)
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(320 << 20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs."+kind, append(options, image)...).CombinedOutput(); err != nil {
		t.Skipf("mkfs.%s: %v\n%s", kind, err, out)
	}
	if out, err := exec.Command("mount", "-t", kind, "-o", "loop", image, dir).CombinedOutput(); err != nil {
		t.Skipf("no loop device, or no %s in this kernel: %v\n%s", kind, err, out)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// shared returns how many of a file's bytes are on the disk, and how many of
// these are another file's too, as the kernel has it
// (Documentation/filesystems/fiemap.rst).
func shared(t *testing.T, f *os.File) (all, common uint64) {
	t.Helper()
	type extent struct {
		logical, physical, length uint64
		_                         [2]uint64
		flags                     uint32
		_                         [3]uint32
	}
	var m struct {
		start, length        uint64
		flags, mapped, count uint32
		_                    uint32
		extents              [512]extent
	}
	const (
		fiemap       = 0xc020660b // FS_IOC_FIEMAP
		sync         = 1          // FIEMAP_FLAG_SYNC
		last         = 1          // FIEMAP_EXTENT_LAST
		sharedExtent = 0x2000     // FIEMAP_EXTENT_SHARED
	)
	for {
		m.length, m.flags, m.count = ^uint64(0)-m.start, sync, uint32(len(m.extents))
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fiemap, uintptr(unsafe.Pointer(&m))); errno != 0 {
			t.Skipf("the file system does not tell of shared blocks: %v", errno)
		}
		runtime.KeepAlive(f)
		for _, e := range m.extents[:m.mapped] {
			all += e.length
			if e.flags&sharedExtent != 0 {
				common += e.length
			}
			m.start = e.logical + e.length
			if e.flags&last != 0 {
				return all, common
			}
		}
		if m.mapped == 0 {
			return all, common
		}
	}
}

func sum(t *testing.T, r io.Reader) string {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// executable opens what a generation runs, which has no path.
func (s *watched) executable(generation int) *os.File {
	s.T.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/exe", s.pid(generation)))
	if err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(func() { f.Close() })
	return f
}

func TestASnapshotSharesTheBlocksWhereItCan(t *testing.T) {
	for _, c := range []struct {
		kind    string
		options []string
		shares  bool
	}{
		{"xfs", []string{"-q", "-m", "reflink=1"}, true},
		{"xfs", []string{"-q", "-m", "reflink=0"}, false},
		{"btrfs", []string{"-q"}, true},
		{"ext4", []string{"-q"}, false},
	} {
		t.Run(c.kind+strings.Join(c.options[1:], ""), func(t *testing.T) {
			if !inMounts(t) {
				return
			}
			dir := disk(t, c.kind, c.options...)
			copies := filepath.Join(dir, "copies")
			if err := os.Mkdir(copies, 0o755); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "server")
			box.Install(t, path, "v1")
			first, err := box.Release("v1")
			if err != nil {
				t.Fatal(err)
			}
			s := launch(t, dir, true, []string{"--snapshot", "--snapshot-dir", copies}, path)
			s.next("v1")
			running := s.executable(1)
			all, common := shared(t, running)
			t.Logf("%d of %d bytes are shared", common, all)
			if c.shares && (all < uint64(len(first)) || common < all*9/10) || !c.shares && common > 0 {
				t.Errorf("%d of %d bytes on the disk are shared; the file has %d", common, all, len(first))
			}

			// Block by block in the same file: what is shared is parted.
			s.release("new", "v2")
			s.sh(`dd if=new of=server conv=notrunc bs=4096 2>/dev/null; truncate -r new server`)
			s.next("v2")
			want := sum(t, strings.NewReader(string(first)))
			if got := sum(t, running); got != want {
				t.Errorf("generation 1 ran %s, and its executable is %s since the file was overwritten", want, got)
			}
			// And cut to nothing, as cp does, by what fails.
			s.release("new", "v3", "-exit", "3")
			s.sh(`cp new server`)
			s.Line(`generation 3 failed`)
			s.Ask("rollback")
			s.n = 3
			s.next("v1")
			if got := sum(t, s.executable(4)); got != want {
				t.Errorf("what is started again is %s, want %s", got, want)
			}
			if left, err := os.ReadDir(copies); err != nil || len(left) > 0 {
				t.Errorf("left in the directory: %v, %v", left, err)
			}
		})
	}
}
