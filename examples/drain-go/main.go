// A web server whose requests survive each swap. Start it with
//
//	hotinit --port 8080 -- ./server
package main

import (
	"fmt"
	"log"
	"net/http"

	"github.com/hotinit/hotinit/listener"
)

func main() {
	listeners, err := listener.ListenAll()
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "generation", listener.Generation())
	})}
	if err := listener.Serve(srv, listeners...); err != nil {
		log.Fatal(err)
	}
}
