package swap

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/box"
	"github.com/hotinit/hotinit/internal/testkit/site"
)

// notifying is a site with a script that speaks by systemd-notify.
func notifying(t *testing.T, flags []string, script string) *site.Site {
	t.Helper()
	site.Need(t, "systemd-notify")
	return site.Open(t, site.Options{Flags: append([]string{"--ready", "notify"}, flags...), Script: script})
}

// By default systemd-notify waits until hotinit has closed the descriptor that
// comes with BARRIER=1.
func TestNotifyReadyAndBarrier(t *testing.T) {
	s := notifying(t, nil, "systemd-notify --ready\necho told\nexec sleep 1000")
	s.Line("^told$")
	s.Becomes(1, "current")
}

func TestNotifyStatusIsShown(t *testing.T) {
	s := notifying(t, nil, "systemd-notify --ready --status='warming the cache'\nexec sleep 1000")
	s.Becomes(1, "current")
	if g := s.Generation(1); g.Text != "warming the cache" {
		t.Errorf("the text is %q", g.Text)
	}
}

func TestNotifyReloadingAndStoppingAreShown(t *testing.T) {
	for _, word := range []string{"reloading", "stopping"} {
		t.Run(word, func(t *testing.T) {
			s := notifying(t, nil, "systemd-notify --ready\nsystemd-notify "+strings.ToUpper(word)+"=1\nexec sleep 1000")
			s.Until("the status says so", func() bool {
				g := s.Generation(1)
				return g != nil && g.Text == word
			})
		})
	}
}

// The first process ends, and hotinit goes by the one that it named.
func TestNotifyMainPIDChangesWhoseEndCounts(t *testing.T) {
	s := notifying(t, nil, `
(trap 'exit 23' TERM; echo trapped; sleep 1000 & wait) &
echo "main $! first $$"
mkfifo gate; echo made; read line <gate
systemd-notify --ready MAINPID=$!
exit 0`)
	pids := s.Line(`^main (\d+) first (\d+)$`)
	s.Line("^made$")
	s.Write("gate", "go\n")
	s.Until("the status names the other process", func() bool {
		g := s.Generation(1)
		return g != nil && strconv.Itoa(g.PID) == pids[1]
	})
	first, _ := strconv.Atoi(pids[2])
	s.Until("the first process is gone", func() bool {
		_, ok := s.Find(first)
		return !ok
	})
	s.KillHandoff()
	s.Becomes(1, "current")
	s.Stop(23)
}

func TestNotifyExtendsTheTimeout(t *testing.T) {
	s := notifying(t, []string{"--ready-timeout", "4s"}, `
systemd-notify EXTEND_TIMEOUT_USEC=600000000
sleep 5
systemd-notify --ready
exec sleep 1000`)
	s.Becomes(1, "current")
	s.Never("ready-timeout")
}

func TestNotReadyInTimeIsRejectedAndTheReasonKept(t *testing.T) {
	s := notifying(t, []string{"--ready-timeout", "3s"}, `
[ "$HOTINIT_GENERATION" = 1 ] && systemd-notify --ready
exec sleep 1000`)
	s.Becomes(1, "current")
	status, text := s.Ask("reload", "--wait")
	if status != 1 || !strings.Contains(text, "it did not say READY=1 in time") {
		t.Errorf("reload --wait: %d: %s", status, text)
	}
	if st := s.Status(); !strings.Contains(st.Reason, "it did not say READY=1 in time (--ready-timeout)") {
		t.Errorf("the reason in the status is %q", st.Reason)
	}
	if g := s.Generation(1); g == nil || g.Phase != "current" {
		t.Errorf("generation 1 does not serve any more: %+v", g)
	}
}

func TestAWatchdogThatIsNotToldReplacesTheGeneration(t *testing.T) {
	s := notifying(t, []string{"--watchdog", "2s", "--on-exit", "restart"}, `
echo "usec $WATCHDOG_USEC"
systemd-notify --ready
exec sleep 1000`)
	s.Line("^usec 2000000$")
	s.Line("generation 1 did not tell its watchdog")
	s.Becomes(2, "current")
}

func TestAWatchdogThatIsToldStays(t *testing.T) {
	s := notifying(t, []string{"--watchdog", "20s"}, `
systemd-notify --ready
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 2; systemd-notify WATCHDOG=1; done
echo "beyond the watchdog's time"
exec sleep 1000`)
	s.Line("beyond")
	s.Becomes(1, "current")
	s.Never("did not tell its watchdog")
}

// A stranger's READY=1 counts for nothing. That it was read is told by the
// barrier behind it.
func TestAStrangerIsNotBelieved(t *testing.T) {
	s := notifying(t, nil, "echo \"socket $NOTIFY_SOCKET\"\nexec sleep 1000")
	address := s.Line(`^socket (\S+)$`)[1]
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	to := &unix.SockaddrUnix{Name: address}
	if err := unix.Sendto(fd, []byte("READY=1"), 0, to); err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendmsg(fd, []byte("BARRIER=1"), unix.UnixRights(int(write.Fd())), to, 0); err != nil {
		t.Fatal(err)
	}
	write.Close()
	if _, err := read.Read(make([]byte, 1)); err == nil {
		t.Fatal("somebody wrote to the barrier")
	}
	if g := s.Generation(1); g == nil || g.Phase != "candidate" {
		t.Errorf("generation 1 is %+v", g)
	}
}

func TestAnOldGenerationDoesNotSpeakForTheNewOne(t *testing.T) {
	s := notifying(t, nil, `
if [ "$HOTINIT_GENERATION" = 1 ]; then
	mkfifo gate
	systemd-notify --ready
	read line <gate
	systemd-notify --ready
	echo "said again"
fi
echo "begun $HOTINIT_GENERATION"
exec sleep 1000`)
	s.Becomes(1, "current")
	s.Signal(unix.SIGHUP)
	s.Line("^begun 2$")
	s.Write("gate", "go\n")
	s.Line("^said again$")
	if g := s.Generation(2); g == nil || g.Phase != "candidate" {
		t.Errorf("generation 2 is %+v", g)
	}
}

func TestReadyByDescriptor(t *testing.T) {
	s := site.Open(t, site.Options{Flags: []string{"--ready", "fd:7"}, Script: `
mkfifo gate
echo begun
read line <gate
printf 'not yet' >&7
echo >&7
exec sleep 1000`})
	s.Line("^begun$")
	if g := s.Generation(1); g == nil || g.Phase != "candidate" {
		t.Errorf("generation 1 is %+v", g)
	}
	s.Write("gate", "go\n")
	s.Becomes(1, "current")
}

func TestReadyByCommand(t *testing.T) {
	s := site.Open(t, site.Options{
		// The command knows whom it is asked about.
		Flags:  []string{"--ready", `exec:sh -c 'test -e up && test "$HOTINIT_READY_GENERATION" = 1 && test "$(cat pid)" = "$HOTINIT_READY_PID"'`},
		Script: "echo $$ >pid; echo begun; exec sleep 1000"})
	s.Line("^begun$")
	if g := s.Generation(1); g == nil || g.Phase != "candidate" {
		t.Errorf("generation 1 is %+v", g)
	}
	s.Write("up", "")
	s.Becomes(1, "current")
}

func TestReadyByAccept(t *testing.T) {
	for name, server := range map[string]string{
		"epoll": "",
		"accept": `use Socket; open(my $s, "+<&=3") or die; print "begun\n"; $|=1;
			sleep 1 until -e "up"; accept(my $c, $s) while 1;`,
		"select": `use Socket; open(my $s, "+<&=3") or die; print "begun\n"; $|=1;
			select(undef, undef, undef, 0.1) until -e "up"; my $r = ""; vec($r, 3, 1) = 1; select(my $x = $r, undef, undef, undef); sleep 1000`,
	} {
		t.Run(name, func(t *testing.T) {
			o := site.Options{Flags: []string{"--ready", "accept", "--interval", "1h"}}
			if server == "" {
				o.App = []string{"-ready", "never"}
			} else {
				site.Need(t, "perl")
				o.Command = []string{"perl", "-e", server}
			}
			s := site.Open(t, o)
			if server != "" {
				s.Becomes(1, "candidate")
				s.Write("up", "")
			}
			s.Becomes(1, "current")
		})
	}
}

func TestOneThatNeverAcceptsIsNotReady(t *testing.T) {
	s := site.Open(t, site.Options{Flags: []string{"--ready", "accept", "--interval", "0", "--ready-timeout", "3s"}, Script: "exec sleep 1000"})
	s.Line(`generation 1 failed.*: it did not wait for connections in time \(--ready-timeout\)`)
	s.Ends(137)
}

// What may be executed and not read shows nobody but root what it has open.
func TestReadyByAcceptFallsBackToTheIntervalAndSaysSo(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become another user")
	}
	site.Need(t, "sleep")
	s := site.Open(t, site.Options{
		Sub: true, UID: 65534, Flags: []string{"--ready", "accept", "--interval", "100ms"}, Command: []string{"./app", "1000"},
		Prepare: func(s *site.Site) {
			s.Enter()
			path, err := exec.LookPath("sleep")
			if err != nil {
				t.Fatal(err)
			}
			binary, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(s.File("app"), binary, 0o711)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
	})
	s.Line(`whether generation 1 waits for connections cannot be told \(process \d+: its descriptors cannot be read: permission denied\); as long as that is so, generations count as ready after 100ms`)
	s.Becomes(1, "current")
}

func TestWhoStartedHotinitIsToldThatItIsReady(t *testing.T) {
	path := t.TempDir() + "/notify"
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	s := site.Serving(t, site.Options{Env: []string{"NOTIFY_SOCKET=" + path}})
	buf := make([]byte, 64)
	for _, want := range []string{"READY=1", "STOPPING=1"} {
		n, err := unix.Read(fd, buf)
		if err != nil || string(buf[:n]) != want {
			t.Errorf("%q, %v, want %q", buf[:n], err, want)
		}
		if want == "READY=1" {
			s.Signal(unix.SIGTERM)
		}
	}
	s.Ends(0)
}

// What an app says to the manager above goes there, and it is told what the
// manager expects.
func TestTheManagersWatchdogIsTheApps(t *testing.T) {
	site.Need(t, "systemd-notify")
	path := t.TempDir() + "/notify"
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	s := site.Open(t, site.Options{
		Env: []string{"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=30000000"},
		Script: `[ "$WATCHDOG_USEC" = 30000000 ] && [ "$WATCHDOG_PID" = $$ ] && systemd-notify --ready
			systemd-notify --status "all is well"; systemd-notify WATCHDOG=1; exec sleep 1000`,
		Flags: []string{"--ready", "notify"},
	})
	buf := make([]byte, 64)
	for _, want := range []string{"READY=1", "STATUS=all is well", "WATCHDOG=1"} {
		n, err := unix.Read(fd, buf)
		if err != nil || string(buf[:n]) != want {
			t.Errorf("%q, %v, want %q", buf[:n], err, want)
		}
	}
	s.Stop(128 + 15)
}

// Both hotinits have a generation 1: the outer one's ends, the inner one's, below
// the outer one's second, does not.
func TestANestedHotinitsGenerationIsNotTakenForTheOuters(t *testing.T) {
	s := site.Open(t, site.Options{
		NoPort: true,
		Flags:  []string{"--interval", "0", "--no-watch"},
		Prepare: func(s *site.Site) {
			s.Write("app", `trap 'echo "app $OUTER is told"; until [ -e end ]; do sleep 0.02; done; exit' TERM
				trap 'echo "app $OUTER is asked"' USR1
				echo "app $OUTER is up"; while :; do sleep 1000 & wait $!; kill $!; done`)
			s.Write("inner", "#!/bin/sh\nOUTER=$HOTINIT_GENERATION exec "+box.Hotinit+" --no-watch --interval 0 -- sh app\n")
		},
		Command: []string{"sh", "inner"},
	})
	s.Line("^app 1 is up$")
	s.Signal(unix.SIGHUP)
	s.Line("^app 2 is up$")
	s.Write("end", "")
	s.Until("generation 1 of the outer one is gone, with all that was of it", func() bool {
		return len(s.Status().Generations) == 1
	})
	s.Signal(unix.SIGUSR1) // comes behind a SIGTERM, if there was one
	s.Line("^app 2 is asked$")
	s.Never("app 2 is told")
	s.Signal(unix.SIGTERM)
	s.Wait()
}
