// Command hotinit is a PID 1 for containers that starts a new generation of its
// app, without losing a connection, when the app's executable changes.
//
// One executable has four roles: init, which the command line starts; the handoff,
// which init starts; what puts the programs' names before their lines, which the
// handoff starts; and the client of the subcommands. docs/design.md
// says how they work together. A hotinit that takes the place of another one is
// init at once, whatever the command line is. A command line that asks for a text alone (--help,
// --version) is answered here, before a second process is started.
package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/hotinit/hotinit/handoff"
	pid1 "github.com/hotinit/hotinit/init"
	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/deploy"
	"github.com/hotinit/hotinit/internal/entry"
	"github.com/hotinit/hotinit/internal/exitcode"
	"github.com/hotinit/hotinit/internal/lines"
	"github.com/hotinit/hotinit/internal/say"
	"github.com/hotinit/hotinit/internal/settings"
	"github.com/hotinit/hotinit/internal/spawn"
	"github.com/hotinit/hotinit/internal/upgrade"
	"github.com/hotinit/hotinit/internal/version"
)

// goFatal is the status of a Go program that its runtime ends, for instance because
// it gets no thread: init goes on as long as there is an app.
const goFatal = 2

// unknownGo is the warning about entry.Fallback.
const unknownGo = "built with a Go whose signal table is not known: a signal in the first instant can be lost"

const nameless = "the name by which hotinit starts itself is lost: an emulator runs it, and binfmt_misc does not pass on argv[0]; register the emulator with the flag P"

func main() {
	status := run(os.Args)
	say.Finish()
	os.Exit(status)
}

func run(argv []string) int {
	if len(argv) == 0 {
		argv = []string{"hotinit"} // execve(2) allows an empty argv
	}
	if handed := entry.TakeHanded(); handed != nil {
		// Another hotinit has parsed this command line, and runs what it says.
		return pid1.Resume(argv, handed)
	}
	if text := os.Getenv(control.LeaveVariable); text != "" && len(argv) == 1 {
		entry.Restore()
		return control.Leave(text, os.Stdout, os.Stderr)
	}
	if len(argv) == 1 && strings.HasPrefix(argv[0], "/proc/") && strings.HasSuffix(argv[0], "/exe") {
		say.Line("cannot swap: {} in --swap-through needs the environment that hotinit gives to its command (%s)", control.LeaveVariable)
		return exitcode.Failure
	}
	if argv[0] == lines.Name && len(argv) == 1 {
		if err := entry.EnsureBlocked(argv); err != nil {
			fmt.Fprintln(os.Stderr, "hotinit:", err)
			return exitcode.Failure
		}
		return lines.Run()
	}
	isHandoff := argv[0] == pid1.Name && len(argv) > 1
	if !isHandoff {
		if pid1.Nameless() {
			say.Line("%s", nameless)
			return exitcode.Failure
		}
		if name, args, ok := settings.Subcommand(argv); ok {
			entry.Restore()
			return subcommand(argv[0], name, args)
		}
		if asked, ok := settings.Asked(argv, os.Environ()); ok {
			entry.DropHandoff()
			entry.Restore()
			fmt.Print(answer(asked, argv[0]))
			return 0
		}
		if like := settings.SuggestCommand(argv); like != "" {
			if _, err := spawn.LookPath(argv[1], os.Environ(), ""); err != nil {
				fmt.Fprintf(os.Stderr, "hotinit: there is no program %q in PATH; did you mean `hotinit %s`?\n", argv[1], like)
				return exitcode.NotFound
			}
		}
	}
	if isHandoff {
		if _, few := fewFiles(); few {
			return goFatal // init says why, or tries again
		}
	} else if text := tooLow(); text != "" {
		entry.DropHandoff()
		say.Line("%s", text)
		return exitcode.Failure
	}
	if err := entry.EnsureBlocked(argv); err != nil {
		fmt.Fprintln(os.Stderr, "hotinit:", err)
		return exitcode.Failure
	}
	if isHandoff {
		handoff.Run(argv[1:])
	}
	if entry.Fallback() {
		say.Line("%s", unknownGo)
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
	case name == "version" && slices.Equal(append([]string{name}, args...), upgrade.Args):
		text = upgrade.Own().JSON()
	case name == "version" && len(args) > 0:
		err = fmt.Errorf("unknown argument %s (%s)", args[0], settings.CommandUsage(name))
	case name == "version":
		text = versionText(argv0)
	case name == "deploy":
		return deploy.Command(args, os.Stdin, os.Stdout, os.Stderr)
	case name == "check":
		return handoff.Preview(append([]string{argv0}, args...), say.Lines{W: os.Stdout}, say.Lines{W: os.Stderr})
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

// answer returns the text that the command line asks for.
func answer(asked settings.Action, argv0 string) string {
	switch asked {
	case settings.Help:
		return settings.HelpText(argv0)
	case settings.Version:
		return versionText(argv0)
	}
	return "hotinit is under the MIT licence; the file LICENSE comes with its source.\n"
}

// versionText is the version, and under hotinit's own name a second line in
// entry.Fallback. Programs read the version under a peer's name, so that stays
// one line.
func versionText(argv0 string) string {
	text := settings.VersionText(argv0, version.Number, version.Commit()) + "\n"
	if entry.Fallback() && strings.HasPrefix(text, "hotinit ") {
		text += unknownGo + "\n"
	}
	return text
}
