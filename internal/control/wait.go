package control

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/settings"
)

// goals are what can be waited for.
var goals = []string{"ready", "swap", "stopped"}

// wait runs `hotinit wait`.
func wait(args []string, out, errs io.Writer) int {
	c := Client{Patient: true}
	r := Request{Op: "wait", For: "ready", Wait: true, Steps: Terminal()}
	fail := func(format string, args ...any) int {
		fmt.Fprintf(errs, "hotinit wait: "+format+"\n", args...)
		return exitcode.Failure
	}
	for i := 0; i < len(args); i++ {
		used, err := c.Flag(args[i:])
		switch more := i+1 < len(args); {
		case err != nil:
			return fail("%v", err)
		case used > 0:
			i += used - 1
		case args[i] == "--for" && more:
			i++
			if r.For = args[i]; !slices.Contains(goals, r.For) {
				return fail("cannot wait for %q (known: %s)", r.For, strings.Join(goals, ", "))
			}
		case args[i] == "--timeout" && more:
			i++
			limit, err := settings.Time(args[i])
			if err != nil {
				return fail("--timeout %q: %v", args[i], err)
			}
			c.By = time.Now().Add(limit)
		case !more && slices.Contains([]string{"--for", "--timeout", "--pid", "--program"}, args[i]):
			return fail("the value of %s is missing (%s)", args[i], settings.CommandUsage("wait"))
		case c.Program == "" && args[i] != "" && args[i][0] != '-':
			c.Program = args[i]
		default:
			return fail("unknown argument %s (%s)", args[i], settings.CommandUsage("wait"))
		}
	}
	if r.For == "stopped" {
		return waitForTheEnd(&c, r, out, fail)
	}
	// Without a limit, a hotinit that is not there is not waited for.
	c.Patient = !c.By.IsZero()
	status := 0
	err := c.Ask(r, func(a Response) bool {
		switch {
		case a.Step != "":
			fmt.Fprintln(errs, a.Step)
			return true
		case a.OK:
			fmt.Fprintln(out, a.Text)
		default:
			status = a.status()
			fmt.Fprintf(errs, "hotinit wait: %s\n", a.Text)
		}
		return a.More // of each instance of a program
	})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		fmt.Fprintf(errs, "hotinit wait: it did not come in time (--timeout)\n")
		return 1
	case err != nil:
		return fail("%v", err)
	}
	return status
}

// waitForTheEnd waits until a hotinit has ended, or a program of it is stopped. Its
// connection ends with its handoff, so another one is tried.
func waitForTheEnd(c *Client, r Request, out io.Writer, fail func(string, ...any) int) int {
	c.Patient = false
	if c.PID == 0 {
		pid, err := find()
		switch {
		case errors.Is(err, errNobody):
			fmt.Fprintln(out, "hotinit is not there")
			return 0
		case err != nil:
			return fail("%v", err)
		}
		c.PID = pid
	}
	for again := false; ; again = true {
		var answers []Response // of each instance of a program
		err := c.Ask(r, func(a Response) bool {
			answers = append(answers, a)
			return a.More
		})
		switch gone := (*absent)(nil); {
		case errors.As(err, &gone):
			fmt.Fprintln(out, "hotinit has ended")
			return 0
		case errors.Is(err, os.ErrDeadlineExceeded):
			fail("it did not come in time (--timeout)")
			return 1
		case err != nil && !errors.Is(err, ErrNoAnswer):
			return fail("%v", err)
		case err == nil && again && answers[0].Wrong:
			fmt.Fprintln(out, "the program is gone") // its file was removed meanwhile
			return 0
		case err == nil:
			status := 0
			for _, a := range answers {
				if a.OK {
					fmt.Fprintln(out, a.Text)
					continue
				}
				status = a.status()
				fail("%s", a.Text)
			}
			return status
		}
	}
}
