package deploy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/safepath"
)

// field is a directory of root, and one of the app's user.
func field(t *testing.T) (roots, theirs string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root has something to lose")
	}
	top := t.TempDir()
	roots, theirs = filepath.Join(top, "roots"), filepath.Join(top, "theirs")
	for _, dir := range []string{roots, roots + "/1", theirs, theirs + "/1"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/server", []byte("old"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{theirs, theirs + "/1", theirs + "/server", theirs + "/1/server"} {
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	return roots, theirs
}

func symlink(t *testing.T, to, at string) {
	t.Helper()
	if err := os.Symlink(to, at); err != nil {
		t.Fatal(err)
	}
}

// The app turns the link by which a release is deployed to where only root can write.
func TestTheAppCannotLeadADeployElsewhere(t *testing.T) {
	roots, theirs := field(t)
	symlink(t, roots+"/server", theirs+"/link")
	symlink(t, roots+"/1", theirs+"/current")
	symlink(t, theirs+"/link", roots+"/link") // the operator's link leads to theirs
	for _, asked := range []string{theirs + "/link", roots + "/link"} {
		for _, r := range []*request{{from: "-"}, {from: "-", to: asked}} {
			_, _, err := r.putFile(strings.NewReader("new"), control.Target{File: asked, Real: roots + "/server"})
			if err == nil || !strings.Contains(err.Error(), "somebody else") {
				t.Errorf("%s: %v", asked, err)
			}
		}
	}
	r := &request{from: "-", dir: true}
	_, _, err := r.putTree(strings.NewReader(""), control.Target{Dir: theirs + "/current"})
	if err == nil || !strings.Contains(err.Error(), "somebody else") {
		t.Error(err)
	}
	for _, name := range []string{"/server", "/1/server"} {
		if b, err := os.ReadFile(roots + name); err != nil || string(b) != "old" {
			t.Errorf("%s is %q now, %v", name, b, err)
		}
	}
	if names, err := filepath.Glob(roots + "/*"); err != nil || len(names) != 3 {
		t.Errorf("in the directory of root there are %q", names)
	}
}

// Links of the app within its own directory, and the operator's, are followed.
func TestADeployFollowsLinksThatLeadToNobodyElse(t *testing.T) {
	roots, theirs := field(t)
	symlink(t, "server", theirs+"/link")
	symlink(t, "1", theirs+"/current")
	symlink(t, theirs+"/1", roots+"/current")
	symlink(t, "1", roots+"/own")
	for asked, real := range map[string]string{
		theirs + "/link":    theirs + "/server",
		theirs + "/current": theirs + "/1",
		roots + "/current":  theirs + "/1",
		roots + "/own":      roots + "/1",
	} {
		dir, _, err := parent(asked, real)
		if err != nil {
			t.Errorf("%s: %v", asked, err)
			continue
		}
		dir.Close()
	}
}

// The app has put a set-user-ID program of root where its own release was.
func TestADeployMakesNoSetUserIDProgramWhereTheAppCanWrite(t *testing.T) {
	roots, theirs := field(t)
	if err := os.Chmod(roots+"/server", 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(roots+"/server", theirs+"/hard"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{theirs + "/hard": 0o755, roots + "/server": 0o755 | os.ModeSetuid} {
		dir, name, err := safepath.Parent(path)
		if err != nil {
			t.Fatal(err)
		}
		f := &files{most: mostBytes, dir: dir, lock: -1}
		if err := f.write(strings.NewReader("new"), name, prefix+"x"); err != nil {
			t.Fatal(err)
		}
		if err := f.place(); err != nil {
			t.Fatal(err)
		}
		f.done()
		if st, err := os.Stat(path); err != nil || st.Mode() != want {
			t.Errorf("%s has the mode %v, want %v (%v)", path, st.Mode(), want, err)
		}
	}
}
