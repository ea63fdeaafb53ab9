package watch

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestAMountPointIsFoundInMountinfo(t *testing.T) {
	const text = "36 35 98:0 /mnt1 / rw,noatime master:1 - ext3 /dev/root rw\n" +
		"37 36 98:0 /x /app/server\\040new\\134 rw - ext3 /dev/root rw\n"
	for path, want := range map[string]bool{`/app/server new\`: true, "/app/server": false, "/": true, "/mnt1": false} {
		if mountedAt(text, path) != want {
			t.Errorf("%q: %v", path, !want)
		}
	}
}

func TestASingleFileMountIsRecognised(t *testing.T) {
	if !inNamespaces(t, syscall.CLONE_NEWNS) {
		return
	}
	dir := t.TempDir()
	source := put(t, filepath.Join(dir, "source"), script("x"), 0o755)
	target := put(t, filepath.Join(dir, "server"), "", 0o755)
	if SingleFileMount(target) {
		t.Error("before it is mounted")
	}
	mount(t, source, target, "", syscall.MS_BIND, "")
	defer unmount(t, target)
	if !SingleFileMount(target) || SingleFileMount(source) || SingleFileMount(dir) {
		t.Error("the mount is not recognised, or another file is taken for one")
	}
}

func TestTheFileSystemOfAPathIsFoundInMountinfo(t *testing.T) {
	const text = "36 35 98:0 / / rw - overlay overlay rw\n" +
		"37 36 98:0 / /app rw shared:1 - ext4 /dev/root rw\n" +
		"38 36 98:0 / /app/data rw - nfs4 host:/x rw\n" +
		"39 36 98:0 / /app/data rw - tmpfs tmpfs rw\n"
	for path, want := range map[string]string{"/x": "overlay", "/app": "ext4", "/app/server": "ext4", "/application": "overlay", "/app/data/x": "tmpfs"} {
		if got := fileSystemOf(text, path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

func TestHowAPathIsWatchedIsDescribed(t *testing.T) {
	dir := t.TempDir()
	for poll, want := range map[time.Duration]string{
		PollAuto: "reports each change", PollOff: "reports each change", time.Minute: "polled every 1m0s (--poll)",
	} {
		if fs, how := Describe(filepath.Join(dir, "server"), poll); fs == "" || !strings.Contains(how, want) {
			t.Errorf("poll %v: %s, %s", poll, fs, how)
		}
	}
}
