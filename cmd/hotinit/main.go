// Command hotinit is a PID 1 for containers that starts a new generation of its
// app, without losing a connection, when the app's executable changes.
//
// One executable has three roles: init, which the command line starts; the
// handoff, which init starts; and the client of the subcommands. docs/design.md
// says how they work together.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/hotinit/hotinit/handoff"
	pid1 "github.com/hotinit/hotinit/init"
	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/settings"
	"github.com/hotinit/hotinit/internal/spawn"
	"github.com/hotinit/hotinit/internal/version"
)

func main() { os.Exit(run(os.Args)) }

func run(argv []string) int {
	if len(argv) == 0 {
		argv = []string{"hotinit"} // execve(2) allows for none at all
	}
	if name, args, ok := settings.Subcommand(argv); ok {
		entry.Restore()
		return subcommand(argv[0], name, args)
	}
	if like := settings.SuggestCommand(argv); like != "" {
		if _, err := spawn.LookPath(argv[1], os.Environ(), ""); err != nil {
			fmt.Fprintf(os.Stderr, "hotinit: there is no program %q in PATH; did you mean `hotinit %s`?\n", argv[1], like)
			return exitcode.NotFound
		}
	}
	if err := entry.EnsureBlocked(argv); err != nil {
		fmt.Fprintln(os.Stderr, "hotinit:", err)
		return exitcode.Failure
	}
	if argv[0] == pid1.Name && len(argv) > 1 {
		handoff.Run(argv[1:])
	}
	return pid1.Run(argv)
}

// subcommand does what a first word like "status" asks for, and returns the
// status to exit with.
func subcommand(argv0, name string, args []string) int {
	var text string
	var err error
	switch {
	case len(args) == 1 && (args[0] == "--help" || args[0] == "-h"):
		text, err = settings.CommandHelp(argv0, []string{name})
	case name == "help":
		text, err = settings.CommandHelp(argv0, args)
	case name == "version":
		text = settings.VersionText(argv0, version.Number, version.Commit()) + "\n"
	case name == "completion" && len(args) == 1:
		text, err = settings.Completion(args[0])
	case name == "completion":
		err = errors.New(settings.CommandUsage(name))
	default:
		return control.Command(name, args, os.Stdout, os.Stderr)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "hotinit %s: %v\n", name, err)
		return exitcode.Failure
	}
	fmt.Print(text)
	return 0
}
