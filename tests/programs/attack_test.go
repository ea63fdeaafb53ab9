package programs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

// The app may write to the directory: what it puts there is not started as root, not
// by the next handoff either, and what runs runs on.
func TestWhatTheAppCanWriteIsNoProgram(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root has something to lose")
	}
	a, b := box.Address(), box.Address()
	y := open(t, map[string]string{"web": serves(a)})
	y.Answers(a, "v1 generation 1 ")
	dir := filepath.Join(y.dir, "programs")
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	y.write("evil", serves(b))
	y.Line("cannot read --programs .* can be written to by others than root.*; the programs stay as they are")
	y.KillHandoff()
	y.Line("cannot read --programs .*; the programs stay as they are")
	y.Answers(a, "v1 generation 1 ")
	if refused, err := box.Refused(b); err != nil || !refused {
		t.Error("the program of the app's file was started:", err)
	}
	y.remove("evil")
	if err := os.Chown(dir, 0, 0); err != nil {
		t.Fatal(err)
	}
	y.write("web", serves(a, "A=2"))
	y.Answers(a, "v1 generation 2 ")
	y.stop(0)
}

// The directory does not answer when a handoff takes over: what runs runs on, and
// hotinit can be stopped.
func TestAHandoffThatCannotReadTheProgramsGoesOn(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, y *yard){
		"it does not answer": func(t *testing.T, y *yard) { y.Freeze(t, filepath.Join(y.dir, "programs")) },
		"it is gone": func(t *testing.T, y *yard) {
			y.Until("the directory is moved away", func() bool {
				return unix.Rename(filepath.Join(y.dir, "programs"), filepath.Join(y.dir, "moved")) == nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := box.Address()
			y := open(t, map[string]string{"web": serves(a)})
			y.Line("web: generation 1 is ready")
			pid := y.GivenTo(a, 1).PID
			lose(t, y)
			y.KillHandoff()
			y.Line("cannot read --programs .*; the programs stay as they are")
			if got := y.GivenTo(a, 1).PID; got != pid {
				t.Errorf("the program was started again: PID %d, before %d", got, pid)
			}
			y.stop(0)
		})
	}
}

// The directory of the program's own log file is the program's: it makes a link to what
// is root's there.
func TestAProgramCannotLeadItsLogFileElsewhere(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root has something to lose")
	}
	y := open(t, nil)
	data, secret := filepath.Join(y.dir, "data"), filepath.Join(y.dir, "secret")
	for _, err := range []error{os.Mkdir(data, 0o755), os.Chown(data, 65534, 65534), os.WriteFile(secret, []byte("root's"), 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for dir := y.dir; strings.Contains(dir, "/Test"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	own := []string{"HOTINIT_USER=65534", "HOTINIT_LOG_FILE=data/log", "HOTINIT_INTERVAL=0"}
	y.write("web", says("echo mine; cd "+data+"; rm log; ln -s ../secret log", own...))
	y.Until("the link is there", func() bool { _, err := os.Readlink(filepath.Join(data, "log")); return err == nil })
	y.write("web", says("echo yours", own...))
	y.Line("web: generation 2 failed .*: cannot open HOTINIT_LOG_FILE .*data/log is a symbolic link")
	y.stop(0)
	if got := y.read("secret"); got != "root's" {
		t.Errorf("what is root's has %q", got)
	}
}
