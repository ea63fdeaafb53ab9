package deploy

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// installed puts a release into a folder of the site, as bin/server.
func (s *site) installed(folder, version string) string {
	s.t.Helper()
	path := s.file(folder + "/bin/server")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	box.Install(s.t, path, version)
	return path
}

// worksIn waits until the app, once the old generation has gone, works in a
// folder.
func (s *site) worksIn(folder string) {
	s.t.Helper()
	want, err := filepath.EvalSymlinks(s.file(folder))
	if err != nil {
		s.t.Fatal(err)
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

// What the command line names is relative to the app's folder, which itself is
// relative to the one that hotinit was started in.
func TestACommandRelativeToDirIsWatchedThere(t *testing.T) {
	s := serving(t, options{
		flags:   []string{"--dir", "app"},
		command: []string{"bin/server"},
		prepare: func(s *site) {
			s.path = s.installed("app", "v1")
			s.installed(".", "wrong") // where hotinit was started
		},
	})
	s.worksIn("app")
	s.installed(".", "wrong again") // is not watched
	s.swap("v2")
	s.Answers("v2 generation 2 ")
	s.worksIn("app")
	s.KillHandoff() // the next one knows it too
	s.swap("v3")
	s.Answers("v3 generation 3 ")
	s.worksIn("app")
	if status, text := s.ask("reload", "--wait"); status != 0 {
		t.Errorf("reload: %d: %s", status, text)
	}
	s.Answers("v3 generation 4 ")
	s.stop(0)
}

// Deploying by a symbolic link that is the folder itself.
func TestADirThatIsALinkIsFollowedWhenItIsSwitched(t *testing.T) {
	s := serving(t, options{
		flags:   []string{"--dir", "current"},
		command: []string{"./bin/server"},
		prepare: func(s *site) {
			s.installed("releases/1", "v1")
			s.link("releases/1", "current")
		},
	})
	s.worksIn("releases/1")
	s.installed("releases/2", "v2")
	s.link("releases/2", "current")
	s.Answers("v2 generation 2 ")
	s.worksIn("releases/2")
	s.link("releases/1", "current")
	s.Answers("v1 generation 3 ")
	s.worksIn("releases/1")
	s.stop(0)
}

func TestAMoreWatchedPathIsRelativeToWhereHotinitWasStarted(t *testing.T) {
	s := serving(t, options{
		flags:   []string{"--dir", "app", "--watch", "settings"},
		command: []string{"bin/server"},
		prepare: func(s *site) {
			s.installed("app", "v1")
			s.write("settings", "one")
		},
	})
	s.write("settings", "two")
	s.Answers("v1 generation 2 ")
	s.worksIn("app")
	s.stop(0)
}
