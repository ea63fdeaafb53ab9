package swap

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/load"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// What becomes of a broken release, under load: each of these stories ends with
// no request lost.

// nodeServer is the same in every release. What differs is lib.js beside it.
const nodeServer = `
const version = require('./lib.js');
const { createServer } = require('node:http');
const { Server } = require('node:net');
let draining = false;
const server = createServer((request, response) => {
  if (draining) response.setHeader('Connection', 'close');
  response.end(version + ' generation ' + process.env.HOTINIT_GENERATION + '\n');
});
server.listen({ fd: 3 });
process.on('SIGTERM', () => {
  draining = true;
  Server.prototype.close.call(server);
});
`

// checkout puts a release of the node server into a directory of its own.
func checkout(s *site.Site, directory, lib string) {
	s.T.Helper()
	s.Write(directory+"/server.js", nodeServer)
	s.Write(directory+"/lib.js", lib)
}

// deployed is a site with the node server, whose releases are directories and whose
// link current leads to the one that serves. v1 and v2 are good.
func deployed(t *testing.T, flags ...string) (*site.Site, *load.Load) {
	t.Helper()
	site.Need(t, "node")
	s := site.Open(t, site.Options{
		Flags: append(flags, "--interval", "2s"), Command: []string{"node", "current/server.js"},
		Prepare: func(s *site.Site) {
			checkout(s, "releases/1", `module.exports = 'v1';`)
			checkout(s, "releases/2", `module.exports = 'v2';`)
			s.Link("releases/1", "current")
		},
	})
	s.Answers("v1 generation 1")
	s.Becomes(1, "current")
	l := load.Start(load.Options{Address: s.Address})
	answered := l.Answered("v2 generation 2")
	s.Link("releases/2", "current")
	await(t, s.Box, l, answered, "an answer of v2")
	s.Becomes(2, "current")
	return s, l
}

// none checks that a load has lost nothing.
func none(t *testing.T, s *site.Site, l *load.Load) {
	t.Helper()
	r := lossless(t, s.Box, l)
	t.Logf("requests lost: %d", r.Losses())
}

// The script has the same bytes in each release; the broken module lies beside it.
func TestABrokenModuleBehindATurnedLinkLeavesTheOldReleaseServing(t *testing.T) {
	for name, flags := range map[string][]string{
		"without --watch": nil,
		"with --watch":    {"--watch", "current"},
	} {
		t.Run(name, func(t *testing.T) {
			s, l := deployed(t, flags...)
			checkout(s, "releases/3", `throw new Error('broken');`)
			s.Link("releases/3", "current")
			s.Line(`generation 3 failed .*: exited with status 1; generation 2 stays`)
			await(t, s.Box, l, l.After(100), "load on v2")
			if r := l.Report(); !strings.HasPrefix(r.Last, "v2 generation 2") {
				t.Errorf("the last answer was %q", r.Last)
			}

			// And back: to the release before, in its own directory, though the link
			// leads to the broken one.
			answered := l.Answered("v1 generation 4")
			if code, text := s.Ask("rollback", "--wait"); code != 0 || !strings.Contains(text, "generation 4 is current") {
				t.Fatalf("rollback: %d\n%s", code, text)
			}
			await(t, s.Box, l, answered, "an answer of v1")

			// The broken one is not started again by itself; the next one is.
			checkout(s, "releases/4", `module.exports = 'v4';`)
			answered = l.Answered("v4 generation 5")
			s.Link("releases/4", "current")
			await(t, s.Box, l, answered, "an answer of v4")
			none(t, s, l)
			s.Stop(0)
		})
	}
}

// In place, as git pull does. The private copy that v2 runs from is not touched.
func TestABrokenModuleInPlaceLeavesTheOldReleaseServing(t *testing.T) {
	site.Need(t, "node")
	s := site.Open(t, site.Options{
		Flags: []string{"--interval", "2s", "--watch", "app", "--snapshot", "--settle", "200ms"}, Command: []string{"node", "app/server.js"},
		Prepare: func(s *site.Site) { checkout(s, "app", `module.exports = 'v1';`) },
	})
	s.Answers("v1 generation 1")
	s.Becomes(1, "current")
	l := load.Start(load.Options{Address: s.Address})
	answered := l.Answered("v2 generation 2")
	s.Write("app/lib.js", `module.exports = 'v2';`)
	await(t, s.Box, l, answered, "an answer of v2")
	s.Becomes(2, "current")
	s.Write("app/lib.js", `module.exports = `)
	s.Line(`generation 3 failed .*: exited with status 1; generation 2 stays`)
	await(t, s.Box, l, l.After(100), "load on v2")
	answered = l.Answered("v1 generation 4")
	if code, text := s.Ask("rollback", "--wait"); code != 0 {
		t.Fatalf("rollback: %d\n%s", code, text)
	}
	await(t, s.Box, l, answered, "an answer of v1")
	none(t, s, l)
	s.Stop(0)
}

// end makes a generation end by itself, in order: it loses nothing, but it ends.
func end(s *site.Site, n int) {
	s.T.Helper()
	s.Until("no old generation drains", func() bool { return len(s.Status().Generations) == 1 })
	g := s.Generation(n)
	if g == nil {
		s.T.Fatalf("generation %d is gone:\n%s", n, s.Output)
	}
	p, ok := s.Find(g.PID)
	if !ok {
		s.T.Fatalf("generation %d has no process:\n%s", n, s.Output)
	}
	s.SignalTo(p.PID, unix.SIGTERM)
}

// swapped deploys a release under load, and waits until it serves.
func swapped(s *site.Site, l *load.Load, version string, n int, flags ...string) {
	s.T.Helper()
	answered := l.Answered(fmt.Sprintf("%s generation %d ", version, n))
	s.Swap(version, flags...)
	await(s.T, s.Box, l, answered, "an answer of "+version)
	s.Becomes(n, "current")
}

// v2 was sent away by hand. That v1 ends in its probation does not bring it back.
func TestWhatWasRolledBackByHandDoesNotComeBackWhenTheOlderOneEnds(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--probation", "1s", "--on-exit", "restart"}})
	s.Proven(1)
	l := load.Start(load.Options{Address: s.Address})
	swapped(s, l, "v2", 2)
	s.Proven(2)
	answered := l.Answered("v1 generation 3 ")
	if code, text := s.Ask("rollback", "--wait"); code != 0 {
		t.Fatalf("rollback: %d\n%s", code, text)
	}
	await(t, s.Box, l, answered, "an answer of v1")
	answered = l.Answered("v1 generation 4 ")
	end(s, 3)
	await(t, s.Box, l, answered, "another answer of v1")

	// A second rollback leads to what is before v1, which is nothing, and not to
	// what was rolled back.
	if code, text := s.Ask("rollback", "--wait"); code != 1 || !strings.Contains(text, "there is no other good release") {
		t.Errorf("one more: %d\n%s", code, text)
	}
	// Its file is still at the path; a new one in its place is started.
	swapped(s, l, "v3", 5)
	none(t, s, l)
	s.Never("v2 generation 4")
	s.Stop(0)
}

// Two deploys shortly after one another: the second breaks in its probation, and
// the first of them comes back, though it was not proven by time.
func TestWhatServedUntilANewerOneBrokeComesBack(t *testing.T) {
	s := site.Serving(t, site.Options{Flags: []string{"--probation", "10s"}})
	s.Proven(1)
	l := load.Start(load.Options{Address: s.Address})
	swapped(s, l, "v2", 2)
	swapped(s, l, "v3", 3, "-status", "9")
	answered := l.Answered("v2 generation 4 ")
	end(s, 3)
	s.Line(`generation 3 .*exited with status 9 in its probation`)
	await(t, s.Box, l, answered, "an answer of v2")
	s.Becomes(4, "current")
	none(t, s, l)
	s.Stop(0)
}

// Releases that fail one after the other, each in another way.
func TestBrokenReleasesInARowLoseNothing(t *testing.T) {
	s := site.Serving(t, site.Options{})
	l := load.Start(load.Options{Address: s.Address})
	s.Swap("v2", "-exit", "3")
	s.Line(`generation 2 failed .*: exited with status 3; generation 1 stays`)
	if err := os.WriteFile(s.Path+".new", []byte("\x7fELF and nothing more"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.Path+".new", s.Path); err != nil {
		t.Fatal(err)
	}
	s.Line(`server: .*; the running generation stays`)
	s.Swap("v2", "-exit", "3") // the same once more
	s.Line(`release \w+ is not started: it was rejected before: exited with status 3`)
	swapped(s, l, "v4", 3)
	none(t, s, l)
	s.Stop(0)
}
