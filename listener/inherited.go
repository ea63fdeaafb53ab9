package listener

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// firstFD is the number of the first descriptor that LISTEN_FDS counts:
// SD_LISTEN_FDS_START of sd_listen_fds(3).
const firstFD = 3

// ListenAll makes a listener of each stream socket that the process was started
// with, in the order of the options that asked for them. Without any socket the
// error is [ErrNoListeningTarget]. UDP sockets are left out; see [PacketConns].
func ListenAll() ([]net.Listener, error) {
	ports, err := Ports()
	if err != nil {
		return nil, err
	}
	return listeners(ports)
}

// Named makes listeners of the stream sockets that LISTEN_FDNAMES gives this
// name. It is an error if there is none.
func Named(name string) ([]net.Listener, error) {
	ports, err := namedPorts(name)
	if err != nil {
		return nil, err
	}
	found, err := listeners(ports)
	if err == nil && len(found) == 0 {
		return nil, fmt.Errorf("the sockets named %q are all datagram sockets: PacketConns has them", name)
	}
	return found, err
}

// PacketConns makes a packet connection of each datagram socket that the
// process was started with; with names, of those that LISTEN_FDNAMES gives one
// of the names. Without any the list is empty.
func PacketConns(names ...string) ([]net.PacketConn, error) {
	var ports []Listener
	if len(names) == 0 {
		all, err := Ports()
		if err != nil {
			return nil, err
		}
		ports = all
	}
	for _, name := range names {
		named, err := namedPorts(name)
		if err != nil {
			return nil, err
		}
		ports = append(ports, named...)
	}
	var conns []net.PacketConn
	for _, port := range ports {
		if !datagram(port.Fd()) {
			continue
		}
		conn, err := packetConn(port)
		if err != nil {
			for _, made := range conns {
				made.Close()
			}
			return nil, err
		}
		conns = append(conns, conn)
	}
	return conns, nil
}

func listeners(ports []Listener) ([]net.Listener, error) {
	var made []net.Listener
	for _, port := range ports {
		if datagram(port.Fd()) {
			continue
		}
		l, err := port.Listen()
		if err != nil {
			for _, m := range made {
				m.Close()
			}
			return nil, err
		}
		made = append(made, l)
	}
	return made, nil
}

// listen makes a listener of a duplicate of a descriptor.
//
// net.FileListener duplicates as well, but from an os.File, and an os.File made
// of the inherited descriptor itself would close it when it is collected as
// garbage. Nothing here may call Fd on a file made by the net package: that
// turns the shared socket blocking, for all generations.
func listen(fd uintptr, spec string) (net.Listener, error) {
	listening, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return nil, notASocket(fd, spec, err)
	}
	if listening == 0 {
		return nil, fmt.Errorf("cannot accept from descriptor %d (%s): it is not a listening socket", fd, spec)
	}
	file, err := duplicate(fd, spec)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	l, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("cannot make a listener of descriptor %d (%s): %w", fd, spec, err)
	}
	return l, nil
}

func packetConn(port Listener) (net.PacketConn, error) {
	file, err := duplicate(port.Fd(), port.String())
	if err != nil {
		return nil, err
	}
	defer file.Close()
	conn, err := net.FilePacketConn(file)
	if err != nil {
		return nil, fmt.Errorf("cannot make a packet connection of descriptor %d (%s): %w", port.Fd(), port, err)
	}
	return conn, nil
}

func duplicate(fd uintptr, spec string) (*os.File, error) {
	// F_DUPFD_CLOEXEC (fcntl(2)) and not dup(2): a program that another
	// goroutine starts right now must not get the copy.
	copied, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, firstFD)
	if err != nil {
		return nil, fmt.Errorf("cannot duplicate descriptor %d (%s): %w", fd, spec, err)
	}
	return os.NewFile(uintptr(copied), spec), nil
}

func notASocket(fd uintptr, spec string, err error) error {
	switch err {
	case unix.EBADF:
		return fmt.Errorf("descriptor %d (%s) is not open: was the server started through something that closes descriptors, such as sudo or a shell without exec? %w", fd, spec, err)
	case unix.ENOTSOCK:
		return fmt.Errorf("descriptor %d (%s) is not a socket: %w", fd, spec, err)
	}
	return fmt.Errorf("cannot examine descriptor %d (%s): %w", fd, spec, err)
}

func datagram(fd uintptr) bool {
	kind, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE)
	return err == nil && kind == unix.SOCK_DGRAM
}

// closeOnExec keeps the descriptor from programs that the server starts. An
// error is not told here: whoever uses the descriptor gets a better one.
func closeOnExec(fd uintptr) {
	unix.CloseOnExec(int(fd))
}

// activated lists the sockets that sd_listen_fds(3) tells of. LISTEN_PID must
// be this very process: a child that merely inherited the environment must not
// take its own descriptors from 3 on for sockets.
func activated() ([]Listener, error) {
	count, err := listenFDs()
	if err != nil {
		return nil, err
	}
	ports := make([]Listener, count)
	for i := range ports {
		fd := uintptr(firstFD + i)
		closeOnExec(fd)
		port, err := describe(fd)
		if err != nil {
			return nil, err
		}
		ports[i] = port
	}
	return ports, nil
}

func listenFDs() (int, error) {
	pid, fds := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	if pid == "" || fds == "" || pid != strconv.Itoa(os.Getpid()) {
		return 0, ErrNoListeningTarget
	}
	count, err := strconv.Atoi(fds)
	if err != nil || count < 0 || count > 1<<16 {
		return 0, fmt.Errorf("LISTEN_FDS is %q, but must be the number of sockets", fds)
	}
	if count == 0 {
		return 0, ErrNoListeningTarget
	}
	return count, nil
}

// describe finds out what a descriptor is that comes without a description.
func describe(fd uintptr) (Listener, error) {
	name := fmt.Sprintf("one of LISTEN_FDS=%s", os.Getenv("LISTEN_FDS"))
	address, err := unix.Getsockname(int(fd))
	if err != nil {
		return nil, notASocket(fd, name, err)
	}
	var host net.IP
	var port int
	switch a := address.(type) {
	case *unix.SockaddrUnix:
		return UnixListener{Path: a.Name, fd: fd}, nil
	case *unix.SockaddrInet4:
		host, port = a.Addr[:], a.Port
	case *unix.SockaddrInet6:
		host, port = a.Addr[:], a.Port
	default:
		return nil, fmt.Errorf("descriptor %d (%s) is neither an internet nor a unix socket", fd, name)
	}
	text := host.String()
	if strings.Contains(text, ":") {
		text = "[" + text + "]"
	}
	if datagram(fd) {
		return UDPListener{Addr: text, Port: port, fd: fd}, nil
	}
	return TCPListener{Addr: text, Port: port, fd: fd}, nil
}

func namedPorts(name string) ([]Listener, error) {
	count, err := listenFDs()
	if err == ErrNoListeningTarget {
		return nil, fmt.Errorf("no socket is named %q: LISTEN_FDS is %q and LISTEN_PID is %q, which must be this process, %d: %w",
			name, os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_PID"), os.Getpid(), err)
	}
	if err != nil {
		return nil, err
	}
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	var found []Listener
	for i := range count {
		if i >= len(names) || names[i] != name {
			continue
		}
		fd := uintptr(firstFD + i)
		closeOnExec(fd)
		port, err := describe(fd)
		if err != nil {
			return nil, err
		}
		found = append(found, port)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no socket is named %q: LISTEN_FDNAMES is %q", name, os.Getenv("LISTEN_FDNAMES"))
	}
	return found, nil
}
