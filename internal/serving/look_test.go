package serving

import (
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestWhoWaits(t *testing.T) {
	for role, want := range map[string]string{
		"accept":            "accept",
		"poll":              "poll or select",
		"short polls":       "poll or select",
		"select":            "poll or select",
		"epoll":             "epoll",
		"nested epoll":      "epoll",
		"Go, never accepts": "epoll",
		"io_uring":          "io_uring",
	} {
		t.Run(role, func(t *testing.T) {
			s := start(t, role)
			f := observe(t, s.candidate())
			if got := f.next(Waits, Accepted, Traffic, Blind).Text; !strings.HasSuffix(got, "waits in "+want) {
				t.Errorf("it %s, want %s", got, want)
			}
		})
	}
}

// They hold the socket, and sleep for something else.
func TestWhoHoldsASocketAndDoesNotWaitForIt(t *testing.T) {
	for _, role := range []string{"poll other", "select other", "epoll, not waited for", "outgoing"} {
		t.Run(role, func(t *testing.T) {
			peer := listen(t, "tcp", "127.0.0.1:0")
			p := server{fd: int(peer.Fd())}.sockets(t)[0]
			s := start(t, role, "SERVING_TEST_PEER="+net.JoinHostPort("127.0.0.1", itoa(int(p.port))))
			s.settled(t)
			if l := Processes([]int{s.pid}, s.sockets(t)); l.Waits != "" || len(l.Blind) > 0 {
				t.Errorf("%+v", l)
			}
		})
	}
}

func itoa(n int) string {
	var b []byte
	for ; n > 0; n /= 10 {
		b = append([]byte{byte('0' + n%10)}, b...)
	}
	return string(b)
}

func TestAcceptAndAcceptByARingAreAsGoodAsAConnection(t *testing.T) {
	for _, role := range []string{"accept", "io_uring"} {
		t.Run(role, func(t *testing.T) {
			f := observe(t, start(t, role).candidate())
			f.next(Waits)
			f.next(Accepted)
			<-f.over
		})
	}
}

func TestARingThatPollsCannotBeSeenInto(t *testing.T) {
	f := observe(t, start(t, "io_uring poll").candidate())
	if got := f.next(Blind, Waits).Text; !strings.Contains(got, "io_uring") {
		t.Error(got)
	}
}

func TestADatagramSocketIsWaitedForByReading(t *testing.T) {
	s := startOn(t, listen(t, "udp", "127.0.0.1:0"), "datagram")
	f := observe(t, s.candidate())
	f.next(Waits, Blind)
}

// withoutPtrace runs f in a thread without CAP_SYS_PTRACE, which root does not
// have in most containers.
func withoutPtrace(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var all, less [2]unix.CapUserData
	if err := unix.Capget(&head, &all[0]); err != nil {
		t.Fatal(err)
	}
	less = all
	less[0].Effective &^= 1 << unix.CAP_SYS_PTRACE
	if err := unix.Capset(&head, &less[0]); err != nil {
		t.Fatal(err)
	}
	defer unix.Capset(&head, &all[0])
	f()
}

// The app of --user, as Docker runs it: root may not look at it, its user may.
func TestAnotherUsersProcessIsLookedAtAsThatUser(t *testing.T) {
	s := start(t, "poll", "SERVING_TEST_USER=65534")
	s.settled(t)
	withoutPtrace(t, func() {
		if _, err := os.ReadDir("/proc/" + itoa(s.pid) + "/fd"); err == nil {
			t.Skip("root may look at it all the same")
		}
		if l := Processes([]int{s.pid}, s.sockets(t)); l.Waits == "" || len(l.Blind) > 0 {
			t.Errorf("%+v", l)
		}
		if uid, _ := unix.SetfsuidRetUid(-1); uid != 0 {
			t.Errorf("the thread is user %d now", uid)
		}
	})
}

// A process that changed its user in itself is hidden from all but root with
// that capability: execve(2) would have made it visible again.
func TestAProcessThatIsHidden(t *testing.T) {
	s := start(t, "user")
	s.settled(t)
	if l := Processes([]int{s.pid}, s.sockets(t)); l.Waits == "" {
		t.Errorf("with the capability: %+v", l)
	}
	withoutPtrace(t, func() {
		l := Processes([]int{s.pid}, s.sockets(t))
		if l.Waits != "" || !strings.Contains(l.Blind[s.pid], "permission denied") {
			t.Errorf("%+v", l)
		}
	})
}

func TestAProcessThatIsGoneIsNeitherSeenNorBlind(t *testing.T) {
	s := start(t, "accept")
	if l := Processes([]int{1 << 22}, s.sockets(t)); l.Waits != "" || len(l.Blind) > 0 {
		t.Errorf("%+v", l)
	}
}

func TestAProcessWithoutDescriptorsDoesNotWaitAndHidesNothing(t *testing.T) {
	s := start(t, "no descriptors")
	for { // it closes the one by which it says that it is ready last
		if names, err := os.ReadDir("/proc/" + itoa(s.pid) + "/fd"); err != nil {
			t.Fatal(err)
		} else if len(names) == 0 {
			break
		}
	}
	if l := Processes([]int{s.pid}, s.sockets(t)); l.Waits != "" || len(l.Blind) > 0 {
		t.Errorf("%+v", l)
	}
}

// A candidate cannot be seen for as long as the same process hides, and no longer.
func TestHowLongACandidateCannotBeSeen(t *testing.T) {
	var said []Kind
	o := observer{report: func(f Fact) { said = append(said, f.Kind) }}
	start := time.Now()
	for _, step := range []struct {
		after time.Duration
		blind map[int]string
		want  []Kind
	}{
		{0, map[int]string{10: "denied"}, nil},
		{blindFor / 2, map[int]string{11: "denied"}, nil},
		{blindFor, map[int]string{12: "denied"}, nil}, // always another one
		{2 * blindFor, map[int]string{12: "denied"}, []Kind{Blind}},
		{3 * blindFor, map[int]string{12: "denied", 13: "denied"}, nil},
		{4 * blindFor, map[int]string{13: "denied"}, nil},
		{5 * blindFor, nil, []Kind{BlindOver}},
		{6 * blindFor, nil, nil},
		{7 * blindFor, map[int]string{13: "denied"}, nil},
		{8 * blindFor, map[int]string{13: "denied"}, []Kind{Blind}},
	} {
		said = nil
		if o.see(step.blind, start.Add(step.after)); !slices.Equal(said, step.want) {
			t.Errorf("after %v: reported %v, want %v", step.after, said, step.want)
		}
	}
}

func TestHowLongALookTakes(t *testing.T) {
	s := start(t, "Go, never accepts")
	s.settled(t)
	sockets := s.sockets(t)
	began := time.Now()
	for range 100 {
		Processes([]int{s.pid}, sockets)
	}
	t.Logf("a look at a process takes %v", time.Since(began)/100)
	began = time.Now()
	for range 100 {
		sockets[0].connections(heldStates)
	}
	t.Logf("a list of connections takes %v", time.Since(began)/100)
}

// Its socket may be among those that are not looked at: then it must not count as
// one that does not wait.
func TestAProcessWithTooManyDescriptorsCannotBeSeenInto(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < mostDescriptors+100 {
		t.Skipf("no more than %d descriptors may be open", limit.Cur)
	}
	for range mostDescriptors {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	if l := Processes([]int{os.Getpid()}, describeAll([]int{fd})); l.Waits != "" || !strings.Contains(l.Blind[os.Getpid()], "descriptors") {
		t.Errorf("it is seen to wait (%q), or not known to be unseen (%q)", l.Waits, l.Blind)
	}
}
