package lines

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// process is the relay, in this process: what is sent to socket, it takes.
type process struct {
	t      *testing.T
	socket *os.File
	ended  chan error
	left   chan []stream // what went along with Renew, of which nothing came
}

// execute fails, once it was told what goes along.
func (p *process) execute(_, state int) error {
	var streams []stream
	b := make([]byte, 1<<20)
	n, err := unix.Pread(state, b, 0)
	if err == nil {
		err = json.Unmarshal(b[:n], &streams)
	}
	p.left <- streams
	return cmp.Or(err, error(unix.ENOEXEC))
}

func start(t *testing.T) *process {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t, os.NewFile(uintptr(pair[0]), "socket"), make(chan error, 1), make(chan []stream, 1)}
	go func() { p.ended <- newRelay(p.execute).serve(pair[1], 10*time.Millisecond) }()
	return p
}

// finish says that nothing more is sent, and waits for the end.
func (p *process) finish() {
	p.t.Helper()
	p.socket.Close()
	if err := <-p.ended; err != nil {
		p.t.Error(err)
	}
}

// stream returns what a program writes to.
func (p *process) stream(name string, target *os.File) *os.File {
	p.t.Helper()
	r, w := pipe(p.t)
	p.send(name, r, target)
	r.Close()
	return w
}

func (p *process) send(name string, source, target *os.File) {
	p.t.Helper()
	for _, f := range []*os.File{source, target} { // which does not take O_NONBLOCK off
		if _, err := f.Stat(); err != nil {
			p.t.Fatal(err)
		}
	}
	if err := Send(p.socket, name, number(p.t, source), number(p.t, target)); err != nil {
		p.t.Fatal(err)
	}
}

func number(t *testing.T, f *os.File) (n int) {
	t.Helper()
	raw, err := f.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { n = int(fd) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// reader collects what comes to a target until all that write to it have closed it.
func reader(t *testing.T) (target *os.File, all func() string) {
	r, w := pipe(t)
	text := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(r)
		text <- string(b)
	}()
	return w, func() string { w.Close(); return <-text }
}

func put(t *testing.T, w *os.File, text string) {
	t.Helper()
	if _, err := w.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func TestLinesOfManyProgramsAreNeverTornNorLost(t *testing.T) {
	const programs, each = 20, 5000
	p := start(t)
	target, all := reader(t)
	var writers sync.WaitGroup
	for i := range programs {
		w := p.stream(fmt.Sprintf("program%d", i), target)
		writers.Go(func() {
			defer w.Close()
			b := bufio.NewWriterSize(w, 100+i*997) // which breaks lines anywhere
			for n := range each {
				fmt.Fprintf(b, "line %d %s\n", n, strings.Repeat("x", n%300))
			}
			_ = b.Flush()
		})
	}
	writers.Wait()
	p.finish()
	next := make(map[string]int)
	for line := range strings.Lines(all()) {
		name, rest, _ := strings.Cut(line, ": ")
		n := next[name]
		if want := fmt.Sprintf("line %d %s\n", n, strings.Repeat("x", n%300)); rest != want {
			t.Fatalf("after %d lines of %q comes %q", n, name, line)
		}
		next[name]++
	}
	for name, n := range next {
		if n != each {
			t.Errorf("%q has %d lines of %d", name, n, each)
		}
	}
	if len(next) != programs {
		t.Errorf("%d programs wrote, of %d", len(next), programs)
	}
}

func TestALineThatIsTooLongIsBroken(t *testing.T) {
	long := strings.Repeat("a", longestLine)
	for _, c := range []struct{ name, text, want string }{
		{"just not", long + "\nb\n", "web: " + long + "\nweb: b\n"},
		{"by one", long + "b\nc\n", "web: " + long + "\nweb+: b\nweb: c\n"},
		{"twice", long + long + "\nc\n", "web: " + long + "\nweb+: " + long + "\nweb: c\n"},
		{"without an end", long + "b", "web: " + long + "\nweb+: b\n"},
		{"empty lines", "\n\nx\n", "web: \nweb: \nweb: x\n"},
		{"a part of a line", "x", "web: x\n"},
		{"nothing", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := start(t)
			target, all := reader(t)
			w := p.stream("web", target)
			put(t, w, c.text)
			w.Close()
			p.finish()
			if got := all(); got != c.want {
				t.Errorf("it is %d bytes, %.40q …, and not %d", len(got), got, len(c.want))
			}
		})
	}
}

func TestATargetThatTakesNothingHoldsUpNoOther(t *testing.T) {
	p := start(t)
	_, full := pipe(t)
	flood := p.stream("flood", full)
	go func() {
		for {
			if _, err := flood.Write(bytes.Repeat([]byte("flood\n"), 10000)); err != nil {
				return
			}
		}
	}()
	r, w := pipe(t)
	quiet := p.stream("quiet", w)
	in := bufio.NewReader(r)
	for range 100 {
		put(t, quiet, "here\n")
		if line, err := in.ReadString('\n'); err != nil || line != "quiet: here\n" {
			t.Fatalf("%q, %v", line, err)
		}
	}
	// The process ends although the target still takes nothing.
	quiet.Close()
	p.finish()
}

func TestASourceThatIsSentTwiceIsReadOnce(t *testing.T) {
	p := start(t)
	target, all := reader(t)
	r, w := pipe(t)
	for range 3 {
		p.send("web", r, target)
	}
	for n := range 1000 {
		put(t, w, fmt.Sprintf("line %d\n", n))
	}
	w.Close()
	p.finish()
	n := 0
	for line := range strings.Lines(all()) {
		if want := fmt.Sprintf("web: line %d\n", n); line != want {
			t.Fatalf("%q, and not %q", line, want)
		}
		n++
	}
	if n != 1000 {
		t.Errorf("%d lines", n)
	}
}

func TestAProgramWhoseReaderIsGoneWritesOn(t *testing.T) {
	p := start(t)
	r, target := pipe(t)
	r.Close()
	w := p.stream("web", target)
	for range 100 {
		put(t, w, strings.Repeat("more than its pipe has room for\n", 1000))
	}
	w.Close()
	p.finish()
}

// A disk is full in the middle of a line: what comes once there is room begins anew.
func TestALineAfterOneThatWasTornBeginsALine(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	tgt := newTarget(number(t, file))
	tgt.torn = true
	tgt.write([]byte("web: whole\n"))
	tgt.write([]byte("web: next\n"))
	b, _ := os.ReadFile(file.Name())
	if string(b) != "\nweb: whole\nweb: next\n" {
		t.Errorf("%q", b)
	}
}

func TestTheSocketMustBeOne(t *testing.T) {
	r, _ := pipe(t)
	fd, err := unix.Dup(number(t, r))
	if err != nil {
		t.Fatal(err)
	}
	if err := newRelay(nil).serve(fd, time.Second); err == nil {
		t.Error("a pipe is taken for the socket")
	}
}
