package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/metrics"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/settings"
)

// Ask sends a request to the hotinit with this PID and calls each with every
// answer, until there are no more or it returns false.
func Ask(pid int, r Request, each func(Response) bool) error { return AskWithin(0, pid, r, each) }

// AskWithin is Ask that gives up where nothing can be sent or received for so long;
// 0 is for ever.
func AskWithin(limit time.Duration, pid int, r Request, each func(Response) bool) error {
	return ask(pid, r, limit, time.Time{}, each)
}

// ask is AskWithin with a time by which the last answer is there; the zero time is
// none.
func ask(pid int, r Request, limit time.Duration, by time.Time, each func(Response) bool) error {
	fd, err := connect(pid, limit)
	if err != nil {
		if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT) {
			return &absent{pid}
		}
		return fmt.Errorf("cannot connect to the hotinit with PID %d: %w", pid, err)
	}
	file := os.NewFile(uintptr(fd), "control connection")
	defer file.Close()
	extend := func() {
		if limit > 0 {
			by = time.Now().Add(limit)
		}
		_ = file.SetDeadline(by)
	}
	extend()
	if err := json.NewEncoder(file).Encode(r); errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return ErrNoAnswer
	} else if err != nil {
		return fmt.Errorf("cannot ask the hotinit with PID %d: %w", pid, err)
	}
	decoder := json.NewDecoder(file)
	for {
		extend()
		var a Response
		switch err := decoder.Decode(&a); {
		case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET):
			return ErrNoAnswer
		case errors.Is(err, os.ErrDeadlineExceeded) && limit > 0:
			return fmt.Errorf("the hotinit with PID %d does not answer within %v", pid, limit)
		case errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case err != nil:
			return fmt.Errorf("hotinit's answer makes no sense: %w", err)
		}
		if !each(a) {
			return nil
		}
	}
}

// absent is that there is no hotinit with a PID.
type absent struct{ pid int }

func (a *absent) Error() string {
	return fmt.Sprintf("process %d is not hotinit, or does not answer (run this in its container, and in its network namespace, or name its PID with --pid)", a.pid)
}

// ErrNoAnswer is that the answer did not come.
var ErrNoAnswer = errors.New("hotinit did not answer: its handoff was started again, or it has ended; ask again")

// status is what a command exits with whose answer is no: as for a flag that there is
// not, where the request was wrong.
func (a *Response) status() int {
	if a.Wrong {
		return exitcode.Failure
	}
	return 1
}

// Command runs one of the subcommands. It prints its answer to out, or what
// went wrong to errors, and returns the status to exit with: 0, 1 where the
// answer is no, exitcode.Failure where there is none, or the request was wrong.
func Command(name string, args []string, out, errs io.Writer) int {
	// What hotinit answers can come from the app.
	out, errs = say.Lines{W: out}, say.Lines{W: errs}
	if name == "wait" {
		return wait(args, out, errs)
	}
	r := Request{Op: name}
	var c Client
	asJSON := false
	var words []string
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "--json" && (name == "status" || name == "releases"):
			asJSON = true
		case arg == "--watch" && name == "status":
			r.Watch = true
		case arg == "--wait" && (name == "reload" || name == "rollback"):
			r.Wait = true
		case arg == "--all" && name == "reload":
			r.All = true
		case arg != "" && arg[0] != '-' && len(words) < settings.CommandWords(name):
			words = append(words, arg)
		case arg == "--pid", arg == "--program":
			used, err := c.Flag(args[i:])
			if err != nil {
				fmt.Fprintf(errs, "hotinit %s: %v\n", name, err)
				return exitcode.Failure
			}
			if used > 0 {
				i++
				continue
			}
			fmt.Fprintf(errs, "hotinit %s: the value of %s is missing (%s)\n", name, arg, settings.CommandUsage(name))
			return exitcode.Failure
		default:
			fmt.Fprintf(errs, "hotinit %s: unknown argument %s (%s)\n", name, arg, settings.CommandUsage(name))
			return exitcode.Failure
		}
	}
	if err := operands(&r, &c, words); err != nil {
		fmt.Fprintf(errs, "hotinit %s: %v (%s)\n", name, err, settings.CommandUsage(name))
		return exitcode.Failure
	}
	r.Steps = r.Wait && Terminal()
	if name == "upgrade" {
		return upgrade(&c, r, out, errs)
	}
	status := 0
	err := c.Ask(r, func(a Response) bool {
		if a.Step != "" {
			fmt.Fprintf(errs, "%s\n", a.Step)
			return true
		}
		if !a.OK {
			status = a.status()
		}
		switch {
		case asJSON && a.Status != nil:
			b, _ := json.MarshalIndent(a.Status, "", "  ")
			fmt.Fprintf(out, "%s\n", b)
		case asJSON && a.Table != nil:
			b, _ := json.MarshalIndent(a.Table, "", "  ")
			fmt.Fprintf(out, "%s\n", b)
		case a.Table != nil:
			PrintTable(out, a.Table)
		case a.Status != nil:
			Print(out, a.Status)
		case asJSON && a.OK:
			b, _ := json.MarshalIndent(a.Releases, "", "  ")
			fmt.Fprintf(out, "%s\n", b)
		case name == "metrics" && a.OK:
			_ = metrics.Write(out, a.Metrics)
		case name == "releases" && a.OK:
			PrintReleases(out, a.Releases)
		case a.OK:
			fmt.Fprintln(out, a.Text)
		default:
			fmt.Fprintf(errs, "hotinit %s: %s\n", name, a.Text)
		}
		return r.Watch && a.OK || a.More
	})
	if err != nil {
		fmt.Fprintf(errs, "hotinit %s: %v\n", name, err)
		return exitcode.Failure
	}
	return status
}

// operands says what the words of a command line mean: the program, and for some
// commands something else after it.
func operands(r *Request, c *Client, words []string) error {
	switch {
	case r.Op == "signal":
		if len(words) == 0 {
			return errors.New("which signal?")
		}
		last := words[len(words)-1]
		sig, ok := settings.ParseSignal(last)
		if !ok {
			return fmt.Errorf("%q is no signal", last)
		}
		r.Signal, words = int(sig), words[:len(words)-1]
	case r.Op == "rollback" && len(words) > 0:
		// A word alone may be a program: hotinit knows.
		r.Release, words = words[len(words)-1], words[:len(words)-1]
	case r.Op == "upgrade" && len(words) > 0:
		r.File, words = words[0], nil
	case r.Op == "start" && len(words) == 0 && c.Program == "":
		return errors.New("which program?")
	}
	if len(words) > 0 {
		c.Program = words[0]
	}
	return nil
}

// PrintTable writes a table of programs for a person.
func PrintTable(w io.Writer, table *Table) {
	if table.Upgrade != "" {
		defer fmt.Fprintln(w, table.Upgrade)
	}
	if len(table.Programs) == 0 {
		fmt.Fprintln(w, "there is no program")
		return
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "PROGRAM\tSTATE\tGENERATION\tPID\tRELEASE\tFOR\tSOCKETS\tRESTARTS\tWHY")
	number := func(n int) string {
		if n == 0 {
			return "-"
		}
		return strconv.Itoa(n)
	}
	for _, p := range table.Programs {
		age, release := "-", "-"
		if !p.Since.IsZero() {
			age = time.Since(p.Since).Round(time.Second).String()
		}
		if p.Release != "" {
			release = p.Release
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", p.Name, p.State, number(p.Generation), number(p.PID), release, age, number(p.Sockets), p.Restarts, p.Reason)
	}
	_ = t.Flush()
}

// Print writes a status for a person.
func Print(w io.Writer, s *Status) {
	fmt.Fprintf(w, "%s: %s", s.Situation, strings.Join(s.Command, " "))
	if len(s.Sockets) > 0 {
		fmt.Fprintf(w, "  (%s)", strings.Join(s.Sockets, ", "))
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, g := range s.Generations {
		note := ""
		if g.N == s.Good {
			note = "last good"
		}
		if g.Text != "" {
			note = strings.TrimSpace(note + "  " + g.Text)
		}
		age := ""
		if !g.Since.IsZero() {
			age = "for " + time.Since(g.Since).Round(time.Second).String()
		}
		fmt.Fprintf(t, "generation %d\t%s\tpid %d\t%s\t%s\t%s\n", g.N, g.Phase, g.PID, age, short(g.Release), note)
	}
	_ = t.Flush()
	if s.Hold != "" {
		fmt.Fprintln(w, s.Hold)
	}
	if s.Stalled != "" {
		fmt.Fprintln(w, s.Stalled)
	}
	for i := max(0, len(s.Past)-3); i < len(s.Past); i++ {
		p := s.Past[i]
		fmt.Fprintf(w, "generation %d %s, %s ago\n", p.N, p.How, time.Since(p.Ended).Round(time.Second))
	}
	if s.Order != "" {
		fmt.Fprintf(w, "order: %s\n", s.Order)
	}
	if s.There != nil {
		fmt.Fprintln(w, s.There)
	}
	if s.Reason != "" && (s.There == nil || s.There.Reason != s.Reason) {
		fmt.Fprintf(w, "the last release that was rejected: %s\n", s.Reason)
	}
	if s.Upgrade != "" {
		fmt.Fprintln(w, s.Upgrade)
	}
}

// short is as much of a release's name as tells it apart.
func short(name string) string { return name[:min(len(name), 12)] }

// PrintReleases writes the releases for a person.
func PrintReleases(w io.Writer, list []Release) {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, r := range list {
		kind := ""
		switch {
		case r.ByHand:
			kind = "rolled back by hand"
		case r.Rejected != "":
			kind = "rejected: " + r.Rejected
		case r.Good:
			kind = "good"
		}
		last := ""
		if r.Generation != 0 {
			last = fmt.Sprintf("generation %d", r.Generation)
		}
		since := ""
		if !r.Since.IsZero() {
			since = "since " + r.Since.Format(time.DateTime)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", short(r.Name), last, r.Fate, since, kind, r.Path)
	}
	_ = t.Flush()
}
