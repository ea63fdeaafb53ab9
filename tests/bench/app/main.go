// Command app is the server that the benchmark swaps: it answers with the
// number of its generation, and drains when it is told to go.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/hotinit/hotinit/listener"
)

// startupVariable is how long the app takes before it can serve: real servers
// load code, fill caches and connect to databases.
const startupVariable = "APP_STARTUP"

const (
	// listenVariable is an address that the app binds itself.
	listenVariable = "APP_LISTEN"
	// bindsVariable is an address that the app binds and closes again and again,
	// to print how long a bind and listen takes.
	bindsVariable = "APP_BINDS"
	// counterVariable is a file that counts the generations, for a supervisor that
	// does not tell them their numbers.
	counterVariable = "APP_COUNTER"
)

const binds = 200

// timeBinds prints the median in nanoseconds.
func timeBinds(address string) error {
	var took []time.Duration
	for range binds {
		began := time.Now()
		l, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		took = append(took, time.Since(began))
		l.Close()
	}
	slices.Sort(took)
	fmt.Println(took[binds/2].Nanoseconds())
	return nil
}

// number is which generation this is.
func number() (int, error) {
	path := os.Getenv(counterVariable)
	if path == "" {
		return listener.Generation(), nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if _, err := f.Write([]byte{'x'}); err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return int(info.Size()), nil
}

func main() {
	if err := run(); err != nil {
		log.Fatal("app: ", err)
	}
}

func run() error {
	startup, err := time.ParseDuration(os.Getenv(startupVariable))
	if err != nil {
		return fmt.Errorf("%s: %w", startupVariable, err)
	}
	time.Sleep(startup)
	if address := os.Getenv(bindsVariable); address != "" {
		return timeBinds(address)
	}
	listeners, err := listener.ListenAll()
	if address := os.Getenv(listenVariable); address != "" {
		// As most servers do: hotinit is not asked for a socket.
		var own net.Listener
		own, err = net.Listen("tcp", address)
		listeners = []net.Listener{own}
	}
	if err != nil {
		return err
	}
	generation, err := number()
	if err != nil {
		return err
	}
	answer := fmt.Sprintf("%d\n", generation)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(answer))
	})}
	if err := listener.Serve(server, listeners...); err != nil {
		return err
	}
	// What reads this knows that the generation drained, and how far it got.
	fmt.Println("gone", generation)
	return nil
}
