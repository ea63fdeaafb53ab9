package swap

import (
	"fmt"
	"github.com/hotinit/hotinit/internal/testkit/site"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// installed puts a release into a directory of the site, as bin/server.
func installed(s *site.Site, directory, version string) string {
	s.T.Helper()
	path := s.File(directory + "/bin/server")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.T.Fatal(err)
	}
	box.Install(s.T, path, version)
	return path
}

// worksIn waits until the app, once the old generation has gone, works in a
// directory.
func worksIn(s *site.Site, directory string) {
	s.T.Helper()
	want, err := filepath.EvalSymlinks(s.File(directory))
	if err != nil {
		s.T.Fatal(err)
	}
	s.Until("the app works in "+want, func() bool {
		apps := 0
		for _, p := range s.Processes() {
			if len(p.Args) == 1 && strings.HasSuffix(p.Args[0], "bin/server") && !p.Zombie() {
				apps++
				if dir, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", p.PID)); dir != want {
					return false
				}
			}
		}
		return apps == 1
	})
}

// What the command line names is relative to the app's directory, which itself is
// relative to the one that hotinit was started in.
func TestACommandRelativeToDirIsWatchedThere(t *testing.T) {
	s := site.Serving(t, site.Options{
		Flags:   []string{"--dir", "app"},
		Command: []string{"bin/server"},
		Prepare: func(s *site.Site) {
			s.Path = installed(s, "app", "v1")
			installed(s, ".", "wrong") // where hotinit was started
		},
	})
	worksIn(s, "app")
	installed(s, ".", "wrong again") // is not watched
	s.Swap("v2")
	s.Answers("v2 generation 2 ")
	worksIn(s, "app")
	s.KillHandoff() // the next one knows it too
	s.Swap("v3")
	s.Answers("v3 generation 3 ")
	worksIn(s, "app")
	if status, text := s.Ask("reload", "--wait"); status != 0 {
		t.Errorf("reload: %d: %s", status, text)
	}
	s.Answers("v3 generation 4 ")
	s.Stop(0)
}

// Deploying by a symbolic link that is the directory itself.
func TestADirThatIsALinkIsFollowedWhenItIsSwitched(t *testing.T) {
	s := site.Serving(t, site.Options{
		Flags:   []string{"--dir", "current"},
		Command: []string{"./bin/server"},
		Prepare: func(s *site.Site) {
			installed(s, "releases/1", "v1")
			s.Link("releases/1", "current")
		},
	})
	worksIn(s, "releases/1")
	installed(s, "releases/2", "v2")
	s.Link("releases/2", "current")
	s.Answers("v2 generation 2 ")
	worksIn(s, "releases/2")
	s.Link("releases/1", "current")
	s.Answers("v1 generation 3 ")
	worksIn(s, "releases/1")
	s.Stop(0)
}

func TestAMoreWatchedPathIsRelativeToWhereHotinitWasStarted(t *testing.T) {
	s := site.Serving(t, site.Options{
		Flags:   []string{"--dir", "app", "--watch", "settings"},
		Command: []string{"bin/server"},
		Prepare: func(s *site.Site) {
			installed(s, "app", "v1")
			s.Write("settings", "one")
		},
	})
	s.Write("settings", "two")
	s.Answers("v1 generation 2 ")
	worksIn(s, "app")
	s.Stop(0)
}
