package sockets

import (
	"fmt"
	"path"
	"strconv"
	"strings"
)

// firstFD is SD_LISTEN_FDS_START of sd_listen_fds(3), and the first number that
// Server::Starter's sockets get.
const firstFD = 3

// Assign gives each spec its number in the app: the one that it asks for, else
// the next free one from 3 on, in order.
func Assign(specs []Spec) ([]int, error) {
	numbers := make([]int, len(specs))
	taken := make(map[int]Spec, len(specs))
	for i, s := range specs {
		numbers[i] = s.FD
		if s.FD < 0 {
			continue
		}
		if other, ok := taken[s.FD]; ok {
			return nil, fmt.Errorf("%s and %s ask for the same descriptor %d: give one of them another number", other, s, s.FD)
		}
		taken[s.FD] = s
	}
	next := firstFD
	for i := range numbers {
		if numbers[i] >= 0 {
			continue
		}
		for {
			if _, ok := taken[next]; !ok {
				break
			}
			next++
		}
		numbers[i] = next
		next++
	}
	return numbers, nil
}

// ServerStarter is s as an element of SERVER_STARTER_PORT: the host as it was
// asked for, the port alone where there was none. With port 0, s must be what
// Bound returned.
func (s Spec) ServerStarter(fd int) string {
	if s.Network.Unix() {
		return s.Path + "=" + strconv.Itoa(fd)
	}
	return s.hostPort() + "=" + strconv.Itoa(fd)
}

// PortVariable is SERVER_STARTER_PORT for all of specs, which have the numbers
// fds. Server::Starter writes a UDP socket like a TCP socket, and its readers
// keep one per port; so where both have the same port, the UDP socket is
// written as it is asked for, with a u before the port.
func PortVariable(specs []Spec, fds []int) string {
	var b strings.Builder
	for i, s := range specs {
		if i > 0 {
			b.WriteByte(';')
		}
		text := s.ServerStarter(fds[i])
		if s.Network == UDP && hasTCP(specs, s) {
			colon := strings.LastIndexByte(text, ':')
			text = text[:colon+1] + "u" + text[colon+1:]
		}
		b.WriteString(text)
	}
	return b.String()
}

func hasTCP(specs []Spec, udp Spec) bool {
	for _, s := range specs {
		if s.Network == TCP && s.hostPort() == udp.hostPort() {
			return true
		}
	}
	return false
}

// ListenFDs is what sd_listen_fds(3) reads: how many sockets there are from
// descriptor 3 on without a gap, and their names with colons between. A socket
// that asked for a number beyond the gap is not among them: that protocol can't
// say where it is, SERVER_STARTER_PORT can.
func ListenFDs(specs []Spec, fds []int) (count int, names string) {
	var list []string
	for {
		i := index(fds, firstFD+count)
		if i < 0 {
			return count, strings.Join(list, ":")
		}
		list = append(list, specs[i].FDName())
		count++
	}
}

func index(numbers []int, n int) int {
	for i, m := range numbers {
		if m == n {
			return i
		}
	}
	return -1
}

// FDName is the name for LISTEN_FDNAMES: the one given, else the port ("8080",
// "u8080" for UDP) or the last part of the path.
func (s Spec) FDName() string {
	if s.Name != "" {
		return s.Name
	}
	if !s.Network.Unix() {
		name := strconv.Itoa(s.Port)
		if s.Network == UDP {
			name = "u" + name
		}
		return name
	}
	return fdName(strings.TrimPrefix(path.Base(s.Path), "@"))
}

// fdName replaces what setName refuses.
func fdName(text string) string {
	name := []byte(text[:min(len(text), maxName)])
	for i, c := range name {
		if !nameByte(c) {
			name[i] = '_'
		}
	}
	return string(name)
}
