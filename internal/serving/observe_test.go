package serving

import (
	"net"
	"slices"
	"testing"
	"time"
)

// clients connect, send a line, and wait for the end, so often a second, until
// the test is over.
func clients(t *testing.T, address string, pause time.Duration) {
	stop, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for tick := time.NewTicker(pause); ; {
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
			}
			c, err := net.Dial("tcp", address)
			if err != nil {
				continue
			}
			c.Write([]byte("hello\n"))
			c.SetDeadline(time.Now().Add(100 * time.Millisecond))
			c.Read(make([]byte, 64))
			c.Close()
		}
	}()
	t.Cleanup(func() { close(stop); <-over })
}

func TestConnectionsThatAreOverAtOnceAreSeen(t *testing.T) {
	for pause, times := range map[time.Duration]int{100 * time.Millisecond: 1, 20 * time.Millisecond: 2, 2 * time.Millisecond: 2} {
		var took []time.Duration
		for range times {
			s := start(t, "Go, short connections")
			clients(t, s.address, pause)
			f := observe(t, s.candidate())
			began := time.Now()
			f.next(Accepted, Blind)
			took = append(took, time.Since(began).Round(time.Millisecond))
		}
		slices.Sort(took)
		t.Logf("one each %v: seen after %v", pause, took)
	}
}

func TestTrafficThatItDoesNotAccept(t *testing.T) {
	for _, role := range []string{"Go, never accepts", "poll other"} {
		t.Run(role, func(t *testing.T) {
			s := start(t, role)
			f := observe(t, s.candidate())
			clients(t, s.address, time.Millisecond)
			for range 5 {
				f.next(Traffic, Accepted, Blind)
			}
		})
	}
}

func TestAConnectionThatIsKeptIsSeen(t *testing.T) {
	for _, role := range []string{"poll", "select", "epoll", "short polls"} {
		t.Run(role, func(t *testing.T) {
			s := start(t, role)
			f := observe(t, s.candidate())
			f.next(Waits, Accepted)
			c, err := net.Dial("tcp", s.address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			f.next(Accepted, Blind)
			<-f.over
		})
	}
}
