package serving

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Stall is what is known of connections that wait while none is accepted.
type Stall struct {
	Waiting int           // how many, on all sockets where none is accepted
	For     time.Duration // how long they have been seen to wait; longer still, maybe
}

// Queues watches the queues of a program's sockets. While no connection waits
// it costs nothing: nothing wakes up for it. When one comes, and was not
// accepted at once, the queue is looked at again after half the time-out: once
// it is empty, the next connection is waited for. So under constant load it
// wakes up about twice in half a time-out.
type Queues struct {
	sockets func() []int
	timeout time.Duration
	stalled func(Stall)
	over    func()

	arrivals *arrivals
	come     chan uint64
	change   chan struct{}
	done     chan struct{}
	once     sync.Once

	mu   sync.Mutex
	last Stall
	at   time.Time // when last was true
}

// queue is a socket on which connections came.
type queue struct {
	Socket
	next  time.Time // when it is looked at again
	since time.Time // since when the first ones have been seen to wait
	first []uint64  // those that waited then
	stall bool      // they have waited for the time-out
}

// WatchQueues begins to watch. stalled is called when none of the connections
// that wait on a socket was accepted for timeout, and over when one is again.
// Both are called by one goroutine, in turn.
func WatchQueues(sockets func() []int, timeout time.Duration, stalled func(Stall), over func()) (*Queues, error) {
	a, err := newArrivals(unix.EPOLLONESHOT)
	if err != nil {
		return nil, err
	}
	q := &Queues{sockets: sockets, timeout: timeout, stalled: stalled, over: over, arrivals: a, come: make(chan uint64, 64), change: make(chan struct{}, 1), done: make(chan struct{})}
	a.watch(describeAll(sockets()))
	go a.deliver(q.come)
	go q.run()
	return q, nil
}

// Changed has the sockets read again. What waited before no longer counts: it
// is called too when another generation is the one that has to accept.
func (q *Queues) Changed() {
	select {
	case q.change <- struct{}{}:
	default:
	}
}

// Now returns how many connections wait while none is accepted. It is zero
// where nothing stalls.
func (q *Queues) Now() Stall {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.last
	if s.Waiting > 0 {
		s.For += time.Since(q.at)
	}
	return s
}

// Close ends the watch.
func (q *Queues) Close() { q.once.Do(func() { close(q.done) }) }

func (q *Queues) run() {
	defer q.arrivals.close()
	busy := make(map[uint64]*queue)
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-q.done:
			return
		case <-q.change:
			sockets := describeAll(q.sockets())
			q.arrivals.watch(sockets)
			for inode, b := range busy {
				if slices.ContainsFunc(sockets, func(s Socket) bool { return s.Inode == inode }) {
					*b = queue{Socket: b.Socket}
				} else {
					delete(busy, inode)
				}
			}
		case inode, ok := <-q.come:
			if !ok {
				return
			}
			for _, s := range describeAll(q.sockets()) {
				if s.Inode == inode {
					busy[inode] = &queue{Socket: s}
				}
			}
		case <-timer.C:
		}
		q.look(busy)
		timer.Stop()
		if next := earliest(busy); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

func earliest(busy map[uint64]*queue) (next time.Time) {
	for _, b := range busy {
		if next.IsZero() || b.next.Before(next) {
			next = b.next
		}
	}
	return next
}

// look looks at the queues that are due, and reports what has changed.
func (q *Queues) look(busy map[uint64]*queue) {
	now := time.Now()
	var sum Stall
	for inode, b := range busy {
		if !b.next.After(now) && !q.advance(b, now) {
			delete(busy, inode)
			q.arrivals.rearm(inode)
			continue
		}
		if b.stall {
			sum.Waiting += len(b.first)
			sum.For = max(sum.For, now.Sub(b.since))
		}
	}
	q.mu.Lock()
	before := q.last
	q.last, q.at = sum, now
	q.mu.Unlock()
	switch {
	case sum.Waiting > 0 && before.Waiting == 0:
		q.stalled(sum)
	case sum.Waiting == 0 && before.Waiting > 0:
		q.over()
	}
}

// advance looks at one queue. It returns false when the queue need not be
// looked at again before the next connection comes.
func (q *Queues) advance(b *queue, now time.Time) bool {
	fresh := b.next.IsZero()
	n, err := b.Queue()
	if err != nil {
		return false
	}
	if n == 0 {
		b.first, b.stall = nil, false
		b.next = now.Add(q.timeout / 2)
		// One that was just accepted: under load the next one comes at once,
		// and must not wake anything up.
		return fresh
	}
	names, err := b.Waiting()
	if err != nil || len(names) == 0 {
		// All that wait were reset by their clients, or it cannot be seen.
		b.first, b.stall = nil, false
		b.next = now.Add(q.timeout / 2)
		return true
	}
	if len(b.first) == 0 || !all(b.first, names) {
		// Some of those that waited do no longer. Connections are accepted in
		// the order in which they came, so the others have a new start.
		b.first, b.since, b.stall = names, now, false
		b.next = now.Add(q.timeout)
		return true
	}
	b.stall = b.stall || now.Sub(b.since) >= q.timeout
	if b.stall {
		b.first = names
		b.next = now.Add(max(q.timeout/2, time.Millisecond))
	} else {
		b.next = b.since.Add(q.timeout)
	}
	return true
}

// all reports whether each of some is among many.
func all(some, many []uint64) bool {
	is := make(map[uint64]bool, len(many))
	for _, n := range many {
		is[n] = true
	}
	for _, n := range some {
		if !is[n] {
			return false
		}
	}
	return true
}
