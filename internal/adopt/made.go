package adopt

import (
	"time"

	"golang.org/x/sys/unix"
)

// watchMade looks after the sockets that hotinit made and nobody listens on yet:
// of a client, hotinit must not hold a copy, for its connection would not end
// when the client closes it.
func (a *Adopter) watchMade() {
	if a.sweeper {
		return
	}
	a.sweeper = true
	go func() {
		const longest = 10 * time.Second
		began := time.Now()
		for wait := 5 * time.Millisecond; ; wait = min(wait*2, time.Second) {
			time.Sleep(wait)
			a.mu.Lock()
			left := a.sweepMade(wait >= 500*time.Millisecond)
			if late := time.Since(began) > longest; left == 0 || late {
				for _, h := range a.held {
					h.undecided = h.undecided && h.key.kind != unix.SOCK_DGRAM
				}
				a.sweeper = false
				a.mu.Unlock()
				return
			}
			a.mu.Unlock()
		}
	}()
}

// sweepMade releases those that turned out to be clients' or, where closed says
// to look, are not open any more. It returns how many are undecided.
func (a *Adopter) sweepMade(closed bool) (left int) {
	kept := a.held[:0]
	for _, h := range a.held {
		if h.undecided && (h.client() || closed && !a.openAnywhere(h)) {
			a.release(h)
			continue
		}
		if h.undecided {
			left++
		}
		kept = append(kept, h)
	}
	clear(a.held[len(kept):])
	a.held = kept
	return left
}

// client reports whether a socket is connected, or is about to be.
func (h *held) client() bool {
	if h.key.domain == unix.AF_UNIX || h.key.kind == unix.SOCK_DGRAM {
		return connected(h.fd)
	}
	const closed, listen = 7, 10 // TCP_CLOSE, TCP_LISTEN
	var info [8]byte
	if n, err := getsockopt(h.fd, unix.IPPROTO_TCP, unix.TCP_INFO, info[:]); err != nil || n == 0 {
		return connected(h.fd)
	}
	return info[0] != closed && info[0] != listen
}
