package adopt

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket is the app's descriptor that a call is about.
type socket struct {
	fd       int    // its number in the app
	own      int    // a descriptor of ours for it, -1 where it cannot be taken
	inode    uint64 // which socket it is
	key      key    // without an address
	protocol int
	flags    int // O_CLOEXEC, O_NONBLOCK
}

func (s *socket) close() {
	if s.own >= 0 {
		unix.Close(s.own)
	}
}

// look reads what the call is about. err is nil, or why it cannot be told; a nil
// socket is none of ours.
func (a *Adopter) look(n *notification) (*process, *socket, error) {
	if n.pid == 0 {
		return nil, nil, nil // it is in another PID namespace, and not below ours
	}
	p, err := findProcess(n.pid)
	if err != nil {
		return nil, nil, err
	}
	if same, err := p.sameNet(); err != nil || !same {
		return p, nil, err
	}
	s := &socket{fd: int(int32(n.args[0])), own: -1}
	if s.inode, err = p.inode(s.fd); err != nil {
		if err == unix.ENOTSOCK || isNotThere(err) {
			return p, nil, nil
		}
		return p, nil, err
	}
	if s.flags, err = p.flags(s.fd); err != nil {
		return p, nil, err
	}
	if a.take {
		if s.own, err = p.take(s.fd, s.inode); err != nil {
			return p, nil, err
		}
		if s.key, s.protocol, err = kindOf(s.own); err != nil {
			s.close()
			return p, nil, err
		}
	} else {
		name, err := p.protocol(s.fd)
		if err != nil {
			return p, nil, err
		}
		k, ok := protocols[name]
		if !ok {
			return p, nil, nil
		}
		s.key.domain, s.key.kind, s.protocol = k.domain, k.kind, k.protocol
	}
	if !adoptable(s.key.domain, s.key.kind, s.protocol) {
		s.close()
		return p, nil, nil
	}
	return p, s, nil
}

func isNotThere(err error) bool { return os.IsNotExist(err) }

// unreadable says once for each generation that it cannot be looked at.
func (a *Adopter) unreadable(g *generation, err error) {
	if g.told || !denied(err) {
		return
	}
	g.told = true
	a.host.Say(g.n, "cannot look at generation %d, which binds a socket (%v): the kernel deals with it, and the next generation cannot have it; --adopt off turns this off", g.n.N, err)
}

// refused says once for each generation that a socket cannot be held.
func (a *Adopter) refused(g *generation, err error) {
	if !g.told {
		g.told = true
		a.host.Say(g.n, "%v: the kernel deals with it, and the next generation cannot have it", err)
	}
}

// bind decides about bind(2): sockfd, addr, addrlen.
func (a *Adopter) bind(g *generation, n *notification) answer {
	size := int32(n.args[2])
	if size < 2 || size > maxSockaddr {
		return kernel // EINVAL
	}
	p, s, err := a.look(n)
	if err != nil {
		a.unreadable(g, err)
	}
	if err != nil || s == nil {
		return kernel
	}
	defer s.close()
	raw := make([]byte, size)
	if err := p.readMemory(n.args[1], raw); err != nil {
		a.unreadable(g, err)
		return kernel // EFAULT, if it is the app's
	}
	if !valid(g.fd, n.id) {
		return kernel // nobody waits for it
	}

	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.takesPart(g.n) {
		return kernel
	}
	if h := a.findInode(s.inode); h != nil {
		if g.slot.done != 0 || g.lost[callOf(n)] == h.inode {
			return answer{} // its descriptor was replaced, and only the answer was lost
		}
		return kernel // EINVAL: it is bound
	}
	addr, ok := parseAddress(raw)
	switch {
	case !ok:
		if ephemeral(raw) {
			a.noteEphemeral(s.inode)
		} else if path := pathOf(raw); path != "" {
			a.notePath(s.inode, path)
		}
		return kernel
	case int(addr.family) != s.key.domain:
		return kernel // the kernel knows which error it is
	case a.ports[s.inode]:
		return kernel // EINVAL: the kernel has bound it
	case addr.port != 0 && int(addr.port) < unprivilegedPorts() && p.caps&(1<<unix.CAP_NET_BIND_SERVICE) == 0:
		return kernel // EACCES
	case s.own >= 0 && isBound(s):
		return kernel // EINVAL
	}
	if !a.take {
		a.keyFromNotes(s)
	}
	s.key = s.key.at(addr)
	if !a.awaitListen(g, n, s) {
		return kernel
	}
	return a.give(g, n, p, s, raw)
}

// isBound reports whether the app's own socket is bound.
func isBound(s *socket) bool { return bound(s.own, s.key.domain) }

func bound(fd, domain int) bool {
	b, err := sockname(fd)
	if err != nil {
		return true
	}
	if domain == unix.AF_UNIX {
		return len(b) > 2
	}
	return len(b) >= inetLen && (b[2] != 0 || b[3] != 0)
}

// give puts a held socket in the place of the app's, or leaves the bind to the
// kernel. What the app asks for is in s.key and raw.
func (a *Adopter) give(g *generation, n *notification, p *process, s *socket, raw []byte) answer {
	h := a.find(s.key, g.n)
	if h != nil && h.key.kind == unix.SOCK_DGRAM && connected(h.fd) {
		a.forget(h) // it is a client's
		h = nil
	}
	if h != nil && h.key.kind != unix.SOCK_DGRAM && !listening(h.fd) {
		switch {
		case !h.undecided:
			a.forget(h) // it was shut down, or never came to listen
			h = nil
		case a.openAnywhere(h):
			return kernel // EADDRINUSE
		}
	}
	if h == nil && a.take {
		if s.key.kind == unix.SOCK_DGRAM {
			h = a.search(g, s)
		}
		if h == nil { // and it is taken when it starts to listen
			a.makeRoom(s.key, s.trial(raw))
			a.binds(g, p, s)
			return kernel
		}
	}
	if h == nil {
		var errno unix.Errno
		if h, errno = a.make(g, s, raw); h == nil {
			if errno == 0 {
				return kernel
			}
			return answer{errno: errno}
		}
	} else if h.by[g.n] && a.open(h, g.n) && !a.grouped(h, s) {
		return kernel // EADDRINUSE, as this generation has it
	}
	a.dress(h, s)
	return a.hand(g, n, h, s)
}

// grouped reports whether a socket is one of a group (SO_REUSEPORT) with the held
// one. The whole group shares one socket: with one queue nothing is cut off when
// the group shrinks.
func (a *Adopter) grouped(h *held, s *socket) bool {
	return a.sets(s, unix.SO_REUSEPORT) && boolean(h.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT)
}

// sets reports whether the app has set an option of its own socket.
func (a *Adopter) sets(s *socket, option int) (set bool) {
	if s.own >= 0 {
		return boolean(s.own, unix.SOL_SOCKET, option)
	}
	a.journal.noted(s.inode, func(level, name int, value []byte) {
		if level == unix.SOL_SOCKET && name == option {
			set = number(value) != 0
		}
	})
	return set
}

// dress gives the held socket the options of the app's own.
func (a *Adopter) dress(h *held, s *socket) {
	if s.own >= 0 {
		carryOptions(h.fd, s.own)
	} else {
		a.journal.noted(s.inode, func(level, name int, value []byte) {
			if level != unix.IPPROTO_IPV6 || name != unix.IPV6_V6ONLY {
				_ = setsockopt(h.fd, level, name, value)
			}
		})
	}
	// It belongs to the socket, which all share; the newest one's wish counts.
	_ = unix.SetNonblock(h.fd, s.flags&unix.O_NONBLOCK != 0)
}

// hand replaces the app's descriptor.
func (a *Adopter) hand(g *generation, n *notification, h *held, s *socket) answer {
	if err := replace(g.fd, n.id, h.fd, s.fd, s.flags&unix.O_CLOEXEC != 0); err != nil {
		return kernel // nobody waits any more, or the kernel has the error
	}
	g.slot.done = 1
	a.moment("replaced")
	if len(g.lost) >= most {
		clear(g.lost)
	}
	g.lost[callOf(n)] = h.inode // until it is answered
	fresh := len(h.by) == 0
	h.by[g.n] = true
	if h.key.kind == unix.SOCK_DGRAM && !h.heard[g.n] {
		a.hears(g.n, h, fresh)
	}
	return answer{}
}

// call names one call of one thread.
type call struct {
	pid  uint32
	args [3]uint64
}

func callOf(n *notification) call { return call{n.pid, [3]uint64(n.args[:3])} }

// make makes the socket that the app wants bound, where its own cannot be taken.
// Without a socket and an error the kernel is to do it.
func (a *Adopter) make(g *generation, s *socket, raw []byte) (*held, unix.Errno) {
	fd, err := unix.Socket(s.key.domain, s.key.kind|unix.SOCK_CLOEXEC, s.protocol)
	if err != nil {
		return nil, 0
	}
	a.journal.noted(s.inode, func(level, name int, value []byte) { _ = setsockopt(fd, level, name, value) })
	bound := unix.EINVAL // a bind that succeeds is not tried again
	try := func() unix.Errno {
		if bound != 0 {
			bound = bindRaw(fd, raw)
		}
		return bound
	}
	a.makeRoom(s.key, try)
	if err := try(); err != 0 {
		unix.Close(fd)
		return nil, err
	}
	h, err := a.hold(fd, s.key)
	if err != nil {
		unix.Close(fd)
		a.refused(g, err)
		return nil, 0
	}
	h.undecided = true
	a.watchMade()
	return h, 0
}

// keyFromNotes completes a key by the options that were seen set.
func (a *Adopter) keyFromNotes(s *socket) {
	if s.key.domain == unix.AF_INET6 {
		s.key.v6only = bindV6Only()
	}
	a.journal.noted(s.inode, func(level, name int, value []byte) {
		switch {
		case level == unix.SOL_SOCKET && name == unix.SO_BINDTODEVICE:
			s.key.device = unix.ByteSliceToString(value)
		case level == unix.IPPROTO_IPV6 && name == unix.IPV6_V6ONLY && s.key.domain == unix.AF_INET6:
			s.key.v6only = number(value) != 0
		}
	})
}

// bindV6Only is the default of IPV6_V6ONLY.
func bindV6Only() bool {
	b, err := os.ReadFile("/proc/sys/net/ipv6/bindv6only")
	return err == nil && strings.TrimSpace(string(b)) == "1"
}

// unprivilegedPorts is the first port that needs no privilege.
func unprivilegedPorts() int {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	n, errN := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || errN != nil {
		return 1024
	}
	return n
}

// most bounds what is remembered of sockets that the kernel chose a port for.
const most = 4096

func (a *Adopter) noteEphemeral(inode uint64) {
	if len(a.ports) >= most {
		clear(a.ports)
	}
	a.ports[inode] = true
}

func (a *Adopter) notePath(inode uint64, path string) {
	if len(a.bound) >= most {
		clear(a.bound)
	}
	a.bound[inode] = path
}

// listen decides about listen(2): sockfd, backlog. The kernel does it; but a
// socket that is bound to an address of its own is held from now on.
func (a *Adopter) listen(g *generation, n *notification) answer {
	p, s, err := a.look(n)
	if err != nil {
		a.unreadable(g, err)
	}
	if err != nil || s == nil {
		return kernel
	}
	defer s.close()
	if s.key.kind == unix.SOCK_DGRAM || !valid(g.fd, n.id) {
		return kernel
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.takesPart(g.n) {
		return kernel
	}
	a.between = slices.DeleteFunc(a.between, func(b binding) bool { return b.inode == s.inode })
	if h := a.findInode(s.inode); h != nil {
		adopted := h.undecided
		h.undecided = false
		if first := !h.heard[g.n]; first {
			a.hears(g.n, h, adopted)
		}
		return kernel
	}
	if path := a.bound[s.inode]; path != "" {
		delete(a.bound, s.inode)
		a.guardNew(g, p, path, s.inode)
		return kernel
	}
	if s.own < 0 || a.ports[s.inode] {
		return kernel
	}
	k, ok := keyOf(s.own)
	if !ok {
		return kernel
	}
	if h := a.find(k, g.n); h != nil {
		// Another one of a group, whose sockets were all bound before the first
		// of them was held.
		if a.grouped(h, s) && replace(g.fd, n.id, h.fd, s.fd, s.flags&unix.O_CLOEXEC != 0) == nil {
			a.dress(h, s)
			if !h.heard[g.n] {
				a.hears(g.n, h, false)
			}
		}
		return kernel
	}
	h, err := a.hold(s.own, k)
	if err != nil {
		a.refused(g, err)
		return kernel
	}
	s.own = -1
	a.hears(g.n, h, true)
	return kernel
}

// shutdown decides about shutdown(2): sockfd, how. It comes with each connection
// of some servers, so as little as possible is read.
func (a *Adopter) shutdown(n *notification) answer {
	inode, err := socketInode("/proc/" + strconv.Itoa(int(n.pid)) + "/fd/" + strconv.Itoa(int(int32(n.args[0]))))
	if denied(err) {
		var p *process
		if p, err = findProcess(n.pid); err == nil {
			inode, err = p.inode(int(int32(n.args[0])))
		}
	}
	if err != nil {
		return kernel
	}
	switch int32(n.args[1]) {
	case unix.SHUT_RD, unix.SHUT_RDWR:
	default:
		return kernel // EINVAL
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	h := a.findInode(inode)
	if a.passed[inode] || h != nil && (h.key.kind == unix.SOCK_DGRAM || listening(h.fd)) {
		return answer{}
	}
	return kernel
}

// option notes what setsockopt(2) sets: sockfd, level, optname, optval, optlen.
func (a *Adopter) option(g *generation, n *notification) answer {
	size := int32(n.args[4])
	if size < 1 || size > noteBytes {
		return kernel
	}
	p, err := findProcess(n.pid)
	if err != nil {
		return kernel
	}
	inode, err := p.inode(int(int32(n.args[0])))
	if err != nil {
		a.unreadable(g, err)
		return kernel
	}
	value := make([]byte, size)
	if p.readMemory(n.args[3], value) != nil || !valid(g.fd, n.id) {
		return kernel
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.findInode(inode) == nil { // else the kernel sets it on the shared one
		a.journal.note(inode, int(int32(n.args[1])), int(int32(n.args[2])), value)
	}
	return kernel
}

func bindRaw(fd int, raw []byte) unix.Errno {
	_, _, e := syscall.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(raw))), uintptr(len(raw)))
	return e
}
