package passwd

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	passwd = `root:x:0:0:root:/root:/bin/sh
www:x:33:34:www:/var/www:/usr/sbin/nologin
broken:x:no:34::/:
short:x:5
`
	group = `root:x:0:
www-data:x:34:
log:x:40:other,www
tty:x:5:www
broken:x:no:
`
)

func TestLookUpFindsUsersAndGroups(t *testing.T) {
	for _, c := range []struct {
		user     string
		groups   []string
		uid, gid uint32
		all      []uint32
		home     string
	}{
		{"www", nil, 33, 34, []uint32{34, 40, 5}, "/var/www"},
		{"33", nil, 33, 34, []uint32{34, 40, 5}, "/var/www"},                    // a number with an entry is that user
		{"1000", nil, 1000, 0, []uint32{0}, ""},                                 // and without one it is in group 0
		{"1000:1000", nil, 1000, 1000, []uint32{1000}, ""},                      // which need no entries
		{"www:log", nil, 33, 40, []uint32{40, 40, 5}, "/var/www"},               // a group instead of the user's own
		{"www:40", nil, 33, 40, []uint32{40, 40, 5}, "/var/www"},                // the same by number
		{"www", []string{"tty", "77"}, 33, 34, []uint32{34, 5, 77}, "/var/www"}, // these instead of what /etc/group says
		{"www", []string{}, 33, 34, []uint32{34}, "/var/www"},
		{"root", nil, 0, 0, []uint32{0}, "/root"},
	} {
		id, err := lookUp(c.user, c.groups, passwd, group)
		if err != nil {
			t.Errorf("--user %s: %v", c.user, err)
			continue
		}
		got := id.Credential
		if got.UID != c.uid || got.GID != c.gid || !slices.Equal(got.Groups, c.all) || id.Home != c.home {
			t.Errorf("--user %s --groups %v is %+v with home %q, want %d:%d %v %q", c.user, c.groups, got, id.Home, c.uid, c.gid, c.all, c.home)
		}
	}
}

func TestLookUpSaysWhatIsMissing(t *testing.T) {
	for _, c := range []struct {
		user   string
		groups []string
		want   string
	}{
		{"nobody", nil, "--user nobody: there is no user nobody in the container's /etc/passwd"},
		{"short", nil, "there is no user short"},
		{"", nil, "there is no user "},
		{"broken", nil, "the entry of broken in /etc/passwd has no numbers"},
		{"www:wheel", nil, "--user www:wheel: there is no group wheel in the container's /etc/group"},
		{"www:", nil, "there is no group "},
		{"www:broken", nil, "--user www:broken: the entry of broken in /etc/group has no number"},
		{"www", []string{"tty", "wheel"}, "--groups wheel: there is no group wheel"},
		{"-1", nil, "there is no user -1"},
		{"4294967295", nil, "there is no user 4294967295"}, // -1 to the kernel: the app would stay root
		{"1000:4294967295", nil, "there is no group 4294967295"},
		{"4294967296", nil, "there is no user 4294967296"},
	} {
		if _, err := lookUp(c.user, c.groups, passwd, group); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("--user %q --groups %v: the error is %v, want %q", c.user, c.groups, err, c.want)
		}
	}
}

func TestOneNumberIsFoundByName(t *testing.T) {
	file := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(file, []byte("root:x:0:0::/:\nbad:x\nwww:x:33:34:www:/var/www:/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]uint32{"root": 0, "www": 33, "1234": 1234} {
		if got, err := fileID("user", name, file); err != nil || got != want {
			t.Errorf("user %q is %d, %v, want %d", name, got, err, want)
		}
	}
	for _, name := range []string{"", "bad", "ww", "4294967295"} {
		if got, err := fileID("user", name, file); err == nil {
			t.Errorf("user %q is %d, want an error", name, got)
		}
	}
}
