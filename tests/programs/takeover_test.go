package programs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/hotinit/hotinit/internal/adopt"
	"github.com/hotinit/hotinit/internal/testkit/port"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// reads is how often a process has read from a file: looks into /proc, above all.
func reads(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		t.Skip(err)
	}
	n, err := strconv.Atoi(string(regexp.MustCompile(`syscr: (\d+)`).FindSubmatch(b)[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The next handoff has to know which of the sockets that hotinit keeps are open in which
// program. It does not look at all processes for each of the programs.
func TestATakeoverLooksAtEachProcessOnce(t *testing.T) {
	if err := adopt.Supported(); err != nil {
		t.Skip(err)
	}
	site.Need(t, "perl")
	script := filepath.Join(t.TempDir(), "listen")
	if err := os.WriteFile(script, []byte(`use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalAddr => $ARGV[0], Listen => 10, ReuseAddr => 1) or die "$@";
while (my $c = $s->accept) { close $c }
`), 0o644); err != nil {
		t.Fatal(err)
	}
	const many = 60
	files := map[string]string{}
	for n := range many {
		files[fmt.Sprint("p", n)] = fmt.Sprintf("HOTINIT_COMMAND=perl %s %s\nHOTINIT_ADOPT=on\nHOTINIT_INTERVAL=10ms\n", script, port.Address(t))
	}
	y := lay(t, files)
	y.start()
	serve := func() bool {
		rows := y.rows()
		for name := range files {
			if !serving(rows[name]) {
				return false
			}
		}
		return true
	}
	y.Until("all serve", serve)
	before := y.Handoff().PID
	y.KillHandoff()
	y.Until("another handoff answers", func() bool { return y.Handoff().PID != before && serve() })
	n := reads(t, y.Handoff().PID)
	t.Logf("%d reads for %d programs", n, many)
	if n > many*many {
		t.Errorf("the handoff that went on with %d programs has read %d times", many, n)
	}
	y.stop(0)
}
