package control

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// serve starts a server of the test's own. Its requests that wait do so until
// their client has gone.
func serve(t *testing.T) (address string) {
	t.Helper()
	address = fmt.Sprintf("@hotinit-test/%d/%s", os.Getpid(), t.Name())
	fd, err := Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	go Serve(fd, func(r Request, answer func(Response) bool, gone <-chan struct{}) {
		answer(Response{OK: true, Text: r.Op})
		if r.Wait || r.Watch {
			<-gone
		}
	})
	return address
}

func dial(t *testing.T, address string) *os.File {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: address}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "client")
	t.Cleanup(func() { f.Close() })
	return f
}

func request(t *testing.T, address string, r Request) (a Response) {
	t.Helper()
	f := dial(t, address)
	_ = f.SetDeadline(time.Now().Add(time.Minute))
	if err := json.NewEncoder(f).Encode(r); err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(f).Decode(&a); err != nil {
		t.Fatal(err)
	}
	return a
}

// quick expects each of the requests that do not wait to be answered before the
// time that a client has for its own request.
func quick(t *testing.T, address string) {
	t.Helper()
	began := time.Now()
	for _, op := range []string{"status", "health", "stop"} {
		if a := request(t, address, Request{Op: op}); !a.OK || a.Text != op {
			t.Errorf("%s: %+v", op, a)
		}
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("the answers took %v", took)
	}
}

func TestClientsThatWaitBlockNobody(t *testing.T) {
	address := serve(t)
	for range mostWaiting {
		request(t, address, Request{Op: "status", Watch: true})
	}
	quick(t, address)
	for _, r := range []Request{{Op: "reload", Wait: true}, {Op: "wait"}, {Op: "prove"}, {Op: "deploy"}, {Op: "upgraded"}} {
		if a := request(t, address, r); a.OK || !strings.Contains(a.Text, "other clients wait") {
			t.Errorf("one more may wait: %+v: %+v", r, a)
		}
	}
}

func TestClientsThatSendNothingBlockNobody(t *testing.T) {
	address := serve(t)
	oldest := dial(t, address)
	for range 4 * mostReading {
		dial(t, address)
	}
	quick(t, address)
	// They take no descriptor each, either: the oldest is let go.
	_ = oldest.SetDeadline(time.Now().Add(4 * time.Second))
	if n, err := oldest.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("the oldest of them is connected still: %d, %v", n, err)
	}
}

func TestAPeerOfAnotherNamespaceOrUserIsRefused(t *testing.T) {
	own := uint32(os.Geteuid())
	for _, cred := range []unix.Ucred{
		{Pid: 0, Uid: own}, {Pid: 0, Uid: 0}, {Pid: 0, Uid: 65534}, {Pid: 7, Uid: own + 1},
	} {
		if refusal(&cred, nil) == "" {
			t.Errorf("%+v may ask", cred)
		}
	}
	if refusal(nil, unix.EINVAL) == "" {
		t.Error("a peer that the kernel does not name may ask")
	}
	for _, cred := range []unix.Ucred{{Pid: 7, Uid: own}, {Pid: 7, Uid: 0}} {
		if text := refusal(&cred, nil); text != "" {
			t.Errorf("%+v: %s", cred, text)
		}
	}
}

// FuzzRequest sends any bytes as a client: the answer is one line of JSON, and the
// next client is served.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"Op":"status","Wait":true}` + "\n"))
	f.Add([]byte(`{"Op":"rollback","Release":"00"}{`))
	f.Add([]byte("{}"))
	f.Add(bytes.Repeat([]byte("["), 5000))
	s := &server{handle: func(r Request, answer func(Response) bool, gone <-chan struct{}) {
		answer(Response{OK: true, Text: r.Op})
	}}
	self := &unix.Ucred{Pid: int32(os.Getpid()), Uid: uint32(os.Geteuid())}
	f.Fuzz(func(t *testing.T, text []byte) {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		file, client := os.NewFile(uintptr(pair[0]), "server"), os.NewFile(uintptr(pair[1]), "client")
		defer client.Close()
		served := make(chan struct{})
		go func() {
			defer close(served)
			s.enter(file)
			s.serve(file, self, nil)
		}()
		if _, err := client.Write(text); err == nil {
			_ = unix.Shutdown(pair[1], unix.SHUT_WR)
		}
		var a Response
		if err := json.NewDecoder(client).Decode(&a); err != nil {
			t.Errorf("%q is answered by %v", text, err)
		}
		if a.OK && len(text) > 0 && json.Valid(text) {
			var r Request
			if err := json.Unmarshal(text, &r); err == nil && a.Text != strings.ToValidUTF8(r.Op, "\ufffd") {
				t.Errorf("%q was taken for %q", text, a.Text)
			}
		}
		<-served
		if n := s.waiting.Load(); n != 0 {
			t.Errorf("%d clients are said to wait", n)
		}
	})
}
