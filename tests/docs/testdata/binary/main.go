// A server as many are: it binds its port, and knows nothing of hotinit.
package main

import (
	"fmt"
	"log"
	"net/http"
)

var port, id string // id is of the release

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "release", id) })
	log.Fatal(http.ListenAndServe(":"+port, nil))
}
