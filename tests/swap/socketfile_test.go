package swap

import (
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/site"
)

// withPath is a site with a unix socket besides its port.
func withPath(t *testing.T, prepare func(*site.Site)) *site.Site {
	t.Helper()
	return site.Serving(t, site.Options{
		Flags:   []string{"--interval", "100ms", "--listen", "unix:run/app.sock,mode=0640"},
		Prepare: func(s *site.Site) { os.Mkdir(s.File("run"), 0o755); prepare(s) },
	})
}

// reaches reports whether the path of the unix socket leads to hotinit's.
func reaches(s *site.Site) bool {
	c, err := net.Dial("unix", s.File("run/app.sock"))
	if err == nil {
		c.Close()
	}
	return err == nil
}

func TestASocketFileThatTheAppRemovesIsPutBack(t *testing.T) {
	s := withPath(t, func(*site.Site) {})
	s.Becomes(1, "current")
	path := s.File("run/app.sock")
	before, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	healthy := func() {
		t.Helper()
		s.Until("hotinit is healthy", func() bool { status, _ := s.Ask("health"); return status == 0 })
		if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) || after.Mode() != before.Mode() {
			t.Errorf("the socket file is another: %v, it was %v (%v)", after, before, err)
		}
		if !reaches(s) {
			t.Error("the socket file leads to nobody")
		}
	}
	os.Remove(path)
	s.Line(`^hotinit: the socket file ` + path + ` was removed; it was put back`)
	healthy()

	// A server that binds the path by itself puts its own socket there.
	os.Rename(path, path+".old")
	l, err := net.Listen("unix", path)
	if err != nil {
		s.Line(`was removed; it was put back`) // hotinit was faster
	} else {
		defer l.Close()
		s.Line(`(was removed|was replaced by another file); it was put back`)
	}
	os.Remove(path + ".old")
	healthy()

	// Also by the next handoff, which has the file from init.
	s.KillHandoff()
	s.Line("the handoff was lost")
	os.Remove(path)
	s.Line(`was removed; it was put back`)
	healthy()

	s.Stop(0)
	left, _ := os.ReadDir(s.File("run"))
	if len(left) > 0 {
		t.Errorf("hotinit leaves %v", left)
	}
}

func TestASocketFileThatCannotBePutBackFailsTheHealth(t *testing.T) {
	s := withPath(t, func(*site.Site) {})
	s.Becomes(1, "current")
	path := s.File("run/app.sock")
	for range 3 { // hotinit may be faster
		os.Remove(path)
		if os.Mkdir(path, 0o755) == nil {
			break
		}
	}
	s.Line(`^hotinit: the socket file ` + path + ` was replaced by another file and cannot be put back: .*; clients that connect by its path do not reach the app`)
	if status, text := s.Ask("health"); status != 1 {
		t.Errorf("health exits with %d: %s", status, text)
	}
	if st := s.Status(); !strings.Contains(st.Reason, path+" was replaced by another file") || !slices.Contains(st.Sockets, path) {
		t.Errorf("the status is %+v", st)
	}
	os.Remove(path)
	s.Line(`was removed; it was put back`)
	s.Until("hotinit is healthy", func() bool { status, _ := s.Ask("health"); return status == 0 })

	// Without the second name nothing is left to put back.
	os.RemoveAll(s.File("run"))
	s.Line(`cannot be put back`)
	s.Until("hotinit is not healthy", func() bool { status, _ := s.Ask("health"); return status == 1 })
	s.Stop(0)
}

// The second name that a killed hotinit left is no obstacle.
func TestTheSecondNameOfAKilledHotinitIsReplaced(t *testing.T) {
	s := withPath(t, func(s *site.Site) {
		l, err := net.Listen("unix", s.File("run/.app.sock.hotinit"))
		if err != nil {
			t.Fatal(err)
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		l.Close()
	})
	s.Becomes(1, "current")
	os.Remove(s.File("run/app.sock"))
	s.Line(`was removed; it was put back`)
	s.Stop(0)
}
