package control

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/say"
)

// LeaveVariable tells the process that {} in --swap-through stands for whom it gives
// leave, and for which run of the command. So {} is one word, the path of hotinit,
// and can stand in the text of a shell as well as for a program.
const LeaveVariable = "HOTINIT_SWAP"

// LeaveText is the value of the variable.
func LeaveText(pid, n int, program string) string { return fmt.Sprintf("%d:%d:%s", pid, n, program) }

// Leave gives leave to swap, waits for the outcome, and returns the status to exit
// with: 0 if the new generation is current. A handoff that is lost meanwhile is
// followed by one that is asked again.
func Leave(text string, out, errs io.Writer) int {
	out, errs = say.Lines{W: out}, say.Lines{W: errs}
	fail := func(status int, why any) int {
		fmt.Fprintf(errs, "hotinit: cannot swap: %v\n", why)
		return status
	}
	parts := strings.SplitN(text, ":", 3)
	if len(parts) != 3 {
		return fail(exitcode.Failure, fmt.Sprintf("%s=%q is not what hotinit has set", LeaveVariable, text))
	}
	pid, err := strconv.Atoi(parts[0])
	n, err2 := strconv.Atoi(parts[1])
	if err = errors.Join(err, err2); err != nil {
		return fail(exitcode.Failure, err)
	}
	var answer Response
	c := Client{PID: pid, Program: parts[2]}
	for {
		err = c.Ask(Request{Op: "leave", Leave: n, Wait: true}, func(a Response) bool {
			answer = a
			return false
		})
		if !errors.Is(err, ErrNoAnswer) {
			break
		}
	}
	switch {
	case err != nil:
		return fail(exitcode.Failure, err)
	case !answer.OK:
		return fail(1, answer.Text)
	}
	fmt.Fprintln(out, answer.Text)
	return 0
}
