// Command server is the small HTTP server of the demonstration. It says which
// version and which generation it is.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/hotinit/hotinit/listener"
)

var version = "v0" // set by the linker

func main() {
	log.SetFlags(0)
	listeners, err := listener.ListenAll()
	if err != nil {
		log.Fatal(err)
	}
	answer := fmt.Sprintf("%s generation %d pid %d\n", version, listener.Generation(), os.Getpid())
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, answer)
	})}
	if err := listener.Serve(server, listeners...); err != nil {
		log.Fatal(err)
	}
}
