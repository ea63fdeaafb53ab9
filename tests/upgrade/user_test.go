package upgrade

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/load"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// tests/docker has a root that cannot be written to, and no capabilities.
func TestAnUpgradeNeedsNoPrivilege(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("all the other tests run without privileges")
	}
	s := run(t, site.Options{Sub: true, UID: 65534, Prepare: func(s *site.Site) { s.Enter() }})
	pid := s.Generation(1).PID
	upgrade(t, s, newer)
	upgrade(t, s, older)
	same(t, s, 1, pid)
	s.Stop(0)
}

// A hotinit whose file gives it fewer capabilities could not bind the port again.
func TestAHotinitThatWouldLoseCapabilitiesIsRefused(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give a file capabilities, and start hotinit as another user")
	}
	dir, err := os.MkdirTemp("", "hotinit-caps")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	_ = os.Chmod(dir, 0o755)
	give := func(version string) string {
		t.Helper()
		b, err := os.ReadFile(hotinit(t, version))
		path := filepath.Join(dir, version)
		if err == nil {
			err = os.WriteFile(path, b, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
		caps := make([]byte, 20) // struct vfs_cap_data, capabilities(7)
		binary.LittleEndian.PutUint32(caps, 0x02000001)
		binary.LittleEndian.PutUint32(caps[4:], 1<<unix.CAP_NET_BIND_SERVICE)
		if err := unix.Setxattr(path, "security.capability", caps, 0); err != nil {
			t.Skip("files cannot have capabilities here:", err)
		}
		return path
	}
	with, newerWith := give(older), give(newer)
	s := site.Serving(t, site.Options{Sub: true, UID: 65534, Binary: with, Prepare: func(s *site.Site) { s.Enter() }})
	l := load.Start(load.Options{Address: s.Address})
	if status, text := s.Ask("upgrade", hotinit(t, newer)); status != 1 || !strings.Contains(text, "would lose capabilities") {
		t.Errorf("status %d, %s", status, text)
	}
	if status, text := s.Ask("upgrade", newerWith); status != 0 {
		t.Errorf("status %d, %s\noutput:\n%s", status, text, s.Output)
	}
	if r := l.Stop(); r.Losses() > 0 || r.Done == 0 {
		t.Errorf("%v\noutput:\n%s", r, s.Output)
	}
	s.Stop(0)
}
