package upgrade

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// many is how many programs there are, each with a record of its own.
const many = 100

// All programs go on as the processes that they are, and follow their files after an
// upgrade as before.
func TestManyProgramsGoOnOverUpgrades(t *testing.T) {
	t.Parallel()
	box.NeedNamespace(t)
	hotinit(t, newer)
	dir := t.TempDir()
	put := func(n int) {
		t.Helper()
		text := "HOTINIT_COMMAND=/bin/sleep 1000000\nHOTINIT_READY=interval\nHOTINIT_INTERVAL=1ms\n"
		path := filepath.Join(dir, fmt.Sprintf("p%d.env", n))
		err := os.WriteFile(path+".new", []byte(text), 0o644)
		if err == nil {
			err = os.Rename(path+".new", path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for n := range many {
		put(n)
	}
	b := box.Start(t, box.Options{Binary: hotinit(t, older), Args: []string{"--programs", dir}})
	s := &site.Site{Box: b, T: t}
	sleeping := func() (pids []int) {
		for _, p := range s.Processes() {
			if len(p.Args) == 2 && p.Args[1] == "1000000" && !p.Zombie() {
				pids = append(pids, p.PID)
			}
		}
		slices.Sort(pids)
		return pids
	}
	s.Until("all programs run", func() bool { return len(sleeping()) == many })
	before := sleeping()
	for _, version := range []string{newer, older} {
		if status, text := s.Ask("upgrade", hotinit(t, version)); status != 0 {
			t.Fatalf("%s\noutput:\n%s", text, s.Output)
		}
		if got := sleeping(); !slices.Equal(got, before) {
			t.Errorf("the programs were processes %v, and are %v\noutput:\n%s", before, got, s.Output)
		}
	}
	put(many)
	s.Until("one more runs", func() bool { return len(sleeping()) == many+1 })
	if err := os.Remove(filepath.Join(dir, "p0.env")); err != nil {
		t.Fatal(err)
	}
	s.Until("one less runs", func() bool { return len(sleeping()) == many })
	s.Signal(unix.SIGTERM)
	s.Wait()
}
