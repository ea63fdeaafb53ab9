package notify

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/poller"
)

// listen makes a socket of the test's own.
func listen(t *testing.T) (address string, fd int) {
	t.Helper()
	address = fmt.Sprintf("@hotinit-test/%d/%s", os.Getpid(), t.Name())
	fd, err := Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	return address, fd
}

func serve(t *testing.T, fd int, handle func(Message)) *Server {
	t.Helper()
	s := Serve(new(poller.Set), fd, handle)
	t.Cleanup(s.Close)
	return s
}

func TestServeSaysWhoSentWhat(t *testing.T) {
	address, fd := listen(t)
	got := make(chan Message)
	serve(t, fd, func(m Message) { got <- m })
	Tell(address, "READY=1\nSTATUS=a=b", os.Getpid())
	m := <-got
	if m.PID != os.Getpid() || m.Text != "READY=1\nSTATUS=a=b" {
		t.Errorf("it received %+v from process %d", m, os.Getpid())
	}
}

// TestAMessageStaysUntilItWasActedUpon plays a handoff that is killed while it
// acts: another reader of the same socket still finds the message.
func TestAMessageStaysUntilItWasActedUpon(t *testing.T) {
	address, fd := listen(t)
	next, err := unix.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	acting, proceed := make(chan bool), make(chan bool)
	serve(t, fd, func(Message) {
		acting <- true
		<-proceed
	})
	Tell(address, "READY=1", os.Getpid())
	<-acting
	buf := make([]byte, 64)
	n, _, err := unix.Recvfrom(next, buf, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	if err != nil || string(buf[:n]) != "READY=1" {
		t.Errorf("the next reader finds %q, %v", buf[:max(n, 0)], err)
	}
	proceed <- true
	// The second message is handled after the first was taken out.
	Tell(address, "STOPPING=1", os.Getpid())
	<-acting
	n, _, err = unix.Recvfrom(next, buf, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	if err != nil || string(buf[:n]) != "STOPPING=1" {
		t.Errorf("after the first message the next reader finds %q, %v", buf[:max(n, 0)], err)
	}
	proceed <- true
}

func TestABarrierEndsOnceEverythingBeforeItWasActedUpon(t *testing.T) {
	address, fd := listen(t)
	handled := make(chan string, 2)
	serve(t, fd, func(m Message) { handled <- m.Text })
	Tell(address, "STATUS=one", os.Getpid())
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	out, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(out)
	if err := unix.Sendmsg(out, []byte("BARRIER=1"), unix.UnixRights(pipe[1]), &unix.SockaddrUnix{Name: address}, 0); err != nil {
		t.Fatal(err)
	}
	unix.Close(pipe[1])
	if _, err := unix.Read(pipe[0], make([]byte, 1)); err != nil {
		t.Error(err)
	}
	unix.Close(pipe[0])
	if got := []string{<-handled, <-handled}; !slices.Equal(got, []string{"STATUS=one", "BARRIER=1"}) {
		t.Errorf("it handled %q before the barrier ended", got)
	}
}

// TestCloseEndsAServerThatActs: the program may be disposed of by what it said.
func TestCloseEndsAServerThatActs(t *testing.T) {
	address, fd := listen(t)
	servers, closed := make(chan *Server, 1), make(chan struct{})
	servers <- serve(t, fd, func(Message) {
		(<-servers).Close()
		close(closed)
	})
	Tell(address, "READY=1", os.Getpid())
	<-closed
}

// TestServersKeepNoBuffers: of 1,000 programs each has a socket.
func TestServersKeepNoBuffers(t *testing.T) {
	const servers = 100
	var set poller.Set
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()
	for i := range servers {
		fd, err := Listen(fmt.Sprintf("@hotinit-test/%d/%s/%d", os.Getpid(), t.Name(), i))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(Serve(&set, fd, func(Message) {}).Close)
	}
	runtime.ReadMemStats(&after)
	if n := runtime.NumGoroutine() - goroutines; n > 1 {
		t.Errorf("%d servers have %d goroutines", servers, n)
	}
	if each := (after.TotalAlloc - before.TotalAlloc) / servers; each > 4096 {
		t.Errorf("a server takes %d bytes", each)
	}
}

func TestFieldsAreTheAssignmentsOfAMessage(t *testing.T) {
	var got []string
	for key, value := range (Message{Text: "READY=1\nnot this line\nSTATUS=a=b\n\n=x"}).Fields() {
		got = append(got, key+":"+value)
	}
	if want := []string{"READY:1", "STATUS:a=b", ":x"}; !slices.Equal(got, want) {
		t.Errorf("the fields are %q, want %q", got, want)
	}
}

func TestExtensionRefusesWhatIsNoTime(t *testing.T) {
	if d, ok := Extension("1500000"); !ok || d != 1500*time.Millisecond {
		t.Errorf("1500000 is %v, %v", d, ok)
	}
	for _, value := range []string{"", "0", "-1", "x", "86400000000", "99999999999999999999"} {
		if d, ok := Extension(value); ok {
			t.Errorf("%q is %v", value, d)
		}
	}
}

// FuzzFields holds that nothing of a message is lost or made up.
func FuzzFields(f *testing.F) {
	f.Add("READY=1\nSTATUS=a=b\n\nMAINPID=12")
	f.Add("EXTEND_TIMEOUT_USEC=86400000001\n=\nX")
	f.Fuzz(func(t *testing.T, text string) {
		var lines []string
		for key, value := range (Message{Text: text}).Fields() {
			if strings.ContainsAny(key, "=\n") || strings.Contains(value, "\n") {
				t.Errorf("%q has the assignment %q=%q", text, key, value)
			}
			lines = append(lines, key+"="+value)
			if d, ok := Extension(value); ok && (d <= 0 || d >= longest) {
				t.Errorf("%q is %v", value, d)
			}
		}
		for line := range strings.SplitSeq(text, "\n") {
			if !strings.Contains(line, "=") {
				continue
			}
			if len(lines) == 0 || lines[0] != line {
				t.Fatalf("%q of %q is not yielded: %q", line, text, lines)
			}
			lines = lines[1:]
		}
		if len(lines) > 0 {
			t.Errorf("%q yields %q", text, lines)
		}
	})
}
