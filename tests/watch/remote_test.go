package watch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// fromElsewhere deploys to near, which hotinit sees, and to far, which is the
// same directory as another machine has it: of that inotify reports nothing.
func fromElsewhere(t *testing.T, near, far string) {
	t.Helper()
	box.Install(t, filepath.Join(far, "server"), "v1")
	s := launch(t, near, false, nil, filepath.Join(near, "server"))
	s.next("v1")
	for i := 2; i <= 3; i++ {
		box.Swap(t, filepath.Join(far, "server"), fmt.Sprint("v", i))
		s.next(fmt.Sprint("v", i))
	}
	s.only("v4") // near, which is reported
	box.Swap(t, filepath.Join(far, "server"), "v5")
	s.next("v5")
}

func TestAFUSEFileSystemThatIsChangedFromElsewhere(t *testing.T) {
	for _, c := range []struct {
		name  string
		tools []string
		mount func(far, near string) *exec.Cmd
	}{
		{"bindfs", []string{"bindfs"}, func(far, near string) *exec.Cmd {
			return exec.Command("bindfs", far, near)
		}},
		{"sshfs", []string{"sshfs", sftpServer}, func(far, near string) *exec.Cmd {
			// In the place of ssh: the server that it would start.
			ssh := filepath.Join(t.TempDir(), "ssh")
			write(t, ssh, "#!/bin/sh\nexec "+sftpServer+"\n", 0o755)
			return exec.Command("sshfs", "-o", "ssh_command="+ssh, "-o", "dir_cache=no", "localhost:"+far, near)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, tool := range c.tools {
				site.Need(t, tool)
			}
			if !inMounts(t) {
				return
			}
			near, far := directory(t), directory(t)
			if out, err := c.mount(far, near).CombinedOutput(); err != nil {
				t.Skipf("no FUSE here: %v\n%s", err, out)
			}
			t.Cleanup(func() { unix.Unmount(near, unix.MNT_DETACH) })
			fromElsewhere(t, near, far)
		})
	}
}

// TestNFS mounts what HOTINIT_TEST_NFS names (SERVER:/FOLDER, which root may
// write) twice, as two machines would.
func TestNFS(t *testing.T) {
	if !inMounts(t) {
		return
	}
	// This loads the module where there is one: mount(2) answers ENODEV where
	// the kernel has no such file system, and else dislikes the empty options.
	if err := unix.Mount("none", t.TempDir(), "nfs4", 0, ""); errors.Is(err, unix.ENODEV) {
		t.Skip("needs NFS: this kernel has no client for it, built in or as a module")
	}
	export := os.Getenv("HOTINIT_TEST_NFS")
	if export == "" {
		t.Skip("needs an NFS server: HOTINIT_TEST_NFS names no SERVER:/FOLDER")
	}
	site.Need(t, "mount.nfs")
	var sides []string
	for range 2 {
		dir := directory(t)
		// nosharecache: each side has a cache of its own (nfs(5)).
		if out, err := exec.Command("mount", "-t", "nfs", "-o", "nosharecache", export, dir).CombinedOutput(); err != nil {
			t.Fatalf("cannot mount %s: %v\n%s", export, err, out)
		}
		t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
		sides = append(sides, dir)
	}
	for _, side := range sides {
		name, err := os.MkdirTemp(side, "hotinit-test-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(name) })
		os.Chmod(name, 0o755)
		other := filepath.Join(sides[0], filepath.Base(name))
		if side == sides[0] {
			other = filepath.Join(sides[1], filepath.Base(name))
		}
		fromElsewhere(t, other, name)
	}
}
