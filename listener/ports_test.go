package listener

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestParseRoundTrip(t *testing.T) {
	for spec, want := range map[string]Listener{
		"8080=3":           TCPListener{"0.0.0.0", 8080, 3},
		"127.0.0.1:9000=4": TCPListener{"127.0.0.1", 9000, 4},
		"[::1]:9000=4":     TCPListener{"[::1]", 9000, 4},
		"localhost:80=12":  TCPListener{"localhost", 80, 12},
		"/run/app.sock=5":  UnixListener{"/run/app.sock", 5},
		"/run/a=b:c=5":     UnixListener{"/run/a=b:c", 5},
		"@abstract=6":      UnixListener{"@abstract", 6},
		"u5353=3":          UDPListener{"0.0.0.0", 5353, 3},
		"127.0.0.1:u53=3":  UDPListener{"127.0.0.1", 53, 3},
	} {
		got, err := parse(spec)
		if err != nil {
			t.Errorf("%s: %v", spec, err)
			continue
		}
		if got != want {
			t.Errorf("%s: got %#v", spec, got)
		}
		if got.String() != spec {
			t.Errorf("%s: written as %s", spec, got)
		}
	}
}

func TestParseTakesSpacesAsThePortDoes(t *testing.T) {
	got, err := parse(" 8080 = 3 ")
	if err != nil || got != (TCPListener{"0.0.0.0", 8080, 3}) {
		t.Errorf("%#v, %v", got, err)
	}
}

func TestParseNamesWhatIsWrong(t *testing.T) {
	for spec, want := range map[string]string{
		"8080":    "names no descriptor",
		"8080=":   "must be a number",
		"8080=x":  "must be a number",
		"8080=-1": "must be a number",
		"=3":      "no address",
		"":        "names no descriptor",
	} {
		_, err := parse(spec)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), ServerStarterEnvVarName) {
			t.Errorf("%q: %v", spec, err)
		}
	}
}

func TestListString(t *testing.T) {
	list := List{TCPListener{"0.0.0.0", 80, 3}, UnixListener{"/s", 4}}
	if got := list.String(); got != "80=3;/s=4" {
		t.Error(got)
	}
}

func TestNothingToListenOn(t *testing.T) {
	for name, env := range map[string][3]string{
		"nothing set":           {"", "", ""},
		"another process's":     {"", "1", "1"},
		"no socket":             {"", "self", "0"},
		"LISTEN_PID is missing": {"", "", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			setenv(t, env[0], env[1], env[2])
			if _, err := ListenAll(); err != ErrNoListeningTarget {
				t.Error(err)
			}
		})
	}
}

func TestBadListenFDs(t *testing.T) {
	setenv(t, "", "self", "many")
	if _, err := Ports(); err == nil || !strings.Contains(err.Error(), `LISTEN_FDS is "many"`) {
		t.Error(err)
	}
}

func TestClosedDescriptorIsNamed(t *testing.T) {
	setenv(t, "8080=987", "", "")
	_, err := ListenAll()
	if err == nil || !strings.Contains(err.Error(), "descriptor 987 (8080=987) is not open") {
		t.Error(err)
	}
}

func TestServeWithoutListenersSaysWhy(t *testing.T) {
	if err := Serve(nil); !errors.Is(err, ErrNoListeningTarget) {
		t.Error(err)
	}
}

func setenv(t *testing.T, ports, pid, fds string) {
	t.Helper()
	if pid == "self" {
		pid = strconv.Itoa(os.Getpid())
	}
	t.Setenv(ServerStarterEnvVarName, ports)
	t.Setenv("LISTEN_PID", pid)
	t.Setenv("LISTEN_FDS", fds)
}
