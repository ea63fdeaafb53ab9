package control

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Client is whom a subcommand asks, and about which program.
type Client struct {
	PID     int    // of hotinit, 0 for the one that is found
	Program string // "" for the only one
	// By is when the answer has to be there, the zero time for whenever. Patient waits
	// so long for a hotinit that is not there yet, or loses its handoff.
	By      time.Time
	Patient bool
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
	for {
		pid, err := c.PID, error(nil)
		if pid == 0 {
			pid, err = find()
		}
		if err == nil {
			if err = ask(pid, r, 0, c.By, each); err == nil {
				return nil
			}
		}
		if !c.Patient || errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(c.By) {
			return err
		}
		time.Sleep(between)
	}
}

// between is how long a client waits that waits for a hotinit.
const between = 50 * time.Millisecond

// Terminal reports whether somebody looks: standard output is a terminal.
func Terminal() bool {
	_, err := unix.IoctlGetTermios(1, unix.TCGETS)
	return err == nil
}
