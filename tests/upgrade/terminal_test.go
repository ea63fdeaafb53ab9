package upgrade

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// As docker run -it: hotinit leads a session with a terminal, and the app has its
// foreground. Keys and Ctrl-C reach the app after an upgrade as before.
func TestATerminalStaysWithTheAppOverAnUpgrade(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("there are no pseudo-terminals:", err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	output := box.NewLines()
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(output, master)
		output.End()
	}()
	t.Cleanup(func() {
		_ = slave.Close()
		<-read
		_ = master.Close()
	})
	box.NeedNamespace(t)
	hotinit(t, newer)
	b := box.Start(t, box.Options{
		Binary: hotinit(t, older), Stdin: slave,
		Args: []string{"--", "sh", "-c", `trap 'echo interrupted; exit 5' INT; echo begun; while read line; do echo "read $line"; done`},
		Attr: func(a *syscall.SysProcAttr) { a.Setsid, a.Setctty, a.Ctty = true, true, 0 },
	})
	s := &site.Site{Box: b, T: t}
	press := func(keys string) {
		t.Helper()
		if _, err := master.WriteString(keys); err != nil {
			t.Fatal(err)
		}
	}
	s.Line("^begun$")
	press("one\n")
	s.Line("^read one$")
	upgrade(t, s, newer)
	press("two\n")
	s.Line("^read two$")
	rejected(t, s, stranger(t, "ends"), "ended before it acted", newer)
	press("three\n")
	s.Line("^read three$")
	press("\x03")
	s.Line("^interrupted$")
	s.Ends(5)
}
