package watch

import (
	"path/filepath"
	"syscall"
	"testing"
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
