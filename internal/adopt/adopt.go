package adopt

import (
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/poller"
	"github.com/hotinit/hotinit/internal/proc"
)

// Names under which a Host keeps descriptors for the next handoff.
const (
	// Held begins the names of the sockets.
	Held = "adopted/"
	// Listener begins the names of the notification descriptors; the generation
	// follows.
	Listener = "notifications/"
	// Journal names what the answers under way are written in.
	Journal = "notifications"
)

// Kept reports whether a descriptor is kept under a name of this package.
func Kept(name string) bool {
	return name == Journal || strings.HasPrefix(name, Held) || strings.HasPrefix(name, Listener)
}

// Gen names a generation of a program that may have several instances. They share
// what any of them listens on.
type Gen struct{ Instance, N int }

// ListenerName is what a generation's notification descriptor is kept under.
func ListenerName(n Gen) string {
	name := Listener + strconv.Itoa(n.N)
	if n.Instance > 0 {
		name += "+" + strconv.Itoa(n.Instance)
	}
	return name
}

// ListenerOf is the generation whose notification descriptor is kept under a
// name.
func ListenerOf(name string) (n Gen, ok bool) {
	rest, ok := strings.CutPrefix(name, Listener)
	if !ok {
		return n, false
	}
	number, instance, several := strings.Cut(rest, "+")
	var err, errI error
	n.N, err = strconv.Atoi(number)
	if several {
		n.Instance, errI = strconv.Atoi(instance)
	}
	return n, err == nil && errI == nil
}

// Host is what the adopter needs of the handoff. Its methods are called from
// any goroutine, one call at a time, and must not call the Adopter.
type Host interface {
	// Keep gives init a copy of a descriptor to hold, and returns once it is on
	// its way: so it is there whatever becomes of this process.
	Keep(name string, fd int) error
	// Drop has init close what it holds.
	Drop(name string)
	// Foreign reports whether a process is the main process of a generation of another
	// program: what it and those below it have open is not this program's.
	Foreign(pid int) bool
	// Listens is told that generation n listens on a socket, which was adopted
	// just now where adopted says so.
	Listens(n Gen, socket string, adopted bool)
	// Say prints a line about a generation.
	Say(n Gen, format string, args ...any)
}

// Adopter answers the calls of all generations of a program's instances. While a
// generation makes calls, a goroutine receives, reads and decides, one for each
// generation; what they share is under one lock, under which nothing waits for an app.
type Adopter struct {
	host   Host
	poller *poller.Set // waits for calls
	take   bool        // pidfd_getfd(2) is allowed

	mu      sync.Mutex
	journal *journal // nil before the first call
	held    []*held
	gens    map[Gen]*generation
	serves  map[int]bool    // the instances that take part, and whether a generation of it serves
	passed  map[uint64]bool // inodes of the sockets that were passed to the app
	nextID  int
	bound   map[uint64]string // paths that sockets were bound to, until they listen
	ports   map[uint64]bool   // inodes of sockets that the kernel chose a port for
	last    map[Gen]time.Time // when a generation last began to listen
	paths   paths             // of unix sockets, while there are two generations
	sweeper bool              // a goroutine looks after sockets that may be none to hold
	between []binding         // sockets of instances that nobody listens on yet

	// reached is called at the moments at which a test ends this process.
	reached atomic.Pointer[func(moment string)]
}

// generation is one whose calls are notified.
type generation struct {
	n    Gen
	pid  int // of the main process
	fd   int
	slot *slot // nil before its first call
	told bool  // that it cannot be looked at, or has too many sockets
	// lost are the calls whose descriptor was replaced, by the socket's inode, and
	// that were not answered: a signal interrupted them (before Linux 5.19), and
	// they come again.
	lost map[call]uint64
}

// New returns an adopter that goes on with what the handoff before has kept.
// kept are descriptors by their names; the journal and the sockets are taken, and
// removed from it. The notification descriptors are for Resume.
func New(host Host, set *poller.Set, take bool, kept map[string]int) *Adopter {
	a := &Adopter{
		host: host, poller: set, take: take,
		gens: make(map[Gen]*generation), serves: make(map[int]bool), last: make(map[Gen]time.Time), passed: make(map[uint64]bool), bound: make(map[uint64]string), ports: make(map[uint64]bool),
	}
	if fd, ok := kept[Journal]; ok {
		a.openJournal(fd)
		delete(kept, Journal)
	}
	for name, fd := range kept {
		rest, ok := strings.CutPrefix(name, Held)
		if !ok {
			continue
		}
		delete(kept, name)
		id, _ := strconv.Atoi(rest)
		a.nextID = max(a.nextID, id)
		a.resume(name, fd)
	}
	sort.Slice(a.held, func(i, j int) bool { return a.held[i].name < a.held[j].name })
	return a
}

// openJournal goes on with the journal that fd is, or makes one. It is kept before
// anything is written in it. Most programs make no calls, so they have none.
func (a *Adopter) openJournal(fd int) {
	a.journal = newJournal(fd)
	if a.journal.fd >= 0 && a.journal.fd != fd {
		if err := a.host.Keep(Journal, a.journal.fd); err != nil {
			a.host.Say(Gen{}, "%v", err)
		}
	}
}

// place gives a generation its place in the journal.
func (a *Adopter) place(g *generation) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if g.slot != nil {
		return
	}
	if a.journal == nil {
		a.openJournal(-1)
	}
	g.slot = a.journal.slot(g.n)
}

// resume goes on with a socket that init has kept. Which generations have it is
// looked up once they are known, see Resume.
func (a *Adopter) resume(name string, fd int) {
	h := &held{name: name, fd: fd, by: make(map[Gen]bool), heard: make(map[Gen]bool)}
	var st unix.Stat_t
	k, ok := keyOf(fd)
	if err := unix.Fstat(fd, &st); err != nil || !ok {
		a.release(h)
		return
	}
	h.key, h.inode = k, st.Ino
	h.undecided = k.kind != unix.SOCK_DGRAM && !listening(fd)
	a.held = append(a.held, h)
}

// Passed tells of a socket that the app gets from hotinit by descriptor: it is
// not to be shut down by one generation for all.
func (a *Adopter) Passed(fd int) {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil {
		a.mu.Lock()
		a.passed[st.Ino] = true
		a.mu.Unlock()
	}
}

// Add answers the calls of a generation from now on. fd is the descriptor of its
// notifications, which the adopter owns and the host keeps under ListenerName(n);
// pid is its main process.
func (a *Adopter) Add(n Gen, pid, fd int) {
	a.mu.Lock()
	g := &generation{n: n, pid: pid, fd: fd, lost: make(map[call]uint64)}
	a.gens[n] = g
	a.mu.Unlock()
	wakeInPlace(fd)
	a.serve(g)
}

// Resume is Add for a generation that the handoff before has started. All of
// them have to be there before the first answer: so they are given together, those
// of every instance. below returns the processes below init, each parent before its
// children: with many programs they are looked up once, and only where a socket is held.
func (a *Adopter) Resume(pids, fds map[Gen]int, below func() []proc.Stat) {
	a.mu.Lock()
	for n, fd := range fds {
		g := &generation{n: n, pid: pids[n], fd: fd, lost: make(map[call]uint64)}
		if a.journal != nil {
			g.slot = a.journal.slot(n)
		}
		a.gens[n] = g
	}
	binding := a.take && slices.ContainsFunc(slices.Collect(maps.Values(a.gens)), (*generation).binding)
	if len(a.held) > 0 || binding {
		all := a.whose(below())
		a.resumeHeld(all)
		if binding {
			a.resumeBetween(all)
		}
	}
	for _, g := range a.gens {
		if g.slot == nil {
			a.serve(g)
			continue
		}
		go func() {
			if g.slot.n.id != 0 && valid(g.fd, g.slot.n.id) {
				a.answer(g) // the handoff before has received it, and not answered
			}
			a.serve(g)
		}()
	}
	a.mu.Unlock()
}

// moment is where a test may end this process.
func (a *Adopter) moment(name string) {
	if f := a.reached.Load(); f != nil {
		(*f)(name)
	}
}

// resumeHeld finds out which of the held sockets the generations have open.
func (a *Adopter) resumeHeld(all *processes) {
	for n := range a.gens {
		pids, _ := all.of(n)
		for _, pid := range pids {
			inodes, _ := socketsOf(pid)
			for _, inode := range inodes {
				if h := a.findInode(inode); h != nil {
					h.by[n], h.heard[n] = true, h.key.kind == unix.SOCK_DGRAM || listening(h.fd)
					a.last[n] = time.Now()
				}
			}
		}
	}
}

// serve answers the calls of one generation until all of its processes have
// ended.
func (a *Adopter) serve(g *generation) {
	a.poller.Add(g.fd, func(calls *poller.Source) bool {
		for {
			more, there := pending1(g.fd)
			if !there {
				return true
			}
			if !more || !a.receive(g) {
				a.leave(g)
				calls.Remove()
				unix.Close(g.fd)
				return false
			}
		}
	})
}

// receive answers one call. It reports whether that works.
func (a *Adopter) receive(g *generation) bool {
	a.place(g)
	g.slot.done = 0
	switch receive(g.fd, &g.slot.n) {
	case nil:
		a.moment("received")
		a.answer(g)
	case unix.ENOENT, unix.EINTR: // its thread has ended meanwhile
	default:
		return false
	}
	return true
}

// leave is for a generation of which there is no process any more.
func (a *Adopter) leave(g *generation) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if g.slot != nil {
		g.slot.gen = 0
	}
	if a.gens[g.n] == g {
		delete(a.gens, g.n)
		delete(a.last, g.n)
		a.generationsChanged(g.n.Instance)
	}
	a.host.Drop(ListenerName(g.n))
}

// pending1 reports whether there is a notification to receive, and whether there
// is that or an end.
func pending1(fd int) (more, there bool) {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(p, 0); err != nil || n == 0 {
		return false, false
	}
	more = p[0].Revents&unix.POLLIN != 0
	return more, more || p[0].Revents&(unix.POLLHUP|unix.POLLNVAL) != 0
}

// answer deals with what is in the generation's slot.
func (a *Adopter) answer(g *generation) {
	n := &g.slot.n
	r := a.decide(g, n)
	// ENOENT: its thread has ended, or will ask again.
	a.moment("decided")
	if err := send(g.fd, n.id, r); err == nil && g.slot.done != 0 {
		g.slot.done = 0
		delete(g.lost, callOf(n))
	}
}

// decide decides about one call. Should that fail, the call is the kernel's: the
// app must not wait for ever, nor each handoff fail of the same call.
func (a *Adopter) decide(g *generation, n *notification) (r answer) {
	defer func() {
		if failed := recover(); failed != nil {
			a.host.Say(g.n, "a call of generation %d is left to the kernel: %v", g.n.N, failed)
			r = kernel
		}
	}()
	switch n.nr {
	case unix.SYS_BIND:
		return a.bind(g, n)
	case unix.SYS_LISTEN:
		return a.listen(g, n)
	case unix.SYS_SHUTDOWN:
		return a.shutdown(n)
	case unix.SYS_SETSOCKOPT:
		return a.option(g, n)
	}
	return kernel
}

// Join has an instance take part: from now on its calls are decided about. A program
// without instances is instance 0.
func (a *Adopter) Join(instance int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.serves[instance] = false
}

// takesPart reports whether the calls of a generation are decided about: those of one
// whose instance is told to stop are left to the kernel. The caller has the lock.
func (a *Adopter) takesPart(n Gen) bool {
	_, joined := a.serves[n.Instance]
	return joined
}

// Generations tells which generations of an instance there are, and which one serves
// (0 for none). A socket that no generation has is closed, so that clients are refused
// and do not wait for ever; while none of an instance serves, its next one shall have it.
func (a *Adopter) Generations(instance int, alive []int, current int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, joined := a.serves[instance]; !joined {
		return
	}
	a.serves[instance] = current != 0
	a.left(instance, alive)
}

// left closes the sockets that are nobody's now that an instance has only these
// generations. The caller has the lock.
func (a *Adopter) left(instance int, alive []int) {
	a.held = slices.DeleteFunc(a.held, func(h *held) bool {
		for n := range h.by {
			if n.Instance == instance && !slices.Contains(alive, n.N) {
				delete(h.by, n)
				delete(h.heard, n)
			}
		}
		if len(h.by) > 0 || a.awaited() {
			return false
		}
		a.release(h)
		return true
	})
}

// awaited reports whether an instance is without a generation that serves.
func (a *Adopter) awaited() bool {
	for _, serves := range a.serves {
		if !serves {
			return true
		}
	}
	return false
}

// Stop lets go of what only one instance has: it ends, and when the app has closed its
// sockets they are to be closed. With the last instance all is let go. Calls of the
// instance are left to the kernel from now on.
func (a *Adopter) Stop(instance int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.serves, instance)
	a.unguardAll(instance)
	if len(a.serves) > 0 {
		a.left(instance, nil)
		return
	}
	for _, h := range a.held {
		a.release(h)
	}
	a.held, a.between = nil, nil
	clear(a.passed)
}

// End is for when this process ends for good: a call that nobody will answer must
// not wait. It fails with ENOSYS once nobody has its descriptor any more.
func (a *Adopter) End() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for n := range a.gens {
		a.host.Drop(ListenerName(n))
	}
}
