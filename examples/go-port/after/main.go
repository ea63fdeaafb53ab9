// The server of ../before with one import changed. Its own Shutdown still drains
// it; listener.Serve would do it without loss.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/hotinit/hotinit/listener"
)

func main() {
	listeners, err := listener.ListenAll()
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "generation", os.Getenv("SERVER_STARTER_GENERATION"))
	})}
	ended := make(chan error)
	go func() {
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		<-term
		ended <- srv.Shutdown(context.Background())
	}()
	if err := srv.Serve(listeners[0]); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
}
