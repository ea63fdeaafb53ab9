package listener_test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/hotinit/hotinit/listener"
)

func TestNoticesReachThePath(t *testing.T) {
	path, next := notices(t)
	t.Setenv("NOTIFY_SOCKET", path)
	for want, send := range map[string]func() error{
		"READY=1":          listener.Ready,
		"STOPPING=1":       listener.Stopping,
		"STATUS=two lines": func() error { return listener.Status("two\nlines") },
	} {
		if err := send(); err != nil {
			t.Fatal(err)
		}
		if got := next(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestReadyReachesAnAbstractAddress(t *testing.T) {
	name := fmt.Sprintf("@hotinit-listener-test-%d", os.Getpid())
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", name)
	if err := listener.Ready(); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 100)
	if n, err := conn.Read(buffer); string(buffer[:n]) != "READY=1" {
		t.Errorf("%q, %v", buffer[:n], err)
	}
}

func TestReadyWithNobodyToTell(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := listener.Ready(); err != nil {
		t.Error(err)
	}
}

func TestReadyNamesWhatIsWrong(t *testing.T) {
	for socket, want := range map[string]string{
		"relative":      `NOTIFY_SOCKET is "relative"`,
		"/nowhere/sock": "cannot send READY=1 to NOTIFY_SOCKET",
	} {
		t.Setenv("NOTIFY_SOCKET", socket)
		if err := listener.Ready(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", socket, err)
		}
	}
}

func TestGeneration(t *testing.T) {
	for _, c := range []struct {
		hotinit, starter string
		want             int
	}{
		{"", "", 0},
		{"3", "", 3},
		{"", "4", 4},
		{"3", "4", 3},
		{"x", "", 0},
		{"-1", "", 0},
	} {
		t.Setenv("HOTINIT_GENERATION", c.hotinit)
		t.Setenv("SERVER_STARTER_GENERATION", c.starter)
		if got := listener.Generation(); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
