package lines

import (
	"bufio"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// renew asks the process to go on as another executable, which it cannot be here.
func (p *process) renew(path string) {
	p.t.Helper()
	file, err := os.Open(path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer file.Close()
	if err := Renew(p.socket, number(p.t, file)); err != nil {
		p.t.Fatal(err)
	}
}

func TestTheRestOfALineGoesAlongAndStays(t *testing.T) {
	p := start(t)
	r, target := pipe(t)
	web, other := p.stream("web", target), p.stream("other", target)
	in := bufio.NewReader(r)
	comes := func(want string) {
		t.Helper()
		if line, err := in.ReadString('\n'); err != nil || line != want {
			t.Fatalf("%q comes, %v, and not %q", line, err, want)
		}
	}
	put(t, web, "whole\npart")
	comes("web: whole\n") // so the part was read, too
	put(t, other, "here\n")
	comes("other: here\n")
	p.renew("/proc/self/exe") // which it is already
	p.renew("/bin/sh")
	rests := map[string]string{}
	for _, st := range <-p.left {
		rests[st.Name] = string(st.Rest)
	}
	if len(rests) != 2 || rests["web"] != "part" || rests["other"] != "" {
		t.Errorf("%q goes along", rests)
	}
	put(t, web, " two\n")
	comes("web: part two\n")
	put(t, other, "there\n")
	comes("other: there\n")
	web.Close()
	other.Close()
	p.finish()
	select {
	case <-p.left:
		t.Error("its own executable is another one")
	default:
	}
}

// It waits for a target that takes nothing, and nobody else does meanwhile.
func TestATargetThatTakesNothingPutsItOff(t *testing.T) {
	p := start(t)
	full, to := pipe(t)
	flood := p.stream("flood", to)
	wrote := make(chan error, 1)
	text := strings.Repeat("flood\n", 100_000)
	go func() {
		_, err := flood.WriteString(text)
		flood.Close()
		wrote <- err
	}()
	r, w := pipe(t)
	quiet := p.stream("quiet", w)
	in := bufio.NewReader(r)
	says := func() {
		t.Helper()
		put(t, quiet, "here\n")
		if line, err := in.ReadString('\n'); err != nil || line != "quiet: here\n" {
			t.Fatalf("%q, %v", line, err)
		}
	}
	got := bufio.NewReader(full)
	if _, err := got.Peek(1); err != nil { // it writes
		t.Fatal(err)
	}
	p.renew("/bin/sh")
	says()
	select {
	case <-p.left:
		t.Fatal("it did not wait for what is being written")
	default:
	}
	for range strings.Count(text, "\n") {
		if line, err := got.ReadString('\n'); err != nil || line != "flood: flood\n" {
			t.Fatalf("%q, %v", line, err)
		}
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	<-p.left
	says()
	quiet.Close()
	p.finish()
}

func TestWhatCameAlongIsGoneOnWith(t *testing.T) {
	target, all := reader(t)
	var streams []stream
	var writers []*os.File
	dup := func(f *os.File) int {
		fd, err := unix.FcntlInt(uintptr(number(t, f)), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	to := dup(target) // one for all
	for _, st := range []stream{{Name: "web", Rest: []byte("par")}, {Name: "long", Rest: []byte("re"), Broken: true}, {Name: "torn"}} {
		st.Torn = true // it is the same target
		r, w := pipe(t)
		st.From, st.To = dup(r), to
		r.Close()
		streams, writers = append(streams, st), append(writers, w)
	}
	b, err := json.Marshal(streams)
	if err != nil {
		t.Fatal(err)
	}
	state, err := unix.MemfdCreate("state", unix.MFD_CLOEXEC)
	if err == nil {
		_, err = unix.Write(state, b)
	}
	if err != nil {
		t.Fatal(err)
	}
	r := newRelay(nil)
	if err := r.resume(strconv.Itoa(state)); err != nil {
		t.Fatal(err)
	}
	put(t, writers[0], "t\n")
	put(t, writers[1], "st\n")
	put(t, writers[2], "new\n")
	for _, w := range writers {
		w.Close()
	}
	r.all.Wait()
	got := all()
	for _, want := range []string{"web: part\n", "long+: rest\n", "torn: new\n"} {
		if strings.Count(got, want) != 1 {
			t.Errorf("%q is not once in %q", want, got)
		}
	}
	if err := newRelay(nil).resume("text"); err == nil {
		t.Error("a text is taken for a descriptor")
	}
}
