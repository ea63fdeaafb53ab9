package control

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/hotinit/hotinit/internal/exitcode"
)

// decideWithin is how long the client of an upgrade waits for what becomes of it.
// hotinit decides much sooner, but for a generation that is being started.
const decideWithin = 3 * time.Minute

// upgrade asks for an upgrade, and then what became of it: the handoff that was
// asked is ended by it.
func upgrade(c *Client, r Request, out, errs io.Writer) int {
	fail := func(err any) int {
		fmt.Fprintf(errs, "hotinit upgrade: %v\n", err)
		return exitcode.Failure
	}
	if r.File != "" && r.File[0] != '/' {
		dir, err := os.Getwd()
		if err != nil {
			return fail(err)
		}
		r.File = dir + "/" + r.File
	}
	var a Response
	once := func(answer Response) bool { a = answer; return false }
	if err := c.Ask(r, once); err != nil {
		return fail(err)
	}
	if !a.OK {
		fail(a.Text)
		return 1
	}
	r = Request{Op: "upgraded", Upgrade: a.Upgrade, Wait: true}
	deadline := time.Now().Add(decideWithin)
	for {
		err := c.Ask(r, once)
		switch {
		case err == nil && a.OK:
			fmt.Fprintln(out, a.Text)
			return 0
		case err == nil:
			fail(a.Text)
			return 1
		case !errors.Is(err, ErrNoAnswer) || time.Now().After(deadline):
			return fail(err)
		}
		// The next handoff takes what connects meanwhile, so this is the exception.
		time.Sleep(20 * time.Millisecond)
	}
}
