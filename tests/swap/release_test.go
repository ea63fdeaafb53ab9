package swap

import (
	"os"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// linked is a site with two releases, one/ and two/, whose script has the same
// bytes, and the link current to the first. What differs is the file lib, which
// the script reads beside itself, and in its working directory. The second dies
// when the returned function is called.
func linked(t *testing.T, flags []string, command ...string) (*site.Site, func()) {
	t.Helper()
	var gate func()
	s := site.Open(t, site.Options{
		Flags: append([]string{"--ready", "interval", "--interval", "100ms", "--probation", "8s"}, flags...), Command: command,
		NoPort: true,
		Prepare: func(s *site.Site) {
			gate = box.Fifo(t, s.File("gate"))
			for _, dir := range []string{"one", "two"} {
				s.Write(dir+"/app", `echo "$HOTINIT_GENERATION: script $(cat "$(dirname "$0")/name"), directory $(cat name 2>&1)"; . "$(dirname "$0")/lib"`)
				s.Write(dir+"/name", dir)
			}
			s.Write("one/lib", `exec sleep 1000`)
			s.Write("two/lib", `read line <"`+s.File("gate")+`"; exit 9`)
			s.Link("one", "current")
		},
	})
	return s, gate
}

// The bytes of the script are the same, and yet the release is another one: what
// is broken lies beside it. A rollback leads back to the old directory as a whole.
func TestATurnedLinkIsAReleaseAndARollbackLeadsIntoTheOldDirectory(t *testing.T) {
	for name, c := range map[string]struct {
		flags   []string
		command []string
	}{
		"an argument through the link":  {[]string{"--dir", "current"}, []string{"sh", "D/current/app"}},
		"the working directory by link": {[]string{"--dir", "current"}, []string{"sh", "app"}},
		"with --watch":                  {[]string{"--dir", "current", "--watch", "current"}, []string{"sh", "app"}},
	} {
		t.Run(name, func(t *testing.T) {
			for i, word := range c.command {
				// The directory is known only once the site is made, and a path
				// from the working directory will do.
				c.command[i] = strings.Replace(word, "D/", "../", 1)
			}
			s, gate := linked(t, c.flags, c.command...)
			s.Line(`^1: script one, directory one$`)
			s.Proven(1)
			s.Link("two", "current")
			s.Line(`^2: script two, directory two$`)
			s.Becomes(2, "current")
			gate()
			s.Line(`generation 2 exited with status 9 in its probation`)
			s.Line(`^3: script one, directory one$`)
			s.Becomes(3, "current")
			s.KillHandoff()
			s.Status()
			s.Link("two", "current") // the same release once more
			s.Never("4: script")
		})
	}
}

func TestARollbackWhoseDirectoryWasRemovedSaysSo(t *testing.T) {
	s, gate := linked(t, []string{"--dir", "current"}, "sh", "app")
	s.Line(`^1: script one, directory one$`)
	s.Proven(1)
	s.Link("two", "current")
	s.Becomes(2, "current")
	if err := os.RemoveAll(s.File("one")); err != nil {
		t.Fatal(err)
	}
	gate()
	s.Line(`generation 3 .*failed: the last good release of .*/current/app was replaced`)
}
