package upgrade

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// TestNoChangedFileIsMissedWhenTheHandoffIsLost changes the files of all programs while
// the handoff is gone, and kills the next one after each of the first records that it
// sends: what it has taken in of the files, and not done yet, is done by the one after.
func TestNoChangedFileIsMissedWhenTheHandoffIsLost(t *testing.T) {
	t.Parallel()
	box.NeedNamespace(t)
	const programs = 4
	dir := t.TempDir()
	f := faults{filepath.Join(dir, "fault")}
	if err := os.Mkdir(filepath.Join(dir, "programs"), 0o755); err != nil {
		t.Fatal(err)
	}
	next := 1000000
	write := func() (want []string) {
		for i := range programs {
			next++
			name := filepath.Join(dir, "programs", fmt.Sprintf("p%d.env", i))
			text := fmt.Sprintf("HOTINIT_COMMAND=sleep %d\nHOTINIT_INTERVAL=1ms\nHOTINIT_PROBATION=0\n", next)
			err := os.WriteFile(name+".new", []byte(text), 0o644)
			if err == nil {
				err = os.Rename(name+".new", name)
			}
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, fmt.Sprint(next))
		}
		return want
	}
	want := write()
	b := box.Start(t, box.Options{Binary: hotinit(t, older), Dir: dir,
		Args: []string{"--settle", "50ms", "--programs", "programs"}, Env: box.Environment("_HOTINIT_FAULT=" + f.path)})
	same := func(what string) {
		t.Helper()
		b.Until(what, func() bool {
			var got []string
			for _, p := range b.Processes() {
				if len(p.Args) == 2 && p.Args[0] == "sleep" && !p.Zombie() {
					got = append(got, p.Args[1])
				}
			}
			slices.Sort(got)
			return slices.Equal(got, want)
		})
	}
	same("the programs run")
	for nth := 1; nth <= 4*programs; nth++ {
		lost := b.Handoff().PID
		b.SignalTo(lost, unix.SIGSTOP)
		want = write()
		f.set(t, older, "effect.after.send", "kill", fmt.Sprint(nth))
		b.SignalTo(lost, unix.SIGKILL)
		same(fmt.Sprintf("each program runs as its file says, though the handoff was killed after %d records", nth))
		if !f.fired() {
			t.Fatalf("no handoff sent %d records\noutput:\n%s", nth, b.Output)
		}
	}
	b.Signal(unix.SIGTERM)
	if code := b.Wait(); code != 0 {
		t.Errorf("exit status %d\noutput:\n%s", code, b.Output)
	}
}
