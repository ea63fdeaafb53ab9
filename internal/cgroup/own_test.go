package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOwnPathIsTheLineOfV2(t *testing.T) {
	for text, want := range map[string]string{
		"0::/\n":                              "/",
		"0::/system.slice/docker-1f.scope\n":  "/system.slice/docker-1f.scope",
		"9:name=systemd:/x\n4:memory:/\n0::/": "/",
		"0::/../other\n":                      "/../other",
		"4:memory:/a\n":                       "",
		"10::/a\n":                            "",
		"":                                    "",
	} {
		if got, ok := parsePath([]byte(text)); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v, want %q", text, got, ok, want)
		}
	}
}

func TestOnlyMountsOfV2Count(t *testing.T) {
	got := parseMounts(`22 26 0:21 / /sys rw,relatime - sysfs sysfs rw
30 22 0:27 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
36 30 0:33 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
40 30 0:37 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
41 30 0:37 /../.. /mnt/a\040b\134c rw,relatime shared:9 master:1 - cgroup2 cgroup2 rw,nsdelegate
42 30 0:37 / /mnt/cgroup2 rw,relatime - ext4 cgroup2 rw
nonsense
`)
	if want := []mount{{"/", "/sys/fs/cgroup/unified"}, {"/../..", `/mnt/a b\c`}}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestACgroupIsFoundInAnyMount(t *testing.T) {
	type place struct {
		rest string
		up   int
		ok   bool
	}
	for _, c := range []struct {
		root, path string
		want       place
	}{
		{"/", "/", place{"/", 0, true}},
		{"/", "/docker/1f", place{"/docker/1f", 0, true}},
		{"/docker/1f", "/docker/1f", place{"", 0, true}},
		{"/docker", "/docker/1f", place{"/1f", 0, true}},
		{"/docker/1", "/docker/1f", place{"f", 0, false}},
		{"/docker/2e", "/docker/1f", place{"/docker/1f", 0, false}},
		{"/..", "/", place{"", 1, true}},
		{"/../..", "/", place{"", 2, true}},
		{"/../..", "/a", place{"", 0, false}},
		{"/../other", "/", place{"/", 0, false}},
	} {
		rest, up, ok := below(c.root, c.path)
		if got := (place{rest, up, ok}); got != c.want {
			t.Errorf("%s in a mount of %s: %v, want %v", c.path, c.root, got, c.want)
		}
	}
}

// An app that looks for its limit in its own cgroup would find none.
func TestALimitIsNotHidden(t *testing.T) {
	for _, c := range []struct {
		file, text string
		limited    bool
	}{
		{"memory.max", "max\n", false},
		{"memory.max", "268435456\n", true},
		{"memory.high", "1\n", true},
		{"cpu.max", "max 100000\n", false},
		{"cpu.max", "50000 100000\n", true},
		{"pids.max", "100\n", false}, // nobody's size
	} {
		path := t.TempDir()
		if err := os.WriteFile(filepath.Join(path, c.file), []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		dir, err := unix.Open(path, directory, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unlimited(dir); (err != nil) != c.limited {
			t.Errorf("%s %q: %v", c.file, c.text, err)
		}
		unix.Close(dir)
	}
}
