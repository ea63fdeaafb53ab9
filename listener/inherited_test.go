package listener_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestListenAllFromServerStarterPort(t *testing.T) {
	tcp, port := socket(t, unix.SOCK_STREAM)
	udp, udpPort := socket(t, unix.SOCK_DGRAM)
	path := t.TempDir() + "/sock"
	local := unixSocket(t, path)

	spec := fmt.Sprintf("127.0.0.1:%d=3;127.0.0.1:u%d=4;%s=5", port, udpPort, path)
	got := output(t, program(t, "describe", []string{"SERVER_STARTER_PORT=" + spec}, tcp, udp, local))
	want := fmt.Sprintf("%s\ntcp 127.0.0.1:%d\nunix %s\nudp 127.0.0.1:%d\n", spec, port, path, udpPort)
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestListenAllFromListenFDs(t *testing.T) {
	tcp, port := socket(t, unix.SOCK_STREAM)
	udp, udpPort := socket(t, unix.SOCK_DGRAM)
	path := t.TempDir() + "/sock"
	local := unixSocket(t, path)

	got := output(t, program(t, "describe", []string{"OWN=1", "LISTEN_FDS=3"}, tcp, udp, local))
	want := fmt.Sprintf("127.0.0.1:%d=3;127.0.0.1:u%d=4;%s=5\ntcp 127.0.0.1:%d\nunix %s\nudp 127.0.0.1:%d\n",
		port, udpPort, path, port, path, udpPort)
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// describe prints "blocking" for a socket that is; another generation, which
// shares the flag, would then hang in accept(2).
func TestListenAllLeavesTheOthersSocketNonBlocking(t *testing.T) {
	tcp, port := socket(t, unix.SOCK_STREAM)
	output(t, program(t, "describe", []string{fmt.Sprintf("SERVER_STARTER_PORT=%d=3", port)}, tcp))
	flags, err := unix.FcntlInt(uintptr(tcp), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
}

func TestProgramsThatTheServerStartsGetNoSocket(t *testing.T) {
	tcp, port := socket(t, unix.SOCK_STREAM)
	for name, env := range map[string][]string{
		"Server::Starter":   {fmt.Sprintf("SERVER_STARTER_PORT=%d=3", port)},
		"socket activation": {"OWN=1", "LISTEN_FDS=1"},
	} {
		t.Run(name, func(t *testing.T) {
			if open := output(t, program(t, "open", env, tcp)); strings.Contains(open, "socket:") {
				t.Errorf("it has\n%s", open)
			}
		})
	}
}

func TestNamedFindsSocketsByName(t *testing.T) {
	web1, _ := socket(t, unix.SOCK_STREAM)
	dns, _ := socket(t, unix.SOCK_DGRAM)
	web2, _ := socket(t, unix.SOCK_STREAM)
	got := output(t, program(t, "names", []string{"OWN=1", "LISTEN_FDS=3", "LISTEN_FDNAMES=web:dns:web"}, web1, dns, web2))
	want := `web 2 <nil>
dns 0 the sockets named "dns" are all datagram sockets: PacketConns has them
nobody 0 no socket is named "nobody": LISTEN_FDNAMES is "web:dns:web"
packets 1 <nil>
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestNamedInAnotherProcessSaysWhy(t *testing.T) {
	web, _ := socket(t, unix.SOCK_STREAM)
	got := output(t, program(t, "names", []string{"LISTEN_PID=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=web"}, web))
	if !strings.Contains(got, `LISTEN_PID is "1", which must be this process`) {
		t.Error(got)
	}
}

func TestDescriptorThatIsNotASocketIsNamed(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	out, err := program(t, "describe", []string{"SERVER_STARTER_PORT=80=3"}, int(file.Fd())).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "descriptor 3 (80=3) is not a socket") {
		t.Errorf("%v, %s", err, out)
	}
}

func TestSocketThatDoesNotListenIsNamed(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	out, err := program(t, "describe", []string{"SERVER_STARTER_PORT=80=3"}, fd).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "it is not a listening socket") {
		t.Errorf("%v, %s", err, out)
	}
}
