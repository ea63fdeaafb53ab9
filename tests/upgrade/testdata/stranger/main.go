// Command stranger says that it is a hotinit, of the versions in its environment or
// of those that are known, and is none.
package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hotinit/hotinit/internal/message"
)

// Kind is set by the linker: what it does wrong.
var Kind string

func main() {
	messages, records := "1", "1"
	switch Kind {
	case "mute":
		time.Sleep(time.Hour)
	case "messages":
		messages = "99"
	case "records":
		records = "99"
	}
	if slices.Equal(os.Args[1:], []string{"version", "--json"}) {
		fmt.Printf(`{"version":"9.9.9","messages":{"oldest":%s,"newest":%[1]s},"records":{"oldest":%s,"newest":%[2]s}}`, messages, records)
		return
	}
	fmt.Fprintln(os.Stderr, "stranger: started as", strings.Join(os.Args, " "))
	switch Kind {
	case "hangs":
		time.Sleep(time.Hour)
	case "slow": // longer than init waits for a handoff that says nothing
		link := message.NewLink(message.Socket)
		for range 4 {
			_ = link.SendWait(&message.Hello{Stops: true})
			time.Sleep(4 * time.Second)
		}
	}
}
