package swap

import (
	"os"
	"regexp"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/site"
)

// Cases of Server::Starter's own suite that no other test has; docs/compatibility.md
// lists them all.

func TestStartServersStatusFileFollowsASwapAndIsRemoved(t *testing.T) {
	s := site.Serving(t, site.Options{Name: name, Flags: []string{"--interval", "0", "--status-file", "status"}})
	one := regexp.MustCompile(`^1:\d+\n$`)
	s.Until("generation 1 alone runs", func() bool { return one.MatchString(s.Read("status")) })
	first := s.Answers("v1 generation 1 ")
	s.Signal(unix.SIGHUP)
	two := regexp.MustCompile(`^2:\d+\n$`)
	s.Until("generation 2 alone runs", func() bool { return two.MatchString(s.Read("status")) })
	if second := s.Answers("v1 generation 2 "); second == first {
		t.Errorf("another process was to answer: %s", second)
	}
	s.Stop(0)
	if _, err := os.Stat(s.File("status")); err == nil {
		t.Error("the status file is left")
	}
}

func TestStartServerPassesASocketAsDescriptor0(t *testing.T) {
	s := site.Open(t, site.Options{Name: name, NoPort: true, Flags: []string{"--interval", "0", "--port", "127.0.0.1:0=0"},
		Script: `readlink /proc/self/fd/0; echo "port [$SERVER_STARTER_PORT]"; exec sleep 1000`})
	s.Line(`^socket:\[\d+\]$`)
	s.Line(`^port \[127\.0\.0\.1:\d+=0\]$`)
	s.Stop(0)
}

// Server::Starter tries a worker that fails in a swap again at each interval. hotinit
// says why and leaves it at that, until somebody asks.
func TestStartServersFailedSwapIsNotTriedAgainBeforeSomebodyAsks(t *testing.T) {
	s := site.Open(t, site.Options{Name: name, NoPort: true, Flags: []string{"--interval", "1", "--port", "127.0.0.1:0"}, Script: `
echo "begun $SERVER_STARTER_GENERATION"
[ "$SERVER_STARTER_GENERATION" != 2 ] || exit 7
exec sleep 1000`})
	s.Line(`generation 1 is ready`)
	s.Signal(unix.SIGHUP)
	s.Line(`generation 2 failed: exited with status 7; generation 1 stays`)
	s.Signal(unix.SIGHUP)
	s.Line(`generation 3 is ready`)
	s.Stop(0)
}
