// Command app is the server that the benchmark swaps: it answers with the
// number of its generation, and drains when it is told to go.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/hotinit/hotinit/listener"
)

// startupVariable is how long the app takes before it can serve: real servers
// load code, fill caches and connect to databases.
const startupVariable = "APP_STARTUP"

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
	listeners, err := listener.ListenAll()
	if err != nil {
		return err
	}
	generation := listener.Generation()
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
