package sockets

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// hostsFile is hosts(5).
const hostsFile = "/etc/hosts"

// parseIPv4 reads a dotted address.
func parseIPv4(s string) (a [4]byte, ok bool) {
	for i := range a {
		part, rest, more := strings.Cut(s, ".")
		if more != (i < 3) {
			return a, false
		}
		n, err := number(part, 0, 255)
		if err != nil || len(part) > 1 && part[0] == '0' { // inet_aton(3) takes 010 for 8
			return a, false
		}
		a[i], s = byte(n), rest
	}
	return a, true
}

// parseIPv6 reads an address of RFC 4291, section 2.2, and the zone after '%'.
func parseIPv6(s string) (a [16]byte, zone string, ok bool) {
	s, zone, zoned := strings.Cut(s, "%")
	if zoned && (zone == "" || strings.ContainsAny(zone, "%[];=,: ")) {
		return a, "", false
	}
	head, tail, short := strings.Cut(s, "::")
	front, ok := parseGroups(head, !short)
	if !ok {
		return a, "", false
	}
	if !short {
		if len(front) != 16 {
			return a, "", false
		}
		copy(a[:], front)
		return a, zone, true
	}
	back, ok := parseGroups(tail, true)
	if !ok || len(front)+len(back) > 14 {
		return a, "", false
	}
	copy(a[:], front)
	copy(a[16-len(back):], back)
	return a, zone, true
}

// parseGroups reads groups of 16 bits, the last of which may be an IPv4 address
// where last says that they end the whole address.
func parseGroups(s string, last bool) (b []byte, ok bool) {
	if s == "" {
		return nil, true
	}
	for more := true; more; {
		var group string
		group, s, more = strings.Cut(s, ":")
		if strings.Contains(group, ".") {
			a, ok := parseIPv4(group)
			return append(b, a[:]...), ok && last && !more
		}
		n, err := strconv.ParseUint(group, 16, 16)
		if err != nil || len(group) > 4 {
			return nil, false
		}
		b = append(b, byte(n>>8), byte(n))
	}
	return b, len(b) <= 16
}

// formatIPv6 writes the form of RFC 5952: lower case, the longest run of two
// or more zero groups as "::".
func formatIPv6(a [16]byte, zone string) string {
	group := func(i int) uint64 { return uint64(a[2*i])<<8 | uint64(a[2*i+1]) }
	start, length := -1, 1
	for i := 0; i < 8; i++ {
		j := i
		for j < 8 && group(j) == 0 {
			j++
		}
		if j-i > length {
			start, length = i, j-i
		}
		if j > i {
			i = j - 1
		}
	}
	var b []byte
	for i := 0; i < 8; i++ {
		if i == start {
			b = append(b, "::"...)
			i += length - 1
			continue
		}
		if i > 0 && i != start+length {
			b = append(b, ':')
		}
		b = strconv.AppendUint(b, group(i), 16)
	}
	if zone != "" {
		b = append(b, '%')
		b = append(b, zone...)
	}
	return string(b)
}

func formatIPv4(a [4]byte) string {
	b := strconv.AppendUint(nil, uint64(a[0]), 10)
	for _, n := range a[1:] {
		b = strconv.AppendUint(append(b, '.'), uint64(n), 10)
	}
	return string(b)
}

// sockaddr finds the address to bind. Names are looked up in /etc/hosts alone:
// a listener's address is one of this machine's own, and a resolver that waits
// for a name server has no place in a PID 1.
func (s Spec) sockaddr() (unix.Sockaddr, int, error) {
	if s.Network.Unix() {
		return &unix.SockaddrUnix{Name: s.Path}, unix.AF_UNIX, nil
	}
	if s.Host == "" {
		return &unix.SockaddrInet4{Port: s.Port}, unix.AF_INET, nil
	}
	host := s.Host
	sa, family, err := numericSockaddr(host, s.Port)
	if sa != nil || err != nil {
		return sa, family, err
	}
	address, err := lookupHost(host)
	if err != nil {
		return nil, 0, err
	}
	return numericSockaddr(address, s.Port)
}

// numericSockaddr is nil without an error if host is a name.
func numericSockaddr(host string, port int) (unix.Sockaddr, int, error) {
	if a, ok := parseIPv4(host); ok {
		return &unix.SockaddrInet4{Port: port, Addr: a}, unix.AF_INET, nil
	}
	a, zone, ok := parseIPv6(host)
	if !ok {
		return nil, 0, nil
	}
	sa := &unix.SockaddrInet6{Port: port, Addr: a}
	if zone != "" {
		id, err := interfaceIndex(zone)
		if err != nil {
			return nil, 0, err
		}
		sa.ZoneId = id
	}
	return sa, unix.AF_INET6, nil
}

// interfaceIndex finds a network interface by name (netdevice(7)) or number.
func interfaceIndex(zone string) (uint32, error) {
	if n, err := strconv.ParseUint(zone, 10, 31); err == nil {
		return uint32(n), nil
	}
	request, err := unix.NewIfreq(zone)
	if err != nil {
		return 0, fmt.Errorf("%q is not the name of a network interface", zone)
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("cannot look for network interface %q: %v", zone, err)
	}
	defer unix.Close(fd)
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request); err != nil {
		return 0, fmt.Errorf("there is no network interface %q: %v", zone, err)
	}
	return request.Uint32(), nil
}

// lookupHost takes the first IPv4 address of a name, as gethostbyname(3) does
// for Server::Starter, else the first IPv6 address.
func lookupHost(host string) (string, error) {
	content, err := os.ReadFile(hostsFile)
	if err != nil && host != "localhost" {
		return "", fmt.Errorf("host %q is not known: cannot read %s: %v", host, hostsFile, err)
	}
	if address, ok := findHost(string(content), host); ok {
		return address, nil
	}
	if strings.EqualFold(host, "localhost") {
		return "127.0.0.1", nil
	}
	return "", fmt.Errorf("host %q is not known: it is not in %s (name servers are not asked; give an address)", host, hostsFile)
}

func findHost(hosts, host string) (address string, ok bool) {
	for line := range strings.Lines(hosts) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		for i := 1; i < len(fields); i++ {
			if !strings.EqualFold(fields[i], host) {
				continue
			}
			if _, v4 := parseIPv4(fields[0]); v4 {
				return fields[0], true
			}
			if _, _, v6 := parseIPv6(fields[0]); v6 && address == "" {
				address = fields[0]
			}
		}
	}
	return address, address != ""
}
