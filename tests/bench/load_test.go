package main

import (
	"bufio"
	"net"
	"testing"
	"time"
)

// serveRaw answers each connection with what handle writes, until the test ends.
func serveRaw(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				handle(conn)
			}()
		}
	}()
	return l.Addr().String()
}

const answerOne = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1\n"

// answer reads one request and answers it with generation 1.
func answer(conn net.Conn, requests *bufio.Reader) bool {
	for {
		line, err := requests.ReadString('\n')
		if err != nil {
			return false
		}
		if line == "\r\n" {
			_, err := conn.Write([]byte(answerOne))
			return err == nil
		}
	}
}

func TestAnsweredRequestsAreNotLost(t *testing.T) {
	address := serveRaw(t, func(conn net.Conn) {
		for requests := bufio.NewReader(conn); answer(conn, requests); {
		}
	})
	l := startLoad(t.Context(), address, 2)
	if _, err := l.first(t.Context(), 1); err != nil {
		t.Error(err)
	}
	l.stop()
	if len(l.lost) != 0 || len(l.samples) == 0 {
		t.Errorf("%d requests answered, lost: %q", len(l.samples), l.lost)
	}
}

// A client that repeats such a request by itself would hide the loss.
func TestARequestOnAKeptConnectionThatIsClosedIsLost(t *testing.T) {
	address := serveRaw(t, func(conn net.Conn) {
		requests := bufio.NewReader(conn)
		answer(conn, requests)
		requests.ReadString('\n') // the second request is read and not answered
	})
	c := &client{load: &load{address: address}, keep: true}
	defer c.drop()
	if generation, err := c.ask(); generation != 1 || err != nil {
		t.Fatalf("the first request brought generation %d (%v)", generation, err)
	}
	if generation, err := c.ask(); err == nil {
		t.Errorf("the second request brought generation %d though nobody answered it", generation)
	}
}

func TestARefusedConnectionIsALostRequest(t *testing.T) {
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	c := &client{load: &load{address: address}}
	if generation, err := c.ask(); err == nil {
		t.Errorf("generation %d answered where nothing listens", generation)
	}
}

// Requests that fall due while the server stalls have waited since they were
// due: counting them from when they are sent would hide the stall.
func TestAStallCountsForEveryRequestThatFellDue(t *testing.T) {
	const due = 20
	released := make(chan uint64, 1)
	caughtUp := make(chan struct{})
	address := serveRaw(t, func(conn net.Conn) {
		<-time.After(due * requestEvery) // the stall itself
		released <- now()
		requests := bufio.NewReader(conn)
		for range 2 * due {
			if !answer(conn, requests) {
				return
			}
		}
		close(caughtUp)
		for answer(conn, requests) {
		}
	})
	l := startLoad(t.Context(), address, 1)
	<-caughtUp
	l.stop()
	end, waited := <-released, 0
	for _, s := range l.samples {
		if s.began < end {
			waited++
		}
	}
	if waited < 2 {
		t.Errorf("%d requests waited for the end of the stall, though %d fell due", waited, due)
	}
}
