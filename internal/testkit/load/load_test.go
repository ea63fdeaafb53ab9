package load

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// listen starts a server that treats each connection as serve does.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return l.Addr().String()
}

// answering answers every request on a connection by text, which has a head.
func answering(text string) func(net.Conn) {
	return func(c net.Conn) {
		in := bufio.NewReader(c)
		for {
			if _, err := http.ReadRequest(in); err != nil {
				return
			}
			io.WriteString(c, text)
		}
	}
}

func good(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// bounded runs a load of 5 requests a worker to its end.
func bounded(t *testing.T, o Options) Report {
	t.Helper()
	o.Workers, o.Pause, o.Most = 2, time.Microsecond, 5
	l := Start(o)
	l.workers.Wait()
	return l.Stop()
}

func TestGoodAnswersAreCountedByRelease(t *testing.T) {
	r := bounded(t, Options{Address: listen(t, answering(good("v1 generation 1")))})
	if r.Done != 20 || r.Losses() != 0 || r.By["v1"] != 20 {
		t.Errorf("%v, by release %v: want 20 of v1", r, r.By)
	}
}

func TestEveryKindOfLossIsCounted(t *testing.T) {
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	block := make(chan struct{})
	t.Cleanup(func() { close(block) })
	for name, o := range map[string]Options{
		Refused: {Address: nobody.Addr().String()},
		Reset:   {Address: listen(t, func(c net.Conn) { http.ReadRequest(bufio.NewReader(c)) })},
		Timeout: {Address: listen(t, func(c net.Conn) { <-block }), Timeout: 10 * time.Millisecond},
		Status:  {Address: listen(t, answering("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"))},
		Short: {Address: listen(t, func(c net.Conn) {
			http.ReadRequest(bufio.NewReader(c))
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot a hundred")
		})},
	} {
		t.Run(name, func(t *testing.T) {
			r := bounded(t, o)
			if r.Done != 0 || r.Lost[name] != 20 || len(r.First) == 0 {
				t.Errorf("%v: want 20 lost as %q", r, name)
			}
		})
	}
}

func TestAKeptConnectionThatTheServerEndsIsALoss(t *testing.T) {
	r := bounded(t, Options{Address: listen(t, func(c net.Conn) {
		http.ReadRequest(bufio.NewReader(c))
		io.WriteString(c, good("v1"))
	})})
	if r.Lost[Reset] == 0 {
		t.Errorf("%v: want the closed connections to be counted", r)
	}
}

func TestAConnectionThatTheServerAnnouncesToEndIsNone(t *testing.T) {
	r := bounded(t, Options{Address: listen(t, func(c net.Conn) {
		http.ReadRequest(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nv1")
	})})
	if r.Done != 20 || r.Losses() != 0 {
		t.Errorf("%v: want 20 good answers", r)
	}
}

func TestAnsweredTellsOfTheFirstAnswerOfARelease(t *testing.T) {
	l := Start(Options{Address: listen(t, answering(good("v2 generation 7")))})
	defer l.Stop()
	other := l.Answered("v3 ")
	<-l.Answered("v2 generation 7")
	<-l.After(50)
	select {
	case <-other:
		t.Error("told of v3, which never answered")
	default:
	}
}
