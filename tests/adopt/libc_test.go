package adopt

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/load"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// The C library makes no difference: neither to how a program is checked and executed,
// nor to the calls that hotinit answers.
func TestAServerOfEachCLibraryIsSwappedUnderLoad(t *testing.T) {
	for _, compile := range [][]string{{"gcc"}, {"gcc", "-static"}, {"musl-gcc"}, {"musl-gcc", "-static"}} {
		t.Run(fmt.Sprint(compile), func(t *testing.T) {
			site.Need(t, compile[0])
			dir, address := t.TempDir(), box.Address()
			server := filepath.Join(dir, "server")
			out, err := exec.Command(compile[0], append(compile[1:], "-O1", "-Wall", "-Werror", "-o", server, "testdata/server.c")...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			host, port, _ := net.SplitHostPort(address)
			s := site.Open(t, site.Options{NoPort: true, Flags: []string{"--adopt", "on"}, Command: []string{server, host, port}})
			s.Address = address
			s.Answers("c generation 1")
			s.Becomes(1, "current")
			l := load.Start(load.Options{Address: address})
			for n := 2; n <= 3; n++ {
				s.Signal(unix.SIGHUP)
				s.Becomes(n, "current")
			}
			if r := l.Stop(); r.Losses() > 0 || r.Done == 0 {
				t.Errorf("%v\noutput:\n%s", r, s.Output)
			}
			s.Stop(0)
		})
	}
}
