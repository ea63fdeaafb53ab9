package control

import (
	"encoding/json"
	"fmt"
	"os"
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

func connect(t *testing.T, address string) *os.File {
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
	f := connect(t, address)
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
	if a := request(t, address, Request{Op: "reload", Wait: true}); a.OK {
		t.Errorf("one more may wait: %+v", a)
	}
}

func TestClientsThatSendNothingBlockNobody(t *testing.T) {
	address := serve(t)
	for range 4 * mostReading {
		connect(t, address)
	}
	quick(t, address)
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
