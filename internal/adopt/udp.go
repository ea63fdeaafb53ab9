package adopt

import (
	"encoding/binary"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// search looks for a UDP socket that another generation has open, as nothing
// tells when one begins to serve.
func (a *Adopter) search(g *generation, s *socket) *held {
	k, all := s.key, a.processes()
	for n := range a.gens {
		if n == g.n || n.Instance != g.n.Instance && a.apart(s) {
			continue
		}
		pids, _ := all.of(n)
		for _, pid := range pids {
			if fd := takeUDP(pid, k); fd >= 0 {
				h, err := a.hold(fd, k)
				if err != nil {
					unix.Close(fd)
					a.refused(g, err)
					return nil
				}
				a.hears(n, h, true)
				return h
			}
		}
	}
	return nil
}

// apart is held.apart of a socket of the app.
func (a *Adopter) apart(s *socket) bool {
	return s.key.kind == unix.SOCK_DGRAM && (a.sets(s, unix.SO_REUSEPORT) || a.sets(s, unix.SO_REUSEADDR))
}

// takeUDP returns the UDP socket that a process has bound to an address and not
// connected, or -1.
func takeUDP(pid int, k key) int {
	table := "/proc/net/udp"
	if k.domain == unix.AF_INET6 {
		table = "/proc/net/udp6"
	}
	b, err := os.ReadFile(table)
	if err != nil {
		return -1
	}
	port := binary.BigEndian.Uint16([]byte(k.place))
	there := make(map[uint64]bool)
	for line := range strings.Lines(string(b)) {
		// "sl local_address rem_address st tx:rx tr:when retr uid timeout inode"
		f := strings.Fields(line)
		if len(f) < 10 {
			continue
		}
		_, local, _ := strings.Cut(f[1], ":")
		if n, err := strconv.ParseUint(local, 16, 16); err != nil || uint16(n) != port {
			continue
		}
		if inode, err := strconv.ParseUint(f[9], 10, 64); err == nil {
			there[inode] = true
		}
	}
	if len(there) == 0 {
		return -1
	}
	found := -1
	takeEach(pid, func(inode uint64) bool { return there[inode] }, func(_ int, _ uint64, fd int) bool {
		if is, ok := keyOf(fd); ok && is == k && !connected(fd) {
			found = fd
		}
		return found >= 0
	})
	return found
}
