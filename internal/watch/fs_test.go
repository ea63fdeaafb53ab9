package watch

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/release"
)

// mount mounts in the test's own mount namespace, or skips.
func mount(t *testing.T, source, target, kind string, flags uintptr, data string) {
	t.Helper()
	if err := os.MkdirAll(target, 0o755); err != nil && !errors.Is(err, unix.ENOTDIR) {
		t.Fatal(err)
	}
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		t.Skipf("cannot mount %s at %s: %v", kind, target, err)
	}
}

// unmount takes it away at the end, before the directory is removed.
func unmount(t *testing.T, target string) {
	t.Cleanup(func() { unix.Unmount(target, unix.MNT_DETACH) })
}

func TestTmpfs(t *testing.T) {
	if !inNamespaces(t, syscall.CLONE_NEWNS) {
		return
	}
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "tmpfs", 0, "")
	unmount(t, dir)
	r := newRig(t, rigOptions{dir: dir})
	r.deploy(r.path, script("second"))
	r.release(script("second"))
	r.write(r.path, script("third"))
	r.release(script("third"))
	if r.verdict(verdictAct).observation.coarse {
		t.Error("polls where everything is reported")
	}
}

func TestOverlayWithCopyUp(t *testing.T) {
	if !inNamespaces(t, syscall.CLONE_NEWNS) {
		return
	}
	base := t.TempDir()
	mount(t, "tmpfs", base, "tmpfs", 0, "")
	unmount(t, base)
	for _, d := range []string{"lower", "upper", "work", "app"} {
		os.Mkdir(filepath.Join(base, d), 0o755)
	}
	put(t, filepath.Join(base, "lower/server"), script("first"), 0o755)
	app := filepath.Join(base, "app")
	mount(t, "overlay", app, "overlay", 0, "lowerdir="+base+"/lower,upperdir="+base+"/upper,workdir="+base+"/work")
	unmount(t, app)
	r := newRig(t, rigOptions{dir: app})
	// The lower file is watched by its inode and its directory; written in place
	// it becomes another one.
	r.sh(`echo echo more >>server`)
	r.release(script("first") + "echo more\n")
	r.write(r.path, script("third"))
	r.release(script("third"))
	r.deploy(r.path, script("fourth"))
	r.release(script("fourth"))
	if r.verdict(verdictAct).observation.coarse {
		t.Error("polls where everything is reported")
	}
	r.sh(`chmod 700 server; touch server`)
	r.only()
}

func TestABindMountLaidOverIt(t *testing.T) {
	if !inNamespaces(t, syscall.CLONE_NEWNS) {
		return
	}
	base := t.TempDir()
	for _, n := range []string{"app", "other"} {
		os.Mkdir(filepath.Join(base, n), 0o755)
	}
	put(t, filepath.Join(base, "other/server"), script("second"), 0o755)
	app := filepath.Join(base, "app")
	r := newRig(t, rigOptions{dir: app})
	mount(t, filepath.Join(base, "other"), app, "", unix.MS_BIND, "")
	unmount(t, app)
	r.release(script("second"))
	// Below the mount, as seen through it.
	r.deploy(filepath.Join(base, "other/server"), script("third"))
	r.release(script("third"))
	// And away again: what was below is there.
	if err := unix.Unmount(app, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	r.release(script("first"))
}

func TestABindMountOfTheFileItself(t *testing.T) {
	if !inNamespaces(t, syscall.CLONE_NEWNS) {
		return
	}
	base := t.TempDir()
	source := put(t, filepath.Join(base, "source"), script("first"), 0o755)
	app := filepath.Join(base, "app")
	os.Mkdir(app, 0o755)
	server := put(t, filepath.Join(app, "server"), "", 0o755)
	mount(t, source, server, "", unix.MS_BIND, "")
	unmount(t, server)
	r := newRig(t, rigOptions{dir: app})
	// The writer uses the other path, so only the inode is reported.
	put(t, source, script("second"), 0o755)
	r.release(script("second"))
}

func TestAFileSystemUnmountedAndMountedAgain(t *testing.T) {
	if !inNamespaces(t, syscall.CLONE_NEWNS) {
		return
	}
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "tmpfs", 0, "")
	unmount(t, dir)
	r := newRig(t, rigOptions{dir: dir})
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	r.log("was removed")
	mount(t, "tmpfs", dir, "tmpfs", 0, "")
	r.write(r.path, script("second"))
	r.release(script("second"))
}

func TestAHardLinkWrittenElsewhere(t *testing.T) {
	r := newRig(t, rigOptions{dir: t.TempDir(), prepare: func(r *rig) {
		r.sh(`mkdir other`)
		r.write(filepath.Join(r.dir, "other/x"), script("first"))
		r.sh(`ln other/x server`)
	}})
	r.write(filepath.Join(r.dir, "other/x"), script("second"))
	r.release(script("second"))
	r.only()
}

func TestFUSEIsPolled(t *testing.T) {
	need1(t, "bindfs")
	if !inNamespaces(t, syscall.CLONE_NEWNS) {
		return
	}
	base := t.TempDir()
	source, app := filepath.Join(base, "source"), filepath.Join(base, "app")
	os.Mkdir(source, 0o755)
	os.Mkdir(app, 0o755)
	put(t, filepath.Join(source, "server"), script("first"), 0o755)
	if out, err := exec.Command("bindfs", "-o", "attr_timeout=0,entry_timeout=0,negative_timeout=0", source, app).CombinedOutput(); err != nil {
		t.Skipf("no FUSE here: %v\n%s", err, out)
	}
	unmount(t, app)
	r := newRig(t, rigOptions{dir: app})
	if !r.looked(func(c conclusion) bool { return true }).observation.coarse { // a look of polling
		t.Fatal("FUSE is taken for a file system that reports changes")
	}
	// Behind its back, as another machine would: nothing is reported.
	r.deploy(filepath.Join(source, "server"), script("second"))
	r.release(script("second"))
	r.write(filepath.Join(source, "server"), script("third"))
	r.release(script("third"))
	// In it.
	r.deploy(r.path, script("fourth"))
	r.release(script("fourth"))
}

func TestPollingFindsATreesChangesOnFUSE(t *testing.T) {
	need1(t, "bindfs")
	if !inNamespaces(t, syscall.CLONE_NEWNS) {
		return
	}
	base := t.TempDir()
	source, app := filepath.Join(base, "source"), filepath.Join(base, "app")
	os.MkdirAll(filepath.Join(source, "a"), 0o755)
	os.Mkdir(app, 0o755)
	put(t, filepath.Join(source, "a/x"), "1", 0o644)
	if out, err := exec.Command("bindfs", "-o", "attr_timeout=0,entry_timeout=0,negative_timeout=0", source, app).CombinedOutput(); err != nil {
		t.Skipf("no FUSE here: %v\n%s", err, out)
	}
	unmount(t, app)
	r := &rig{t: t, dir: base, events: make(chan Event, 100), looks: make(chan conclusion, 1), sweeps: make(chan scan, 1000), logs: make(chan string, 100)}
	r.start(Options{Paths: []Path{{Pattern: app}}}, calls{}, func(*loop) {})
	r.swept()
	put(t, filepath.Join(source, "a/x"), "12", 0o644)
	r.changed("app/a/x")
}

func TestPollingByForceFindsTheSame(t *testing.T) {
	r := newRig(t, rigOptions{options: Options{Poll: 10 * time.Millisecond}})
	r.deploy(r.path, script("second"))
	r.release(script("second"))
	r.sh(`touch server; chmod 700 server`)
	r.only()
}

func TestRemoteTypes(t *testing.T) {
	for name, magic := range map[string]int64{
		"NFS": unix.NFS_SUPER_MAGIC, "SMB": unix.SMB_SUPER_MAGIC, "SMB2": 0xfe534d42, "CIFS": 0xff534d42,
		"FUSE and virtiofs": unix.FUSE_SUPER_MAGIC, "9p": unix.V9FS_MAGIC, "Ceph": unix.CEPH_SUPER_MAGIC,
		"AFS": unix.AFS_SUPER_MAGIC, "unknown": 0x12345678,
	} {
		if !release.RemoteType(magic) {
			t.Errorf("%s is to be polled", name)
		}
	}
	for name, magic := range map[string]int64{
		"ext4": unix.EXT4_SUPER_MAGIC, "xfs": unix.XFS_SUPER_MAGIC, "btrfs": unix.BTRFS_SUPER_MAGIC,
		"tmpfs": unix.TMPFS_MAGIC, "overlayfs": unix.OVERLAYFS_SUPER_MAGIC, "zfs": 0x2fc12fc1,
	} {
		if release.RemoteType(magic) {
			t.Errorf("%s reports changes", name)
		}
	}
}
