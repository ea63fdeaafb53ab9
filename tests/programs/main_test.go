// Package programs tests several programs by files, from end to end: a real hotinit
// as PID 1 with --programs, whose files are written, changed, broken and removed
// while the handoff is killed.
package programs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

func TestMain(m *testing.M) { box.Main(m) }

// yard is a hotinit with a directory of programs.
type yard struct {
	*box.Box
	t      *testing.T
	dir    string   // of everything
	server string   // the test application
	sub    bool     // hotinit is not PID 1
	under  []string // the command that executes hotinit, if any
}

// open starts hotinit with these files, each NAME followed by its lines.
func open(t *testing.T, files map[string]string, flags ...string) *yard {
	t.Helper()
	y := lay(t, files)
	y.start(flags...)
	return y
}

// lay writes the files of a hotinit that start starts.
func lay(t *testing.T, files map[string]string) *yard {
	t.Helper()
	t.Parallel()
	box.NeedNamespace(t)
	y := &yard{t: t, dir: t.TempDir()}
	y.server = filepath.Join(y.dir, "server")
	box.Install(t, y.server, "v1")
	if err := os.Mkdir(filepath.Join(y.dir, "programs"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		y.write(name, text)
	}
	return y
}

func (y *yard) start(flags ...string) {
	y.t.Helper()
	o := box.Options{Args: append([]string{"--settle", "50ms", "--programs", "programs"}, flags...), Dir: y.dir, Sub: y.sub}
	if len(y.under) > 0 {
		o.Binary, o.Name = y.under[0], filepath.Base(y.under[0])
		o.Args = slices.Concat(y.under[1:], []string{box.Hotinit}, o.Args)
	}
	y.Box = box.Start(y.t, o)
}

func (y *yard) path(name string) string {
	return filepath.Join(y.dir, "programs", name+".env")
}

// write replaces a program's file. SERVER in it is the test application.
func (y *yard) write(name, text string) {
	y.t.Helper()
	text = strings.ReplaceAll(text, "SERVER", y.server)
	temporary := filepath.Join(y.dir, ".new-"+name)
	if err := os.WriteFile(temporary, []byte(text), 0o644); err != nil {
		y.t.Fatal(err)
	}
	if err := os.Rename(temporary, y.path(name)); err != nil {
		y.t.Fatal(err)
	}
}

func (y *yard) remove(name string) {
	y.t.Helper()
	if err := os.Remove(y.path(name)); err != nil {
		y.t.Fatal(err)
	}
}

// closes waits until nothing listens at an address.
func (y *yard) closes(address string) {
	y.t.Helper()
	y.Until("the socket "+address+" is closed", func() bool {
		refused, err := box.Refused(address)
		return err == nil && refused
	})
}

// stop ends hotinit, which has to end with this status.
func (y *yard) stop(status int) {
	y.t.Helper()
	y.Signal(15)
	if got := y.Wait(); got != status {
		y.t.Errorf("hotinit ended with %d, want %d; output:\n%s", got, status, y.Output)
	}
}

// serves is the file of a server at an address, with more lines.
func serves(address string, more ...string) string {
	return fmt.Sprintf("HOTINIT_COMMAND=SERVER\nHOTINIT_PORTS=%s\n%s\n", address, strings.Join(more, "\n"))
}
