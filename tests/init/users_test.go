package inits

import (
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// nobody returns a user of the machine's own files, with its group.
func nobody(t *testing.T) (name, uid, gid string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root may start an app as somebody else")
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	return u.Username, u.Uid, u.Gid
}

func TestTheAppRunsAsTheUserThatWasNamed(t *testing.T) {
	name, uid, gid := nobody(t)
	group, err := user.LookupGroup("daemon")
	if err != nil {
		t.Skip(err)
	}
	for _, test := range []struct {
		flags                        []string
		wantUID, wantGID, wantGroups string
	}{
		{[]string{"--user", name}, uid, gid, gid},
		{[]string{"--user", uid}, uid, gid, gid},
		{[]string{"--user", "12345"}, "12345", "0", "0"},
		{[]string{"--user", "12345:54321"}, "12345", "54321", "54321"},
		{[]string{"--user", name + ":daemon"}, uid, group.Gid, group.Gid},
		{[]string{"--user", name, "--groups", "daemon,4711"}, uid, gid, strings.Join(sorted(gid, group.Gid, "4711"), ",")},
	} {
		t.Run(strings.Join(test.flags, " "), func(t *testing.T) {
			b := start(t, append(test.flags, "--", probe(t), "state")...)
			ended(t, b, 0)
			s := fields(t, b)
			got := strings.Join(sorted(strings.Split(s["groups"], ",")...), ",")
			if s["uid"] != test.wantUID || s["gid"] != test.wantGID || got != test.wantGroups {
				t.Errorf("user %s, group %s, groups %s; want %s, %s, %s", s["uid"], s["gid"], got, test.wantUID, test.wantGID, test.wantGroups)
			}
		})
	}
}

func TestTheUsersHomeIsInTheEnvironment(t *testing.T) {
	name, _, _ := nobody(t)
	u, _ := user.Lookup(name)
	b := start(t, "--user", name, "--", command(t, "env"))
	ended(t, b, 0)
	for _, want := range []string{"HOME=" + u.HomeDir, "USER=" + name, "LOGNAME=" + name} {
		if b.Output.Count(regexp.MustCompile("^"+want+"$")) != 1 {
			t.Errorf("there is no %s in\n%s", want, b.Output)
		}
	}
}

func TestErrorsNameWhatWasNotFound(t *testing.T) {
	nobody(t)
	for _, test := range []struct {
		flags  []string
		status int
		says   string
	}{
		{[]string{"--user", "nosuchuser"}, 125, `no user nosuchuser .*/etc/passwd`},
		{[]string{"--user", "nobody:nosuchgroup"}, 125, `no group nosuchgroup .*/etc/group`},
		{[]string{"--user", "nobody", "--groups", "daemon,nosuchgroup"}, 125, `no group nosuchgroup`},
		{[]string{"--dir", "/no/such/directory"}, 125, `"/no/such/directory": no such file or directory`},
	} {
		t.Run(strings.Join(test.flags, " "), func(t *testing.T) {
			b := start(t, append(test.flags, "--", probe(t), "state")...)
			ended(t, b, test.status)
			b.Line(test.says)
		})
	}
}

func TestUmaskDirAndNoNewPrivs(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "below"), 0o755); err != nil {
		t.Fatal(err)
	}
	b := run(t, box.Options{Dir: dir, Args: []string{"--umask", "027", "--dir", "below", "--no-new-privs", "--", probe(t), "state"}})
	ended(t, b, 0)
	s := fields(t, b)
	if s["umask"] != "27" || s["dir"] != dir+"/below" || s["nnp"] != "1" {
		t.Errorf("%v", s)
	}
}

func TestWithoutFlagsFolderUmaskAndPrivilegesStay(t *testing.T) {
	dir := t.TempDir()
	compare(t, "tini", func(t *testing.T, _ func(*testing.T, ...string) *box.Box) {
		o := box.Options{Dir: dir, Args: []string{"--", probe(t), "state"}}
		if strings.HasSuffix(t.Name(), "/tini") {
			o.Binary, o.Name = command(t, "tini"), "tini"
		}
		b := run(t, o)
		ended(t, b, 0)
		if s := fields(t, b); s["dir"] != dir || s["umask"] != "22" || s["nnp"] != "0" {
			t.Errorf("%v", s)
		}
	})
}

func TestAPortBelow1024IsBoundBeforePrivilegesAreDropped(t *testing.T) {
	name, uid, _ := nobody(t)
	address := box.Host() + ":81"
	b := start(t, "--user", name, "--port", address, "--", box.App)
	b.Answers(address, "v0 generation 1 ")
	if g := b.Given(address); uid != itoa(g.UID) {
		t.Errorf("the app runs as %d, want %s", g.UID, uid)
	}
	stop(t, b, 0)
}
