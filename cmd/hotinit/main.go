// Command hotinit is a PID 1 for containers that starts a new generation of its
// app, without losing a connection, when the app's executable changes.
//
// One executable has three roles: init, which the command line starts; the
// handoff, which init starts; and the client of the subcommands. docs/design.md
// says how they work together.
package main

import (
	"fmt"
	"os"

	"github.com/hotinit/hotinit/handoff"
	pid1 "github.com/hotinit/hotinit/init"
	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/settings"
	"github.com/hotinit/hotinit/internal/version"
)

func main() { os.Exit(run(os.Args)) }

func run(argv []string) int {
	if len(argv) == 0 {
		argv = []string{"hotinit"} // execve(2) allows for none at all
	}
	if name, args, ok := settings.Subcommand(argv); ok {
		entry.Restore()
		if name == "version" {
			fmt.Println(settings.VersionText(argv[0], version.Number, version.Commit()))
			return 0
		}
		return control.Command(name, args, os.Stdout, os.Stderr)
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
