package listener_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/hotinit/hotinit/listener"
)

// A server that also runs without hotinit, for trying it out.
func Example() {
	listeners, err := listener.ListenAll()
	if errors.Is(err, listener.ErrNoListeningTarget) {
		var l net.Listener
		l, err = net.Listen("tcp", "127.0.0.1:0")
		listeners = []net.Listener{l}
	}
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello")
	})}

	// This context stands for SIGTERM, so that the example ends.
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		resp, err := http.Get("http://" + listeners[0].Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		defer resp.Body.Close()
		io.Copy(os.Stdout, resp.Body)
		http.DefaultClient.CloseIdleConnections()
	}()
	if err := (listener.Drain{}).Serve(ctx, srv, listeners...); err != nil {
		log.Fatal(err)
	}
	fmt.Println("drained")
	// Output:
	// hello
	// drained
}

// Event streams never end by themselves: OnDrain tells them to.
func ExampleDrain() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	draining := make(chan struct{})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "an event")
		w.(http.Flusher).Flush()
		<-draining
		fmt.Fprintln(w, "come back later")
	})}
	drain := listener.Drain{Idle: 3 * time.Second, OnDrain: func() { close(draining) }}

	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		resp, err := http.Get("http://" + l.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		defer resp.Body.Close()
		cancel() // stands for SIGTERM
		io.Copy(os.Stdout, resp.Body)
		http.DefaultClient.CloseIdleConnections()
	}()
	if err := drain.Serve(ctx, srv, l); err != nil {
		log.Fatal(err)
	}
	// Output:
	// an event
	// come back later
}

func ExamplePorts() {
	os.Setenv("SERVER_STARTER_PORT", "8080=3;127.0.0.1:9000=4;/run/app.sock=5")
	defer os.Unsetenv("SERVER_STARTER_PORT")
	ports, err := listener.Ports()
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range ports {
		fmt.Println(strings.TrimPrefix(fmt.Sprintf("%T", p), "listener."), p.Fd(), p)
	}
	// Output:
	// TCPListener 3 8080=3
	// TCPListener 4 127.0.0.1:9000=4
	// UnixListener 5 /run/app.sock=5
}
