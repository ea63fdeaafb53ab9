// Package sockets turns listener specs into listening sockets and describes
// them to the app.
//
// The invariant: a spec alone says which socket is meant. Parse does no I/O,
// Parse(spec.String()) gives the spec back, and two specs of one socket have
// the same Key whatever descriptor number or name they ask for.
//
// Read Spec and Parse first (the syntax), then Bind (what is done to the
// operating system), then Assign, PortVariable and ListenFDs (what the app is
// told).
package sockets

import (
	"fmt"
	"strconv"
	"strings"
)

// Network is the kind of a socket.
type Network uint8

// The kinds of sockets that can be bound.
const (
	TCP Network = iota + 1
	UDP
	UnixStream
	UnixDatagram
	UnixSeqpacket
)

// Unix reports whether n is an AF_UNIX socket.
func (n Network) Unix() bool { return n >= UnixStream }

// Listens reports whether connections are accepted from a socket of kind n.
func (n Network) Listens() bool { return n == TCP || n == UnixStream || n == UnixSeqpacket }

// String is the word for n in a spec's Key.
func (n Network) String() string {
	switch n {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case UnixStream:
		return "unix"
	case UnixDatagram:
		return "unixgram"
	case UnixSeqpacket:
		return "unixpacket"
	}
	return "network " + strconv.Itoa(int(n))
}

// Spec is one socket that is wanted, with what the app is told about it. It is
// comparable; the zero Spec is not valid.
type Spec struct {
	Network Network

	// Host and Port are for TCP and UDP. Host is as it was written, without
	// brackets; "" is any address, of IPv6 too unless OnlyIPv4. Port 0 lets the
	// kernel choose.
	Host string
	Port int

	// Path is for unix sockets: a file, or "@name" for the abstract namespace.
	Path string

	FD      int    // wanted number in the app, -1 for the next free one
	Name    string // for LISTEN_FDNAMES; "" for a name made from the address
	Backlog int    // 0 for the setting of the whole program

	// Nonblock is O_NONBLOCK, which all who have the socket share. An event loop with
	// several processes needs it: one whose connection another one has accepted
	// would wait in accept(2), and serve nobody meanwhile.
	Nonblock bool

	ReusePort bool // SO_REUSEPORT
	DualStack bool // a wildcard IPv6 socket takes IPv4 too (IPV6_V6ONLY off)

	Mode  int    // of a unix socket's file, -1 for 0777 as Server::Starter has it
	User  string // owner of a unix socket's file, name or number, "" leaves it
	Group string // group of a unix socket's file, name or number, "" leaves it

	// OnlyIPv4 leaves IPv6 out where there is no Host. No spec says so; Distinct
	// and KeepIPv4 do.
	OnlyIPv4 bool

	// Ordinal tells apart sockets that are written alike and are not the same:
	// the second of two with port 0, or with reuseport, has 1. Distinct sets it.
	Ordinal int
}

const (
	maxPort = 65535
	maxFD   = 1023 // RLIMIT_NOFILE's usual soft limit: numbers beyond may not exist
	maxPath = 107  // sockaddr_un.sun_path without its final 0, unix(7)
	maxName = 255  // sd_listen_fds(3)
)

// Syntax is the allowed form of a spec in a few words, for error messages.
const Syntax = "[host:]port[=fd], [v6]:port, u8080 for UDP, or tcp:, udp:, unix:ADDRESS[,option...]"

// Parse reads a spec:
//
//	8080                    TCP on any address, of IPv4 and of IPv6
//	0.0.0.0:8080            on any address of IPv4
//	127.0.0.1:8080=5        an address, passed as descriptor 5
//	[::1]:8080              IPv6
//	localhost:8080          a name from /etc/hosts, looked up when it is bound
//	*:8080, :8080           the same as 8080
//	u8080, 127.0.0.1:u8080  UDP
//	0                       a port that the kernel chooses
//
// and the longer form, NETWORK:ADDRESS with options after commas:
//
//	tcp:[::1]:8080,name=http,reuseport
//	udp:127.0.0.1:8080
//	unix:/run/app.sock,type=dgram,mode=0660,user=www,group=www
//	unix:@name              abstract; /run/app.sock and @name work without unix: too
//
// Options of every socket: name=NAME (for LISTEN_FDNAMES), fd=N (the same as
// =N after the port), backlog=N, nonblock. Of TCP and UDP: reuseport, v6only=no (IPv4
// as well on an IPv6 wildcard address that is written out; it is off otherwise, as
// in Server::Starter). Of unix: type=stream, dgram or seqpacket, mode=OCTAL, user=,
// group=.
//
// An error says what is wrong; which spec it is about, and where that was
// written, is the caller's to say.
func Parse(s string) (Spec, error) {
	text := strings.TrimSpace(s)
	address, options, _ := strings.Cut(text, ",")
	address = strings.TrimSpace(address)
	spec := Spec{FD: -1, Mode: -1}
	var err error
	switch scheme, rest, _ := strings.Cut(address, ":"); {
	case scheme == "unix":
		spec.Network = UnixStream
		err = spec.setPath(rest)
	case strings.HasPrefix(address, "/"), strings.HasPrefix(address, "@"):
		spec.Network = UnixStream
		err = spec.setPath(address)
	case scheme == "tcp":
		spec.Network = TCP
		err = spec.setAddress(rest)
	case scheme == "udp":
		spec.Network = UDP
		err = spec.setAddress(rest)
	default:
		spec.Network = TCP
		err = spec.setAddress(address)
	}
	if err == nil && strings.Contains(text, ",") {
		err = spec.setOptions(options)
	}
	if err != nil {
		return Spec{}, err
	}
	return spec, nil
}

// ParsePath reads the path of a unix stream socket, as --path has it: all of
// it is the path, commas too.
func ParsePath(s string) (Spec, error) {
	spec := Spec{Network: UnixStream, FD: -1, Mode: -1}
	if err := spec.setPath(s); err != nil {
		return Spec{}, err
	}
	return spec, nil
}

// setAddress reads [host:][u]port[=fd].
func (s *Spec) setAddress(text string) error {
	address, fd, hasFD := strings.Cut(text, "=")
	if hasFD {
		if err := s.setFD(fd); err != nil {
			return err
		}
	}
	host, port, hasHost := "", strings.TrimSpace(address), false
	if i := strings.LastIndexByte(port, ':'); i >= 0 {
		host, port, hasHost = strings.TrimSpace(port[:i]), strings.TrimSpace(port[i+1:]), true
	}
	if hasHost {
		if err := s.setHost(host); err != nil {
			return err
		}
	}
	if number, ok := strings.CutPrefix(port, "u"); ok {
		s.Network, port = UDP, number
	}
	n, err := number(port, 0, maxPort)
	if err != nil {
		return fmt.Errorf("the port must be a number from 1 to %d, or 0 for any", maxPort)
	}
	s.Port = n
	return nil
}

func (s *Spec) setHost(host string) error {
	inner, opened := strings.CutPrefix(host, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	if opened != closed {
		return fmt.Errorf("a bracket is missing: write an IPv6 address as [::1]:8080")
	}
	inner = strings.TrimSpace(inner)
	switch {
	case strings.Contains(inner, ":"):
		if !opened {
			return fmt.Errorf("an IPv6 address needs brackets: write [::1]:8080")
		}
		if _, _, ok := parseIPv6(inner); !ok {
			return fmt.Errorf("[%s] is not an IPv6 address", inner)
		}
	case inner == "*":
		inner = ""
	case strings.Trim(inner, "0123456789.") == "" && inner != "":
		if _, ok := parseIPv4(inner); !ok {
			return fmt.Errorf("%s is not an IPv4 address", inner)
		}
	case !hostname(inner):
		return fmt.Errorf("the host must be an address or a name")
	}
	s.Host = inner
	return nil
}

// hostname reports whether s may be a name or an IPv4 address. What is refused
// would be taken for another part of a spec, or of SERVER_STARTER_PORT.
func hostname(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '.', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

func (s *Spec) setPath(path string) error {
	switch {
	case path == "" || path == "@":
		return fmt.Errorf("the path of a unix socket is missing")
	case len(path) > maxPath:
		return fmt.Errorf("the path of a unix socket has at most %d bytes, this one has %d", maxPath, len(path))
	case strings.ContainsAny(path, ";="):
		return fmt.Errorf("the path of a unix socket may not have ';' or '=' in it: SERVER_STARTER_PORT could not be read")
	case strings.ContainsAny(path, "\x00\n"):
		return fmt.Errorf("the path of a unix socket may not have a zero byte or a line break in it")
	}
	s.Path = path
	return nil
}

func (s *Spec) setFD(text string) error {
	n, err := number(strings.TrimSpace(text), 0, maxFD)
	if err != nil {
		return fmt.Errorf("the descriptor after '=' must be a number from 0 to %d", maxFD)
	}
	s.FD = n
	return nil
}

func (s *Spec) setOptions(options string) error {
	for option := range strings.SplitSeq(options, ",") {
		key, value, hasValue := strings.Cut(strings.TrimSpace(option), "=")
		if err := s.setOption(key, value, hasValue); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spec) setOption(key, value string, hasValue bool) error {
	inet := !s.Network.Unix()
	switch {
	case key == "name":
		return s.setName(value)
	case key == "fd":
		return s.setFD(value)
	case key == "backlog":
		n, err := number(value, 1, 1<<30)
		if err != nil {
			return fmt.Errorf("backlog=%s: must be a number from 1", value)
		}
		s.Backlog = n
	case key == "nonblock" && !hasValue:
		s.Nonblock = true
	case key == "reuseport" && inet && !hasValue:
		s.ReusePort = true
	case key == "v6only" && inet:
		switch {
		case !hasValue || value == "yes":
			s.DualStack = false
		case value == "no":
			s.DualStack = true
		default:
			return fmt.Errorf("v6only=%s: must be yes or no", value)
		}
	case key == "type" && !inet:
		switch value {
		case "stream":
			s.Network = UnixStream
		case "dgram":
			s.Network = UnixDatagram
		case "seqpacket":
			s.Network = UnixSeqpacket
		default:
			return fmt.Errorf("type=%s: must be stream, dgram or seqpacket", value)
		}
	case key == "mode" && s.hasFile():
		n, err := strconv.ParseUint(value, 8, 12)
		if err != nil || n > 0o777 {
			return fmt.Errorf("mode=%s: must be octal, from 0 to 0777", value)
		}
		s.Mode = int(n)
	case (key == "user" || key == "group") && s.hasFile():
		if value == "" || strings.ContainsAny(value, ":\n") {
			return fmt.Errorf("%s=%s: must be a name or a number", key, value)
		}
		if key == "user" {
			s.User = value
		} else {
			s.Group = value
		}
	default:
		allowed := "name=, fd=, backlog=, nonblock, reuseport, v6only="
		if s.hasFile() {
			allowed = "name=, fd=, backlog=, nonblock, type=, mode=, user=, group="
		} else if !inet {
			allowed = "name=, fd=, backlog=, nonblock, type="
		}
		return fmt.Errorf("option %q is not known for this socket: allowed are %s", key, allowed)
	}
	return nil
}

// setName takes what sd_listen_fds_with_names(3) can carry: no control
// characters, no ':' (it separates names), at most 255 bytes.
func (s *Spec) setName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("name=%s: must have 1 to %d characters", name, maxName)
	}
	for _, c := range []byte(name) {
		if !nameByte(c) {
			return fmt.Errorf("name=%s: must be of printable ASCII characters without spaces, ':' and ';'", name)
		}
	}
	s.Name = name
	return nil
}

// nameByte leaves out ',' as well: it would end the name in a spec.
func nameByte(c byte) bool {
	return ' ' < c && c <= '~' && c != ':' && c != ';' && c != ','
}

// hasFile reports whether s is a unix socket with a name in the file system.
func (s Spec) hasFile() bool { return s.Network.Unix() && !strings.HasPrefix(s.Path, "@") }

// number reads a plain decimal number: no sign, no underscore.
func number(text string, low, high int) (int, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || int(n) < low || int(n) > high {
		return 0, strconv.ErrRange
	}
	return int(n), nil
}

// String is s as Parse reads it. Only a unix path with a comma, which ParsePath
// allows, can't be written so.
func (s Spec) String() string {
	var b strings.Builder
	switch {
	case s.Network.Unix():
		b.WriteString("unix:")
		b.WriteString(s.Path)
		switch s.Network {
		case UnixDatagram:
			b.WriteString(",type=dgram")
		case UnixSeqpacket:
			b.WriteString(",type=seqpacket")
		}
	default:
		if s.Network == UDP {
			b.WriteString("udp:")
		} else if s.Host == "tcp" || s.Host == "udp" || s.Host == "unix" {
			b.WriteString("tcp:") // else a host of that name would be read as the network
		}
		b.WriteString(s.hostPort())
	}
	if s.FD >= 0 {
		b.WriteString(",fd=")
		b.WriteString(strconv.Itoa(s.FD))
	}
	if s.Name != "" {
		b.WriteString(",name=")
		b.WriteString(s.Name)
	}
	if s.Backlog > 0 {
		b.WriteString(",backlog=")
		b.WriteString(strconv.Itoa(s.Backlog))
	}
	if s.Nonblock {
		b.WriteString(",nonblock")
	}
	if s.ReusePort {
		b.WriteString(",reuseport")
	}
	if s.DualStack {
		b.WriteString(",v6only=no")
	}
	if s.Mode >= 0 {
		b.WriteString(",mode=0")
		b.WriteString(strconv.FormatInt(int64(s.Mode), 8))
	}
	if s.User != "" {
		b.WriteString(",user=")
		b.WriteString(s.User)
	}
	if s.Group != "" {
		b.WriteString(",group=")
		b.WriteString(s.Group)
	}
	return b.String()
}

// hostPort is the address as Server::Starter writes it: a bare port without a
// host, brackets around IPv6.
func (s Spec) hostPort() string {
	port := strconv.Itoa(s.Port)
	switch {
	case s.Host == "":
		return port
	case strings.Contains(s.Host, ":"):
		return "[" + s.Host + "]:" + port
	}
	return s.Host + ":" + port
}

// Key identifies the socket, so that it is bound once and kept: what only
// decorates it (descriptor number, name, backlog, file mode) is not part of it.
func (s Spec) Key() string {
	key := s.Network.String() + ":"
	if s.Network.Unix() {
		key += s.Path
	} else {
		key += s.numeric().hostPort()
		if s.ReusePort {
			key += ",reuseport"
		}
	}
	if s.Ordinal > 0 {
		key += "#" + strconv.Itoa(s.Ordinal)
	}
	return key
}

// numeric is s with its host in the one form that its address has.
func (s Spec) numeric() Spec {
	if s.Host == "" {
		s.Host = "0.0.0.0"
	} else if a, zone, ok := parseIPv6(s.Host); ok {
		s.Host = formatIPv6(a, zone)
	}
	return s
}

// KeepIPv4 makes each port without an address one of IPv4 alone, as Server::Starter
// binds it.
func KeepIPv4(specs []Spec) {
	for i := range specs {
		specs[i].OnlyIPv4 = specs[i].bare()
	}
}

// bare reports whether s is a port without an address.
func (s Spec) bare() bool { return !s.Network.Unix() && s.Host == "" }

// separate leaves IPv6 out of a port that is asked for on an address of IPv6 as
// well: 80 and [::]:80 can be had together.
func separate(specs []Spec) {
	for i := range specs {
		for _, other := range specs {
			if specs[i].bare() && specs[i].Port != 0 && other.Network == specs[i].Network &&
				other.Port == specs[i].Port && strings.Contains(other.Host, ":") {
				specs[i].OnlyIPv4 = true
			}
		}
	}
}

// Distinct numbers the sockets that are written alike and are not the same (port
// 0, reuseport), and finds a socket that is asked for twice.
func Distinct(specs []Spec) error {
	separate(specs)
	seen := make(map[string]Spec, len(specs))
	for i := range specs {
		s := &specs[i]
		first, twice := seen[s.Key()]
		for twice && !s.Network.Unix() && (s.Port == 0 || s.ReusePort) {
			s.Ordinal++
			_, twice = seen[s.Key()]
		}
		if twice {
			return fmt.Errorf("%s and %s are the same socket: name it once", first, *s)
		}
		seen[s.Key()] = *s
	}
	return nil
}

// SplitList takes a list of specs apart, as HOTINIT_PORTS has it: commas,
// semicolons and white space separate specs, but an option after a comma
// belongs to the spec before it.
func SplitList(text string) []string {
	var list []string
	for _, group := range strings.FieldsFunc(text, func(r rune) bool { return r == ';' || r == ' ' || r == '\t' || r == '\n' }) {
		for i, part := range strings.Split(group, ",") {
			switch {
			case i > 0 && isOption(part) && len(list) > 0:
				list[len(list)-1] += "," + part
			case part != "":
				list = append(list, part)
			}
		}
	}
	return list
}

func isOption(text string) bool {
	key, _, _ := strings.Cut(text, "=")
	switch key {
	case "name", "fd", "backlog", "nonblock", "reuseport", "v6only", "type", "mode", "user", "group":
		return true
	}
	return false
}
