package serving

import (
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Kind is what a Fact is about.
type Kind int

const (
	// Waits: a process of the generation waits on one of the sockets.
	Waits Kind = iota
	// Accepted: a process of it has a connection that came by one of the
	// sockets, or asks for one by accept(2).
	Accepted
	// Traffic: connections come.
	Traffic
	// Blind: whether it waits cannot be seen.
	Blind
	// BlindOver: it can be seen again.
	BlindOver
)

// Fact is what was seen of a generation.
type Fact struct {
	Kind Kind
	Text string // how it was seen, or why nothing was
}

// Candidate is a generation that is to show that it serves. Its functions are
// called time and again, so that what they return may change meanwhile: an app
// forks, and binds sockets of its own.
type Candidate struct {
	Processes func() []int // of the generation
	Others    func() []int // of those before it; only called when it matters
	Sockets   func() []int // descriptors of the program's sockets
}

const (
	// firstLook and lastLook are the waits between looks; they double.
	firstLook = 5 * time.Millisecond
	lastLook  = 100 * time.Millisecond

	// burst is how long a candidate is looked at when a connection comes: a
	// short one may be over at the next look. Between two bursts is a rest, which
	// grows after the first fastBursts.
	burst        = time.Millisecond
	restAfter    = 10 * time.Millisecond
	fastBursts   = 100
	mostRest     = 100 * time.Millisecond
	mostInBurst  = 32 // processes
	trafficEvery = 50 * time.Millisecond

	// enoughSigns of the lastSigns bursts have to show a socket that came and
	// went. An app that accepts nothing and tries to reach its database ten times
	// a second has one in a hundred of them by chance.
	enoughSigns = 3
	lastSigns   = 12

	// blindFor is how long the same process must not be seen: between setuid(2)
	// and execve(2) it is hidden for a moment.
	blindFor = 100 * time.Millisecond
)

// Observe looks at a candidate until done is closed, or until it has been seen
// to wait and to accept. Waits and Accepted are reported once each, Blind and
// BlindOver in turn, Traffic each time that it is seen, twenty times a second at
// most.
func (c Candidate) Observe(done <-chan struct{}, report func(Fact)) error {
	a, err := newArrivals(unix.EPOLLET)
	if err != nil {
		return err
	}
	defer a.close()
	// This thread sleeps in epoll_wait(2), so that it is there when a connection
	// comes: by way of Go's poller it would often come too late.
	end, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return err
	}
	ev := event(unix.EPOLLIN, 0)
	if err := unix.EpollCtl(a.fd, unix.EPOLL_CTL_ADD, end, &ev); err != nil {
		unix.Close(end)
		return err
	}
	over := make(chan struct{})
	told := make(chan struct{})
	go func() {
		defer close(told)
		select {
		case <-done:
			_, _ = unix.Write(end, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		case <-over:
		}
	}()
	defer func() {
		close(over)
		<-told
		unix.Close(end)
	}()
	o := observer{Candidate: c, report: report, arrivals: a, theirs: make(map[uint64]bool)}
	defer o.release()
	o.run(done)
	return nil
}

// run looks, and sleeps until a connection comes or it is time for the next look.
func (o *observer) run(done <-chan struct{}) {
	wait, rest, bursts := firstLook, restAfter, 0
	var lastBurst, lastTraffic time.Time
	for {
		select {
		case <-done:
			return
		default:
		}
		if o.look(); o.waits && o.accepted {
			return
		}
		for next := time.Now().Add(wait); ; {
			left := time.Until(next)
			if left <= 0 {
				break
			}
			if len(o.arrivals.wait(int((left+time.Millisecond-1)/time.Millisecond))) == 0 {
				continue
			}
			select {
			case <-done:
				return
			default:
			}
			now := time.Now()
			if now.Sub(lastBurst) >= rest {
				lastBurst = now
				if bursts++; bursts > fastBursts {
					rest = min(rest*5/4, mostRest)
				}
				if o.burst(done); o.waits && o.accepted {
					return
				}
			}
			if now.Sub(lastTraffic) >= trafficEvery {
				lastTraffic = now
				o.say(Traffic, "")
			}
		}
		wait = min(wait*2, lastLook)
	}
}

// observer is what is known of a candidate so far.
type observer struct {
	Candidate
	report   func(Fact)
	arrivals *arrivals
	sockets  []Socket // at the last look
	scans    []scan   // of the processes that there were

	waits, accepted, blind bool

	blindSince map[int]time.Time // of each process that cannot be seen
	// theirs are sockets that did not come in by one of the program's: to a
	// database, say.
	theirs map[uint64]bool
	// signs are the last bursts: whether a socket came and went.
	signs []bool
}

func (o *observer) say(kind Kind, text string) { o.report(Fact{kind, text}) }

// look looks at all processes once.
func (o *observer) look() {
	o.sockets = describeAll(o.Sockets())
	if o.arrivals != nil {
		o.arrivals.watch(o.sockets)
	}
	pids := o.Processes()
	l := Processes(pids, o.sockets)
	if l.Waits != "" {
		o.nowWaits(l.Waits)
	}
	if l.Accepts {
		o.nowAccepted(l.Waits)
	}
	o.classify(l.Held)
	o.prepare(pids)
	o.see(l.Blind, time.Now())
}

// see reports that the candidate cannot be seen, and that it can be again. blind
// are those of its processes that could not be looked at just now.
func (o *observer) see(blind map[int]string, now time.Time) {
	since, reason := make(map[int]time.Time, len(blind)), ""
	for pid, why := range blind {
		began, known := o.blindSince[pid]
		if !known {
			began = now
		}
		since[pid] = began
		if now.Sub(began) >= blindFor {
			reason = why
		}
	}
	o.blindSince = since
	switch {
	case reason == "" && o.blind:
		o.blind = false
		o.say(BlindOver, "")
	case reason != "" && !o.blind && !o.waits:
		o.blind = true
		o.say(Blind, reason)
	}
}

// burst looks for a moment, over and over, at what the processes have open, and
// beside that at the kernel's list of connections: whatever was in both at any
// time is a connection that they accepted. To make that list takes a millisecond,
// so a connection that is over within less is mostly not on it. That a process
// has a socket just when a connection comes, and no longer, is a sign in itself,
// and three such signs will do.
func (o *observer) burst(done <-chan struct{}) {
	held, now := make(map[uint64]bool), make(map[uint64]bool)
	once := func() {
		clear(now)
		for i := range o.scans {
			o.scans[i].fresh(o.known, now)
		}
		maps.Copy(held, now)
	}
	once() // at once: it may be over in a moment
	listed := make(chan map[uint64]bool, 1)
	end := time.Now().Add(burst)
	sockets := o.sockets
	go func() {
		all := make(map[uint64]bool)
		for {
			if err := list(sockets, all); err != nil || !time.Now().Before(end) {
				listed <- all
				return
			}
		}
	}()
	for {
		once()
		select {
		case <-done:
			return
		case all := <-listed:
			o.match(held, all)
			o.sign(len(held) > len(now))
			return
		default:
		}
	}
}

// known reports whether a socket is no connection that this generation accepted.
func (o *observer) known(inode uint64) bool {
	return o.theirs[inode] || slices.ContainsFunc(o.sockets, func(s Socket) bool { return s.Inode == inode })
}

// prepare makes ready for a burst, in which no time must be lost.
func (o *observer) prepare(pids []int) {
	o.release()
	for _, pid := range pids[:min(len(pids), mostInBurst)] {
		if sc, ok := newScan(pid); ok {
			sc.fresh(o.known, make(map[uint64]bool)) // learns what to skip
			o.scans = append(o.scans, sc)
		}
	}
}

func (o *observer) release() {
	for i := range o.scans {
		o.scans[i].close()
	}
	o.scans = o.scans[:0]
}

// sign notes whether a socket came and went in a burst.
func (o *observer) sign(came bool) {
	o.signs = append(o.signs, came)
	if len(o.signs) > lastSigns {
		o.signs = o.signs[1:]
	}
	n := 0
	for _, came := range o.signs {
		if came {
			n++
		}
	}
	if n >= enoughSigns {
		o.nowAccepted("it has sockets for a moment, whenever connections come")
	}
}

// list adds the connections that came in by the sockets and that some process
// has.
func list(sockets []Socket, all map[uint64]bool) error {
	for i := range sockets {
		connections, err := sockets[i].connections(heldStates)
		if err != nil {
			return err
		}
		for _, c := range connections {
			if c.inode != 0 {
				all[c.inode] = true
			}
		}
	}
	return nil
}

// match reports Accepted if one of the sockets that the candidate has is a
// connection that came in by one of the program's.
func (o *observer) match(held, all map[uint64]bool) {
	for inode := range held {
		if all[inode] && !o.theirs[inode] && !o.heldByOthers(inode) {
			o.nowAccepted("it has accepted a connection")
			return
		}
	}
}

// classify looks up those sockets that are not known yet.
func (o *observer) classify(held map[uint64]bool) {
	fresh := make(map[uint64]bool)
	for inode := range held {
		if !o.theirs[inode] {
			fresh[inode] = true
		}
	}
	if len(fresh) == 0 || o.accepted {
		return
	}
	all := make(map[uint64]bool)
	if err := list(o.sockets, all); err != nil {
		return
	}
	o.match(fresh, all)
	if len(o.theirs) < most {
		for inode := range fresh {
			o.theirs[inode] = true
		}
	}
}

// heldByOthers reports whether a generation before has the connection too: then
// it was that one that accepted it.
func (o *observer) heldByOthers(inode uint64) bool {
	held := make(map[uint64]bool)
	for _, pid := range o.Others() {
		heldBy(pid, nil, held)
	}
	return held[inode]
}

func (o *observer) nowWaits(how string) {
	if !o.waits {
		o.waits = true
		o.say(Waits, how)
	}
}

// nowAccepted notes that it accepts, and so has waited, though a busy one may
// never be seen to.
func (o *observer) nowAccepted(how string) {
	o.nowWaits(how)
	if !o.accepted {
		o.accepted = true
		o.say(Accepted, how)
	}
}
