package listener

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// ServerStarterEnvVarName is the environment variable that says which
// descriptors are which sockets: "8080=3;127.0.0.1:9000=4;/run/app.sock=5".
const ServerStarterEnvVarName = "SERVER_STARTER_PORT"

// ErrNoListeningTarget is returned where the process was not given any socket:
// it runs by itself, not under hotinit, or without a port.
var ErrNoListeningTarget = errors.New("no listening target")

// Listener is one socket that the process was started with.
type Listener interface {
	// Fd is the number of the inherited descriptor.
	Fd() uintptr
	// Listen makes a listener of a duplicate of it.
	Listen() (net.Listener, error)
	// String is the socket as SERVER_STARTER_PORT has it.
	String() string
}

// List is all sockets that the process was started with.
type List []Listener

// String is the list as SERVER_STARTER_PORT has it.
func (ll List) String() string {
	specs := make([]string, len(ll))
	for i, l := range ll {
		specs[i] = l.String()
	}
	return strings.Join(specs, ";")
}

// TCPListener is a TCP socket. Addr is 0.0.0.0 where only a port was asked for.
type TCPListener struct {
	Addr string
	Port int
	fd   uintptr
}

// Fd is the number of the inherited descriptor.
func (l TCPListener) Fd() uintptr { return l.fd }

// Listen makes a listener of a duplicate of the inherited descriptor.
func (l TCPListener) Listen() (net.Listener, error) { return listen(l.fd, l.String()) }

// String is "8080=3" or "127.0.0.1:8080=3".
func (l TCPListener) String() string { return hostPort(l.Addr, "", l.Port, l.fd) }

// UnixListener is a unix stream or seqpacket socket.
type UnixListener struct {
	Path string
	fd   uintptr
}

// Fd is the number of the inherited descriptor.
func (l UnixListener) Fd() uintptr { return l.fd }

// Listen makes a listener of a duplicate of the inherited descriptor. Closing
// it leaves the socket's file alone.
func (l UnixListener) Listen() (net.Listener, error) { return listen(l.fd, l.String()) }

// String is "/run/app.sock=3".
func (l UnixListener) String() string { return fmt.Sprintf("%s=%d", l.Path, l.fd) }

// UDPListener is a UDP socket: a specification like "u5353". Nothing can be
// accepted from it, so its Listen fails and [ListenAll] leaves it out; see
// [PacketConns].
type UDPListener struct {
	Addr string
	Port int
	fd   uintptr
}

// Fd is the number of the inherited descriptor.
func (l UDPListener) Fd() uintptr { return l.fd }

// Listen fails: a UDP socket is got from [PacketConns].
func (l UDPListener) Listen() (net.Listener, error) { return listen(l.fd, l.String()) }

// String is "u5353=3" or "127.0.0.1:u5353=3".
func (l UDPListener) String() string { return hostPort(l.Addr, "u", l.Port, l.fd) }

func hostPort(host, kind string, port int, fd uintptr) string {
	if host == "0.0.0.0" {
		return fmt.Sprintf("%s%d=%d", kind, port, fd)
	}
	return fmt.Sprintf("%s:%s%d=%d", host, kind, port, fd)
}

// GetPortsSpecification is the value of SERVER_STARTER_PORT.
func GetPortsSpecification() string { return os.Getenv(ServerStarterEnvVarName) }

// Ports lists the sockets that the process was started with: those of
// SERVER_STARTER_PORT, or those of LISTEN_FDS where that is not set. Without
// either the error is [ErrNoListeningTarget].
func Ports() ([]Listener, error) {
	spec := GetPortsSpecification()
	if spec == "" {
		return activated()
	}
	var ports []Listener
	for _, entry := range strings.Split(spec, ";") {
		l, err := parse(entry)
		if err != nil {
			return nil, err
		}
		closeOnExec(l.Fd())
		ports = append(ports, l)
	}
	return ports, nil
}

// parse reads one entry of SERVER_STARTER_PORT. The last '=' counts, because a
// path may contain others.
func parse(entry string) (Listener, error) {
	at := strings.LastIndexByte(entry, '=')
	if at < 0 {
		return nil, fmt.Errorf("%s: %q names no descriptor: an entry is ADDRESS=NUMBER, such as 8080=3", ServerStarterEnvVarName, entry)
	}
	address := strings.TrimSpace(entry[:at])
	number, err := strconv.ParseUint(strings.TrimSpace(entry[at+1:]), 10, 31)
	if err != nil {
		return nil, fmt.Errorf("%s: %q: the descriptor after '=' must be a number: %w", ServerStarterEnvVarName, entry, err)
	}
	if address == "" {
		return nil, fmt.Errorf("%s: %q has no address before '='", ServerStarterEnvVarName, entry)
	}
	fd := uintptr(number)

	host, service := "0.0.0.0", address
	if colon := strings.LastIndexByte(address, ':'); colon > 0 {
		host, service = address[:colon], address[colon+1:]
	}
	if port, ok := portNumber(service); ok {
		return TCPListener{Addr: host, Port: port, fd: fd}, nil
	}
	if port, ok := portNumber(strings.TrimPrefix(service, "u")); ok {
		return UDPListener{Addr: host, Port: port, fd: fd}, nil
	}
	return UnixListener{Path: address, fd: fd}, nil
}

func portNumber(s string) (int, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	port, err := strconv.Atoi(s)
	return port, err == nil && port <= 65535
}
