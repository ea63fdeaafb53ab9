package control

import (
	"fmt"
	"strconv"
)

// Client is whom a subcommand asks, and about which program.
type Client struct {
	PID     int    // of hotinit, 0 for the one that is found
	Program string // "" for the only one
}

// Flag takes a flag that every subcommand has from the front of args, and returns
// how many words that is, 0 where it is none.
func (c *Client) Flag(args []string) (used int, err error) {
	switch {
	case len(args) < 2:
		return 0, nil
	case args[0] == "--pid":
		n, err := strconv.Atoi(args[1])
		if err != nil || n < 1 {
			return 0, fmt.Errorf("--pid %s: not a process ID", args[1])
		}
		c.PID = n
		return 2, nil
	case args[0] == "--program":
		c.Program = args[1]
		return 2, nil
	}
	return 0, nil
}

// Ask sends a request and calls each with every answer, until there are no more or
// it returns false.
func (c *Client) Ask(r Request, each func(Response) bool) error {
	r.Program = c.Program
	return Ask(max(c.PID, 1), r, each)
}
