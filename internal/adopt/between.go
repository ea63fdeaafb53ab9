package adopt

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/proc"
)

// Instances start at the same time, and between bind(2) and listen(2) there is no
// socket that they could share. So the bind of a second one waits for the listen of the
// first.

// listenWithin bounds how long a bind waits. Then the kernel decides: EADDRINUSE.
const listenWithin = time.Second

// binding is a socket that the kernel was left to bind, and that nobody listens on yet.
type binding struct {
	by    Gen
	pid   int
	fd    int // its number in the process
	inode uint64
	key   key
}

// binds notes that the kernel is left to bind a socket.
func (a *Adopter) binds(g *generation, p *process, s *socket) {
	if len(a.serves) > 1 && len(a.between) < most {
		a.between = append(a.between, binding{g.n, p.tgid, s.fd, s.inode, s.key})
	}
}

// awaitListen waits while another generation is between bind and listen of the address
// that s is to be bound to. It reports whether s is still to be bound. The caller has the
// lock, which nobody has while this waits.
func (a *Adopter) awaitListen(g *generation, n *notification, s *socket) bool {
	if len(a.serves) < 2 || a.apart(s) {
		return true
	}
	end, comes := time.Now().Add(listenWithin), a.comes(g.n, s.key)
	// Nothing tells when the kernel has done what it was left to do. After the last look
	// it may be about to close a socket.
	for wait := time.Millisecond; comes && time.Now().Before(end); wait = min(2*wait, 20*time.Millisecond) {
		comes = a.comes(g.n, s.key)
		a.mu.Unlock()
		a.moment("waits")
		time.Sleep(wait)
		a.mu.Lock()
		if !a.takesPart(g.n) || !valid(g.fd, n.id) {
			return false
		}
	}
	return true
}

// comes reports whether there is about to be a socket for k that generation n can share.
func (a *Adopter) comes(n Gen, k key) bool {
	if h := a.find(k, n); h != nil {
		return k.kind != unix.SOCK_DGRAM && !listening(h.fd) && a.listensSoon(h, n)
	}
	comes := false
	a.between = slices.DeleteFunc(a.between, func(b binding) bool {
		switch {
		case b.by == n || b.key != k:
			return false
		case !a.waits(&b):
			return true
		}
		comes = true
		return false
	})
	return comes
}

// listensSoon reports whether another generation than n has bound a held socket and is
// about to listen on it.
func (a *Adopter) listensSoon(h *held, n Gen) bool {
	for o := range h.by {
		switch {
		case o == n || a.gens[o] == nil:
		case !h.undecided: // the listen may have been left to the kernel just now
			if time.Since(a.last[o]) < listenWithin {
				return true
			}
		case !h.client() && a.open(h, o):
			return true
		}
	}
	return false
}

// waits reports whether a socket may be listened on, or found, in a moment: the app has it
// open, and it is no client's.
func (a *Adopter) waits(b *binding) bool {
	if !a.takesPart(b.by) {
		return false
	}
	st, err := proc.Read(b.pid)
	if err != nil {
		return false
	}
	fd, err := (&process{tgid: b.pid}).take(b.fd, b.inode)
	if err != nil {
		// While it ends, one of its threads may have the socket still, though the
		// kernel has told already that nobody makes calls any more.
		return (err == unix.ESRCH || st.State == 'Z') && st.Alive()
	}
	defer unix.Close(fd)
	if b.key.kind == unix.SOCK_DGRAM {
		return !bound(fd, b.key.domain) // and then it is searched for
	}
	h := held{fd: fd, key: b.key}
	return !listening(fd) && !h.client()
}

// resumeBetween finds the sockets that the last handoff has left the kernel to bind, where
// a bind of another instance may have waited for one.
func (a *Adopter) resumeBetween(all *processes) {
	for n := range a.gens {
		pids, _ := all.of(n)
		for _, pid := range pids {
			a.between = append(a.between, boundBy(n, pid)...)
		}
	}
}

// binding reports whether a bind of the generation was received and not answered.
func (g *generation) binding() bool {
	return g.slot != nil && g.slot.n.id != 0 && g.slot.n.nr == unix.SYS_BIND
}

// boundBy returns the sockets of a process that are bound and that nobody listens on.
func boundBy(n Gen, pid int) (all []binding) {
	any := func(uint64) bool { return true }
	takeEach(pid, any, func(number int, inode uint64, fd int) bool {
		k, ok := keyOf(fd)
		h := held{fd: fd, key: k}
		if ok && k.kind != unix.SOCK_DGRAM && !listening(fd) && !h.client() {
			all = append(all, binding{n, pid, number, inode, k})
		}
		return false
	})
	return all
}
