// A worker: it listens on nothing.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

var id string // of the release

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	fmt.Println("worker", id)
	<-stop
}
