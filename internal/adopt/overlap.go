package adopt

import (
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds how long a bind waits until init has closed what was let go.
const patience = 500 * time.Millisecond

// makeRoom lets go of the sockets that would keep the kernel from binding an app's
// socket although the app has closed them: it may have tried whether a port is free
// on one address, to serve it on all of them. k is what it binds now, and try
// attempts the same; it fails with EADDRINUSE as the app's bind would.
func (a *Adopter) makeRoom(k key, try func() unix.Errno) {
	overlaps := func(h *held) bool { return h.key != k && h.key.overlaps(k) }
	if !slices.ContainsFunc(a.held, overlaps) {
		return
	}
	// Two datagram sockets may have the port (SO_REUSEADDR): one that nobody reads
	// would get what is sent to its address.
	if k.kind != unix.SOCK_DGRAM && try() != unix.EADDRINUSE {
		return
	}
	closed := false
	a.held = slices.DeleteFunc(a.held, func(h *held) bool {
		if !overlaps(h) || a.openAnywhere(h) {
			return false
		}
		a.release(h)
		closed = true
		return true
	})
	if !closed {
		return
	}
	for end := time.Now().Add(patience); try() == unix.EADDRINUSE && time.Now().Before(end); {
		time.Sleep(100 * time.Microsecond) // nothing tells when init has closed it
	}
}

// trial returns a function that attempts to bind a socket like the app's own, and
// closes it again.
func (s *socket) trial(raw []byte) func() unix.Errno {
	return func() unix.Errno {
		fd, err := unix.Socket(s.key.domain, s.key.kind|unix.SOCK_CLOEXEC, s.protocol)
		if err != nil {
			return 0
		}
		defer unix.Close(fd)
		carryOptions(fd, s.own)
		if s.key.domain == unix.AF_INET6 {
			only := 0
			if boolean(s.own, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY) {
				only = 1
			}
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only)
		}
		if s.key.device != "" {
			_ = unix.BindToDevice(fd, s.key.device)
		}
		return bindRaw(fd, raw)
	}
}

// LetGo lets go of the sockets that no process has open any more: who connects is
// refused then, as without hotinit, and does not wait for ever. It reports whether
// there were any. Those of an instance of which no generation serves are its next one's.
func (a *Adopter) LetGo() (any bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.serves) == 0 || len(a.gens) == 0 {
		return false
	}
	a.held = slices.DeleteFunc(a.held, func(h *held) bool {
		if h.undecided || h.key.kind == unix.SOCK_DGRAM || len(h.by) == 0 && a.awaited() || a.openAnywhere(h) {
			return false
		}
		a.release(h)
		any = true
		return true
	})
	return any
}

const (
	anyPort = 2 // bytes of a place that are the port
	mapped4 = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff"
)

// overlaps reports whether the kernel may refuse one of two addresses while the
// other one is bound. Where it says yes too often, nothing is lost: the kernel is
// asked next.
func (k key) overlaps(o key) bool {
	if k.domain == unix.AF_UNIX || o.domain == unix.AF_UNIX || k.kind != o.kind || k.place[:anyPort] != o.place[:anyPort] {
		return false
	}
	if k.device != "" && o.device != "" && k.device != o.device {
		return false
	}
	if k.domain != o.domain && (k.v6only || o.v6only) {
		return false
	}
	x, y := k.host(), o.host()
	return x == "" || y == "" || x == y
}

// host is the address without its port, "" for any; one of IPv4 the same in both
// families.
func (k key) host() string {
	h := k.place[anyPort:]
	if k.domain == unix.AF_INET6 {
		h = strings.TrimPrefix(h, mapped4)
	}
	if strings.Trim(h, "\x00") == "" {
		return ""
	}
	return h
}
