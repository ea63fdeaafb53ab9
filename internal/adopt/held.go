package adopt

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/sockets"
)

// held is a socket of the program.
type held struct {
	name  string // that it is kept under
	fd    int
	inode uint64
	key   key
	by    map[Gen]bool // generations that it was given to, or taken from
	heard map[Gen]bool // of those, the ones that called listen(2)
	// undecided is a socket that hotinit made, which nobody listens on yet: it may
	// be a client's.
	undecided bool
}

// Socket is one that is held.
type Socket struct {
	Name  string // its address
	Inode uint64
	By    []Gen // generations that listen on it
}

// Sockets returns the sockets that are held.
func (a *Adopter) Sockets() []Socket {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []Socket
	for _, h := range a.held {
		if h.undecided && h.key.kind != unix.SOCK_DGRAM {
			continue
		}
		s := Socket{Name: h.String(), Inode: h.inode}
		for n := range h.by {
			s.By = append(s.By, n)
		}
		slices.SortFunc(s.By, func(x, y Gen) int { return cmp.Or(x.Instance-y.Instance, x.N-y.N) })
		out = append(out, s)
	}
	return out
}

// settled is after which time without a further listen(2) a generation listens on
// all that it will: another release may have given up an address.
const settled = time.Second

// hears notes that generation n listens on a socket, and tells the host: now, and
// once that is all.
func (a *Adopter) hears(n Gen, h *held, adopted bool) {
	h.by[n], h.heard[n] = true, true
	a.last[n] = time.Now()
	name := h.String()
	a.host.Listens(n, name, adopted)
	time.AfterFunc(settled, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.takesPart(n) && a.gens[n] != nil && a.settled(n) {
			a.host.Listens(n, name, false)
		}
	})
}

func (a *Adopter) settled(n Gen) bool {
	last, any := a.last[n]
	return any && time.Since(last) >= settled
}

// Listening reports whether generation n listens on every socket that generation
// of listens on, or on all that it seems to want, and that is at least one.
func (a *Adopter) Listening(n, of Gen) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.settled(n) || a.takes(of, func(h *held) bool { return h.heard[n] })
}

// Binds is Listening where it is enough to have bound a socket that another
// generation listens on.
func (a *Adopter) Binds(n, of Gen) bool {
	if a.Listening(n, of) {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.takes(of, func(h *held) bool { return h.by[n] })
}

// takes reports whether has is true of every socket that generation of has, and that is
// at least one. The caller has the lock.
func (a *Adopter) takes(of Gen, has func(*held) bool) bool {
	any := false
	for _, h := range a.held {
		if !h.by[of] || h.undecided && h.key.kind != unix.SOCK_DGRAM {
			continue
		}
		if !has(h) {
			return false
		}
		any = true
	}
	return any
}

// Inodes are the sockets that generation n listens on.
func (a *Adopter) Inodes(n Gen) (inodes []uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range a.held {
		if h.heard[n] {
			inodes = append(inodes, h.inode)
		}
	}
	return inodes
}

// Descriptors are this process's own descriptors of the sockets that generation n
// has bound. One that another generation listens on already it need not listen
// on itself, and haproxy does not.
func (a *Adopter) Descriptors(n Gen) (fds []int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range a.held {
		if (h.by[n] || h.heard[n]) && h.fd >= 0 && (!h.undecided || h.key.kind == unix.SOCK_DGRAM) {
			fds = append(fds, h.fd)
		}
	}
	return fds
}

// String is the address of a socket, for people.
func (h *held) String() string {
	s := sockets.Address(h.fd)
	if h.key.kind == unix.SOCK_DGRAM {
		s += " (UDP)"
	}
	return s
}

// find returns the socket that is held for a key, and that generation n may have.
func (a *Adopter) find(k key, n Gen) (found *held) {
	for _, h := range a.held {
		switch {
		case h.key != k:
		case !h.apart() || h.of(n.Instance):
			return h
		case len(h.by) == 0:
			found = h
		}
	}
	return found
}

// apart reports whether each instance has a socket like this of its own, as the app
// shares the address by itself: from which of them a datagram is read may matter
// (QUIC, multicast). What waits in a stream's queue would be lost with its instance.
func (h *held) apart() bool {
	return h.key.kind == unix.SOCK_DGRAM &&
		(boolean(h.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT) || boolean(h.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR))
}

// of reports whether a generation of an instance has the socket.
func (h *held) of(instance int) bool {
	for n := range h.by {
		if n.Instance == instance {
			return true
		}
	}
	return false
}

func (a *Adopter) findInode(inode uint64) *held {
	for _, h := range a.held {
		if h.inode == inode {
			return h
		}
	}
	return nil
}

// mostHeld bounds the sockets of a program: each costs a descriptor here and in
// init.
const mostHeld = 500

// hold keeps a socket: with init first. It takes fd, unless it fails.
func (a *Adopter) hold(fd int, k key) (*held, error) {
	if len(a.held) >= mostHeld {
		return nil, fmt.Errorf("the app has %d sockets, and no more are taken over", len(a.held))
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	a.nextID++
	h := &held{name: Held + strconv.Itoa(a.nextID), fd: fd, inode: st.Ino, key: k, by: make(map[Gen]bool), heard: make(map[Gen]bool)}
	if err := a.host.Keep(h.name, fd); err != nil {
		return nil, err
	}
	a.held = append(a.held, h)
	a.moment("kept")
	return h, nil
}

// release closes a socket here and in init.
func (a *Adopter) release(h *held) {
	a.host.Drop(h.name)
	unix.Close(h.fd)
}

func (a *Adopter) forget(h *held) {
	a.release(h)
	a.held = slices.DeleteFunc(a.held, func(o *held) bool { return o == h })
}

// listening reports whether somebody has called listen(2) on a socket, and
// nobody has shut it down since.
func listening(fd int) bool { return boolean(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN) }

// open reports whether a process of generation n has a socket open. Where that
// cannot be seen, it does.
func (a *Adopter) open(h *held, n Gen) bool { return h.openIn(a.processes(), n) }

func (h *held) openIn(all *processes, n Gen) bool {
	pids, ok := all.of(n)
	if !ok {
		return h.by[n]
	}
	for _, pid := range pids {
		fds, ok := socketsOf(pid)
		if !ok && h.by[n] || slices.Contains(fds, h.inode) {
			return true
		}
	}
	return false
}

// openAnywhere reports whether any generation has a socket open.
func (a *Adopter) openAnywhere(h *held) bool {
	all := a.processes()
	for n := range a.gens {
		if h.openIn(all, n) {
			return true
		}
	}
	return false
}

// socketsOf returns the sockets that a process has open, by their inodes.
func socketsOf(pid int) (inodes []uint64, ok bool) {
	p, err := findProcess(uint32(pid))
	if err != nil {
		return nil, true // it has ended
	}
	err = p.as(func() error {
		inodes = inodes[:0]
		d, err := os.Open(p.dir + "/fd")
		if err != nil {
			return err
		}
		defer d.Close()
		names, err := d.Readdirnames(-1)
		if err != nil {
			return err
		}
		for _, name := range names {
			if inode, err := socketInode(p.dir + "/fd/" + name); err == nil {
				inodes = append(inodes, inode)
			} else if denied(err) {
				return err
			}
		}
		return nil
	})
	return inodes, err == nil || errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH)
}
