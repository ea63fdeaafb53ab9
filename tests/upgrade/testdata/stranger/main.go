// Command stranger says that it is a hotinit, of the versions in its environment or
// of those that are known, and is none.
package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
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
	if Kind == "hangs" {
		time.Sleep(time.Hour)
	}
}
