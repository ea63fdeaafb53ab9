package swap

import (
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/testkit/site"
)

// teller is a Perl script that sends its arguments to NOTIFY_SOCKET, a datagram
// each, after it has joined the process group of its first argument, 0 for none. It
// says so and stays, so that it can be looked at, but where END is set.
const teller = `use Socket; $SIG{PIPE} = 'IGNORE';
my ($group, @texts) = @ARGV;
if ($group) { setpgrp(0, $group) or die "cannot join group $group: $!" }
(my $path = $ENV{NOTIFY_SOCKET}) =~ s/^@/\0/;
socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die $!;
for (@texts) {
	s/\\x([0-9a-f]{2})/chr(hex($1))/ge;
	send($s, $_, 0, pack_sockaddr_un($path)) or die "cannot send: $!";
}
exit if $ENV{END};
print "told in group $group\n";
close STDOUT;
sleep 1000;
`

// telling is a site whose script finds teller as "tell".
func telling(t *testing.T, o site.Options) *site.Site {
	t.Helper()
	site.Need(t, "perl")
	o.Prepare = func(s *site.Site) { s.Write("tell", teller) }
	return site.Open(t, o)
}

// A process of the old generation may join the candidate's process group. It
// still cannot say READY=1 for it, neither below its own generation's main process
// nor as an orphan.
func TestAnOlderProcessInTheCandidatesGroupCannotSayThatItIsReady(t *testing.T) {
	for name, start := range map[string]string{
		"below its generation": `sh older &`,
		"an orphan":            `(unset HOTINIT_GENERATION; sh older &)`,
	} {
		t.Run(name, func(t *testing.T) {
			s := telling(t, site.Options{Sub: true, Flags: []string{"--ready", "notify", "--cgroup", "off"}, Script: `
if [ "$HOTINIT_GENERATION" = 1 ]; then
	mkfifo gate last
	echo 'read group <gate; exec perl tell "$group" READY=1' >older
	` + start + `
	perl tell 0 READY=1 &
	read line <last
	exec perl tell 0 STATUS=last
else
	echo "group $$"
fi
exec sleep 1000`})
			s.Becomes(1, "current")
			s.Signal(unix.SIGHUP)
			group := s.Line(`^group (\d+)$`)[1]
			s.Becomes(2, "candidate")
			s.Write("gate", group+"\n")
			s.Line("^told in group " + group + "$")
			// What comes later is read later.
			s.Write("last", "\n")
			s.Until("the last message was acted upon", func() bool { return s.Generation(1).Text == "last" })
			if g := s.Generation(2); g == nil || g.Phase != "candidate" {
				t.Errorf("generation 2: %+v\n%s", g, s.Output)
			}
			s.Stop(128 + 15)
		})
	}
}

// A command that says READY=1 and ends at once may be gone before anyone looks at
// it. It counts where only one generation has processes.
func TestWhoHasEndedSinceIsOfTheOnlyGeneration(t *testing.T) {
	s := telling(t, site.Options{Sub: true, Flags: []string{"--ready", "notify", "--cgroup", "off"}, Script: `
mkfifo gate$HOTINIT_GENERATION last$HOTINIT_GENERATION
echo "waiting $HOTINIT_GENERATION"
read line <gate$HOTINIT_GENERATION
END=1 perl tell 0 READY=1
echo "told $HOTINIT_GENERATION"
read line <last$HOTINIT_GENERATION
exec perl tell 0 READY=1`})
	tells := func(n string) {
		s.Line("^waiting " + n)
		handoff := s.Handoff().PID
		s.SignalTo(handoff, unix.SIGSTOP)
		s.Write("gate"+n, "\n")
		s.Line("^told " + n)
		s.SignalTo(handoff, unix.SIGCONT)
	}
	tells("1")
	s.Becomes(1, "current")
	s.Signal(unix.SIGHUP)
	tells("2")
	s.Line("it ended at once, and could be of any generation")
	if g := s.Generation(2); g == nil || g.Phase != "candidate" {
		t.Errorf("generation 2: %+v\n%s", g, s.Output)
	}
	s.Write("last2", "\n")
	s.Becomes(2, "current")
	s.Stop(128 + 15)
}

// Whoever may open the socket can send to it as fast as it is read. Lines about
// that are few.
func TestAFloodOfStrangersWritesFewLines(t *testing.T) {
	s := site.Open(t, site.Options{Sub: true, Flags: []string{"--ready", "notify"}, Script: `
mkfifo gate
echo "socket $NOTIFY_SOCKET"
read line <gate
systemd-notify --ready
exec sleep 1000`})
	site.Need(t, "systemd-notify")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	to := &unix.SockaddrUnix{Name: s.Line(`^socket (\S+)$`)[1]}
	for range 5000 {
		if err := unix.Sendto(fd, []byte("READY=1\nSTATUS=flood"), 0, to); err != nil {
			t.Fatal(err)
		}
	}
	s.Write("gate", "\n")
	s.Line("generation 1 is ready") // all that came before was read
	if n := s.Output.Count(regexp.MustCompile("NOTIFY_SOCKET")); n != 1 {
		t.Errorf("%d lines were written:\n%.2000s", n, s.Output)
	}
	s.Stop(128 + 15)
}

// A terminal obeys control characters: none that the app says reaches one.
func TestControlCharactersOfAStatusAreNotPrinted(t *testing.T) {
	s := telling(t, site.Options{Flags: []string{"--ready", "notify"}, Script: `
exec perl tell 0 READY=1 'STATUS=title \x1b]0;owned\x07\x9b31m\xc2\x9b2J\xe2\x80\xae\x0d end' "MAINPID=\x1b[2J1"`})
	s.Until("the status has the text", func() bool {
		_, text := s.Ask("status")
		return strings.Contains(text, "title")
	})
	for _, words := range [][]string{{"status"}, {"status", "--json"}, {"health"}} {
		_, text := s.Ask(words...)
		harmless(t, strings.Join(words, " "), text)
	}
	s.Stop(128 + 15)
	harmless(t, "the log", s.Output.Text())
}

// harmless checks that a text has nothing in it that a terminal would obey.
func harmless(t *testing.T, what, text string) {
	t.Helper()
	for _, r := range text {
		if r != '\n' && r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u202e' || r == '\ufffd' {
			t.Errorf("%s has %U in it: %q", what, r, text)
			return
		}
	}
}
