package swap

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

const stranger = 65534

// besieged makes a directory for an app that does not run as root and attacks:
// it owns the directory data, with the directories data/sub and data/env. Of
// root are the file secret and the directory root, with the file server in it.
func besieged(s *site.Site) {
	if os.Getuid() != 0 {
		s.T.Skip("only root can start an app as another user")
	}
	s.Enter()
	for _, name := range []string{"data", "data/sub", "data/env"} {
		if err := os.Mkdir(s.File(name), 0o755); err != nil {
			s.T.Fatal(err)
		}
		if err := os.Chown(s.File(name), stranger, stranger); err != nil {
			s.T.Fatal(err)
		}
	}
	s.Write("secret", "secret\n")
	s.Write("root/server", "of root\n")
	for _, name := range []string{"secret", "root/server"} {
		if err := os.Chmod(s.File(name), 0o600); err != nil {
			s.T.Fatal(err)
		}
	}
}

// besiege returns a site in which nothing runs yet.
func besiege(t *testing.T) *site.Site {
	t.Parallel()
	s := &site.Site{T: t, Dir: t.TempDir()}
	besieged(s)
	return s
}

// attack runs a shell script as an app without privileges, to its end.
func attack(s *site.Site, script string) {
	s.T.Helper()
	status, text := s.Hotinit("hotinit", "--user", strconv.Itoa(stranger), "--", "sh", "-ec", script)
	if status != 0 {
		s.T.Fatalf("the attack cannot be made: status %d\n%s", status, text)
	}
}

// fails runs hotinit, which must not start an app.
func fails(s *site.Site, why string, flags ...string) {
	s.T.Helper()
	status, text := s.Hotinit("hotinit", append(flags, "--user", strconv.Itoa(stranger), "--", "true")...)
	if status != 125 || !strings.Contains(text, why) {
		s.T.Errorf("status %d, want 125 and %q:\n%s", status, why, text)
	}
	unharmed(s)
}

// unharmed checks that what is root's is as it was.
func unharmed(s *site.Site) {
	s.T.Helper()
	for name, text := range map[string]string{"secret": "secret\n", "root/server": "of root\n"} {
		st, err := os.Lstat(s.File(name))
		if err != nil || st.Mode() != 0o600 || st.Sys().(*syscall.Stat_t).Uid != 0 {
			s.T.Errorf("%s: %v %v", name, st, err)
		}
		if got := s.Read(name); got != text {
			s.T.Errorf("%s has %q", name, got)
		}
	}
	if names, err := os.ReadDir(s.File("root")); err != nil || len(names) != 1 {
		s.T.Errorf("in root's directory are %v, %v", names, err)
	}
}

const aLink = "is a symbolic link in a directory in which others than root can make one"

func TestTheAppCannotLeadTheLogFileElsewhere(t *testing.T) {
	s := site.Open(t, site.Options{
		Flags:   []string{"--user", "65534", "--log-file", "data/log", "--interval", "0"},
		Prepare: besieged,
		Script: `[ $HOTINIT_GENERATION = 1 ] && ln -s ../secret data/link && mv -T data/link data/log
			echo "generation $HOTINIT_GENERATION is here"; exec sleep 1000`,
	})
	// The file that is written has no name any more.
	logged := func(text string) {
		t.Helper()
		s.Until(text+" is in the log", func() bool {
			b, _ := os.ReadFile("/proc/" + strconv.Itoa(s.PID()) + "/fd/1")
			return strings.Contains(string(b), text)
		})
	}
	logged("generation 1 is here")
	s.Signal(unix.SIGHUP)
	logged("generation 2 is here")
	logged("data/log " + aLink + ", user 65534 for one (name the path that it leads to); the one that was open is written on")
	unharmed(s)
	s.Stop(128 + 15)
	fails(s, "data/log "+aLink, "--log-file", "data/log")
}

func TestTheAppCannotLeadThePidFileElsewhere(t *testing.T) {
	s := besiege(t)
	attack(s, "ln -s ../secret data/pid; rmdir data/sub; ln -s ../root data/sub; mkfifo data/fifo")
	fails(s, "data/pid "+aLink, "--pid-file", "data/pid")
	fails(s, "data/sub "+aLink, "--pid-file", "data/sub/server")
	fails(s, "data/fifo is not a regular file", "--pid-file", "data/fifo")
}

// The machine may forbid the app to make one (fs.protected_hardlinks), so the
// test makes it.
func TestAHardLinkIsNotWrittenTo(t *testing.T) {
	s := besiege(t)
	if err := os.Link(s.File("secret"), s.File("data/file")); err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"--pid-file", "--log-file"} {
		fails(s, "data/file has another name elsewhere (a hard link)", flag, "data/file")
	}
}

// root would signal whatever process the app names.
func TestThePidFileOfTheAppNamesOnlyItsOwnProcesses(t *testing.T) {
	s := besiege(t)
	victim := exec.Command("sleep", "1000")
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { victim.Process.Kill(); victim.Wait() }()
	attack(s, "echo "+strconv.Itoa(victim.Process.Pid)+" >data/pid; echo 1:1 >data/status")
	for _, action := range []string{"--stop", "--restart"} {
		status, text := s.Hotinit("start_server", action, "--pid-file", "data/pid", "--status-file", "data/status")
		if want := "belongs to user 65534, and process " + strconv.Itoa(victim.Process.Pid) + " does not"; status == 0 || !strings.Contains(text, want) {
			t.Errorf("%s: status %d, want %q: %s", action, status, want, text)
		}
	}
	if err := victim.Process.Signal(syscall.Signal(0)); err != nil {
		t.Error(err)
	}
}

func TestTheAppCannotLeadTheStatusFileElsewhere(t *testing.T) {
	s := site.Open(t, site.Options{
		Flags: []string{"--user", "65534", "--status-file", "data/sub/status", "--interval", "0"},
		Prepare: func(s *site.Site) {
			besieged(s)
			attack(s, "rmdir data/sub; ln -s ../root data/sub")
		},
		Script: `echo "$HOTINIT_GENERATION is here"; exec sleep 1000`,
	})
	s.Line("cannot write --status-file .*data/sub " + aLink)
	s.Stop(128 + 15)
	unharmed(s)
}

func TestTheAppCannotLeadASocketElsewhere(t *testing.T) {
	s := besiege(t)
	attack(s, "rmdir data/sub; ln -s ../root data/sub; ln -s ../secret data/link")
	fails(s, "data/sub "+aLink, "--port", "unix:data/sub/server,mode=0777,user=65534")
	fails(s, "there is a file that is not a socket", "--port", "unix:data/link,mode=0777,user=65534")
}

// A socket in the app's own directory works as everywhere.
func TestASocketInADirectoryOfTheAppHasItsModeAndOwner(t *testing.T) {
	s := site.Open(t, site.Options{
		Flags:   []string{"--user", "65534", "--port", "unix:data/sock,mode=0640,user=65534"},
		Prepare: besieged, NoPort: true,
		Script: `echo "$SERVER_STARTER_PORT"; exec sleep 1000`,
	})
	s.Line("^data/sock=3$")
	st, err := os.Lstat(s.File("data/sock"))
	if err != nil || st.Mode() != os.ModeSocket|0o640 || st.Sys().(*syscall.Stat_t).Uid != stranger {
		t.Errorf("%v %v", st, err)
	}
	s.Stop(128 + 15)
	if _, err := os.Lstat(s.File("data/sock")); err == nil {
		t.Error("its file is left")
	}
}

func TestTheAppCannotReadByTheEnvdirWhatIsRoots(t *testing.T) {
	s := site.Open(t, site.Options{
		Flags:   []string{"--user", "65534", "--envdir", "data/env", "--interval", "0"},
		Prepare: besieged,
		Script: `if [ $HOTINIT_GENERATION = 1 ]; then mkfifo data/env/FIFO; else ln -s ../../secret data/env/STOLEN; fi
			echo "$HOTINIT_GENERATION is here ${STOLEN-unset}"; exec sleep 1000`,
	})
	s.Line("^1 is here unset$")
	s.Signal(unix.SIGHUP) // the FIFO holds nobody up
	s.Line("generation 2 is ready")
	s.Until("it has made the link", func() bool { _, err := os.Lstat(s.File("data/env/STOLEN")); return err == nil })
	s.Signal(unix.SIGHUP)
	s.Line("cannot read variable STOLEN of --envdir: .*" + aLink)
	unharmed(s)
}

// Root copies into a directory of the app's, who moves the copy's directory
// away and puts a link to root's in its place, as fast as it can.
func TestTheAppCannotLeadTheSnapshotElsewhere(t *testing.T) {
	s := site.Open(t, site.Options{
		Flags: []string{"--user", "65534", "--snapshot", "--snapshot-dir", "data", "--probation", "0"},
		Prepare: func(s *site.Site) {
			besieged(s)
			attacker := exec.Command("sh", "-c", `cd data; while [ -d /proc/$PPID ]; do for d in .hotinit-*; do
				[ -d "$d" ] && mv "$d" gone && ln -s ../root "$d" && echo done; rm -rf gone; done; done`)
			attacker.Dir = s.Dir
			attacker.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
			if err := attacker.Start(); err != nil {
				s.T.Fatal(err)
			}
			s.T.Cleanup(func() { attacker.Process.Kill(); attacker.Wait() })
		},
	})
	s.Answers("v1 generation 1 ")
	for n := 2; n < 8; n++ {
		version := "v" + strconv.Itoa(n)
		s.Swap(version)
		s.Answers(version + " ")
	}
	unharmed(s)
	attackDir(s)
}

// attackDir checks that a link in the place of --snapshot-dir is refused.
func attackDir(s *site.Site) {
	s.T.Helper()
	attack(s, "ln -s ../root data/copies")
	status, text := s.Hotinit("hotinit", "--snapshot", "--snapshot-dir", "data/copies", "--user", "65534", "--", box.App, "-exit", "0")
	if status != 125 || !strings.Contains(text, filepath.Join(s.Dir, "data/copies")+" "+aLink) {
		s.T.Errorf("status %d: %s", status, text)
	}
	unharmed(s)
}

// The copy of a directory is written, and found by the app, by its path. So it is
// made only where the app cannot put a link in its place.
func TestTheAppCannotLeadTheCopyOfADirectoryElsewhere(t *testing.T) {
	s := besiege(t)
	s.Write("app/main.sh", "echo it runs in $0\n")
	copyIn := func(dir string) (int, string) {
		return s.Hotinit("hotinit", "--snapshot", "--snapshot-dir", dir, "--watch", "app", "--user", strconv.Itoa(stranger), "--", "sh", s.File("app/main.sh"))
	}
	status, text := copyIn("data")
	if want := "others than root and hotinit's own user may rename what is in " + s.File("data"); status != 125 || !strings.Contains(text, want) {
		t.Errorf("status %d, want 125 and %q:\n%s", status, want, text)
	}
	status, text = copyIn(".")
	if want := "it runs in " + s.File(".hotinit-copy-"); status != 0 || !strings.Contains(text, want) {
		t.Errorf("status %d, want 0 and %q:\n%s", status, want, text)
	}
	unharmed(s)
}

// What only root can arrange is followed.
func TestTheOperatorsLinksWorkForEachPath(t *testing.T) {
	s := site.Open(t, site.Options{
		Flags: []string{"--user", "65534", "--log-file", "current/log", "--pid-file", "current/pid", "--status-file", "current/status",
			"--envdir", "current/env", "--path", "current/sock"},
		Prepare: func(s *site.Site) {
			besieged(s)
			s.Write("data/env/NAME", "value\n")
			s.Link("data", "current")
		},
		Script: `echo "NAME is $NAME"; exec sleep 1000`,
	})
	s.Contains("data/log", "NAME is value")
	for _, name := range []string{"data/pid", "data/status", "data/sock"} {
		s.Until(name+" is there", func() bool { _, err := os.Lstat(s.File(name)); return err == nil })
	}
	s.Stop(128 + 15)
}

func TestTheLogFileMayBeStandardOutput(t *testing.T) {
	s := site.Open(t, site.Options{Flags: []string{"--log-file", "/dev/stdout"}, Script: `echo here; exec sleep 1000`})
	s.Line("^here$")
	s.Stop(128 + 15)
}

func TestTheAppCannotLeadASocketThatIsPutBackElsewhere(t *testing.T) {
	s := site.Open(t, site.Options{
		Flags:   []string{"--user", strconv.Itoa(stranger), "--interval", "100ms", "--listen", "unix:data/app.sock,mode=0600"},
		Prepare: besieged,
		Command: []string{"sh", "-c", `
cd data
until [ -L app.sock ] && [ -L .app.sock.hotinit ]; do # hotinit may be faster
	rm -f app.sock
	ln -s ../secret app.sock
	ln -sf ../root/server .app.sock.hotinit
done
ln -sf ../secret .app.sock.hotinit.new
mkfifo .app.sock.hotinit.new.new
exec sleep 1000`},
	})
	// The app has removed the second name as well.
	s.Line(`^hotinit: the socket file \S+/data/app.sock was replaced by another file and cannot be put back: no name of the file is left`)
	unharmed(s)
	if st, err := os.Lstat(s.File("data/app.sock")); err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Errorf("app.sock is %v (%v)", st, err)
	}
	s.Stop(143)
	unharmed(s)
}

func TestALinkInTheWayOfASocketThatIsPutBackIsReplaced(t *testing.T) {
	s := site.Open(t, site.Options{
		Flags:   []string{"--user", strconv.Itoa(stranger), "--interval", "100ms", "--listen", "unix:data/app.sock,mode=0600"},
		Prepare: besieged,
		Command: []string{"sh", "-c", `
cd data
until ln -s ../secret app.sock; do # hotinit may be faster
	rm -f app.sock
done
exec sleep 1000`},
	})
	s.Line(`^hotinit: the socket file \S+/data/app.sock was replaced by another file; it was put back`)
	unharmed(s)
	if st, err := os.Lstat(s.File("data/app.sock")); err != nil || st.Mode() != os.ModeSocket|0o600 {
		t.Errorf("app.sock is %v (%v)", st, err)
	}
	s.Stop(143)
	unharmed(s)
}
