package settings

import (
	"fmt"
	"strings"
)

// command is one subcommand: what a running hotinit is asked for, or what
// hotinit prints by itself. Usage errors, `hotinit help`, the completions and
// the man page are made from the table below.
type command struct {
	name  string
	args  string // operands, as the usage line has them
	help  string // one sentence without its full stop
	more  string // what else help COMMAND says: exit codes, when to use it
	flags []commandFlag
}

type commandFlag struct {
	name string // with its dashes
	arg  string // what its value is called, "" for a switch
	help string
}

var (
	flagPID  = commandFlag{"--pid", "PID", "ask the hotinit with this PID [HOTINIT_CONTROL, or 1, or the only one here]"}
	flagWait = commandFlag{"--wait", "", "wait for the outcome, and exit with 1 if the release was rejected"}
	flagJSON = commandFlag{"--json", "", "print JSON"}
)

var commands = [...]command{
	{name: "status", args: "[NAME]", help: "print the generations, sockets and releases",
		more:  "Where files make programs (--programs) it prints a table of them, and of the named one what it prints for one command.",
		flags: []commandFlag{flagJSON, {"--watch", "", "print it again at each change"}, flagPID}},
	{name: "reload", args: "[NAME]", help: "start a new generation of what is on disk",
		more:  "Exit codes: 0, or with --wait 1 if a new generation was rejected; the old one then stays.",
		flags: []commandFlag{flagWait, {"--all", "", "of each program that runs, but for HOTINIT_RUN=once"}, flagPID}},
	{name: "releases", args: "[NAME]", help: "list the releases that run, can be gone back to, or were rejected",
		flags: []commandFlag{flagJSON, flagPID}},
	{name: "rollback", args: "[NAME] [RELEASE]", help: "go back to the release before, or to the named one",
		more:  "RELEASE is a name from hotinit releases, or its first letters. What was rolled back by hand is not started again until its content changes or somebody asks for it: by its name, or by reload or HUP, which start what is on disk. Exit codes: 0, or 1 if there is no release to go back to or, with --wait, if it was rejected.",
		flags: []commandFlag{flagWait, flagPID}},
	{name: "metrics", args: "[NAME]", help: "print numbers for Prometheus, of all programs or the named one",
		more:  "cmd/hotinit-exporter serves the same over HTTP; docs/metrics.md lists them.",
		flags: []commandFlag{flagPID}},
	{name: "deploy", args: "[NAME] [FILE|-]", help: "put a release in place, start it, and wait for the outcome",
		more:  "FILE, or standard input, replaces what the command runs; its owner and mode stay. It is judged before, as hotinit would (and by --check), exchanged by one rename, and started once, whatever the watch sees. If it is rejected, what was there before is put back. Of several programs NAME is one, with FILE or - after it, or --program names it. A FILE.sha256 or FILE.minisig beside FILE goes with it; one that is beside the old file is asked. With --dir, a tar archive, not compressed, becomes a new directory, in the place of the watched one, or of the one that a symbolic link leads to. At most 64 GB are taken. Exit codes: 0 if it is current, 1 if it was rejected, 125 if nothing was changed.",
		flags: []commandFlag{{"--to", "PATH", "put it there [what the command runs, or with --dir what is watched]"}, {"--dir", "", "unpack a tar archive"}, {"--program", "NAME", "deploy to this one of several programs"}, flagPID}},
	{name: "hold", args: "[NAME]", help: "note changes from now on, and do not act on them",
		more:  "What somebody asks for is still done: reload, deploy, rollback, HUP. An app that ends is started again as it was. hotinit status says so; a restart of hotinit forgets it.",
		flags: []commandFlag{flagPID}},
	{name: "resume", args: "[NAME]", help: "act on changes again, first of all on what came meanwhile",
		flags: []commandFlag{flagPID}},
	{name: "wait", args: "[NAME]", help: "wait until something has come to pass",
		more:  "ready: a generation serves. swap: the swap that is under way, or else the next one, is decided. stopped: hotinit has ended, or the named program of --programs is over. With --timeout it also waits for a hotinit that is not there yet. Exit codes: 0, 1 if the swap was rejected or the time is over.",
		flags: []commandFlag{{"--for", "WHAT", "ready, swap or stopped [ready]"}, {"--timeout", "TIME", "wait no longer"}, flagPID}},
	{name: "stop", args: "[NAME]", help: "stop the app and hotinit, as SIGTERM does, or the named program alone",
		more:  "A program of --programs that was stopped by hand stays so until hotinit start NAME, or until hotinit itself is started again.",
		flags: []commandFlag{flagPID}},
	{name: "start", args: "NAME", help: "start a program that was stopped by hand, or has ended",
		flags: []commandFlag{flagPID}},
	{name: "signal", args: "[NAME] SIGNAL", help: "send a signal to the generation that serves",
		more:  "SIGNAL is a name or a number, as in USR1, SIGUSR1 or 10. It goes to the main process, or where hotinit itself was started with --group to its process group.",
		flags: []commandFlag{flagPID}},
	{name: "health", args: "[NAME]", help: "exit with 0 while a generation serves, else with 1",
		more:  "It is made for HEALTHCHECK in a Dockerfile: HEALTHCHECK CMD [\"hotinit\", \"health\"].",
		flags: []commandFlag{flagPID}},
	{name: "check", args: "[FLAGS] [--] COMMAND", help: "print what hotinit would do with this command line, and do nothing",
		more: "It takes what starts a program, and reads the variables, too: sockets and whether each can be bound, the release and how it was checked, what is watched and how, and what this place does not have; with --programs of each program. Exit codes: 0, or 125 if hotinit would fail."},
	{name: "upgrade", args: "[FILE]", help: "replace the hotinit that runs by the executable FILE, while its app runs on",
		more:  "Without FILE it is what is now where hotinit was started from. It first runs as the handoff and proves that it can go on; a failure at any point leaves the hotinit that runs at work. FILE must be what nobody but root and hotinit's own user can change, and with --trusted-key be signed. Exit codes: 0 if it runs, 1 with the reason if it was rejected.",
		flags: []commandFlag{flagPID}},
	{name: "version", help: "print the version",
		flags: []commandFlag{{"--json", "", "print JSON, with the versions that hotinit upgrade compares"}}},
	{name: "help", args: "[COMMAND]", help: "print this help, or a command's"},
	{name: "completion", args: "SHELL", help: "print the completion script for bash, zsh or fish",
		more: "For bash: hotinit completion bash > /etc/bash_completion.d/hotinit"},
}

// findCommand finds a row by its name.
func findCommand(name string) *command {
	for i := range commands {
		if commands[i].name == name {
			return &commands[i]
		}
	}
	return nil
}

// Subcommand reports whether argv names a subcommand: its first argument is a
// name of the table. Every other command line, also `hotinit -- status`, starts
// a program.
func Subcommand(argv []string) (name string, args []string, ok bool) {
	if len(argv) < 2 || dialectOf(argv[0]).name != "" || findCommand(argv[1]) == nil {
		return "", nil, false
	}
	return argv[1], argv[2:], true
}

// SuggestCommand returns the subcommand that argv may have meant: its first
// argument is not one, and is spelled like one. It returns "" where that is not
// so. Whether such a program exists is for the caller to find out.
func SuggestCommand(argv []string) string {
	if len(argv) < 2 || dialectOf(argv[0]).name != "" || strings.HasPrefix(argv[1], "-") || strings.Contains(argv[1], "/") {
		return ""
	}
	names := make([]string, len(commands))
	for i := range commands {
		names[i] = commands[i].name
	}
	return nearest(argv[1], names)
}

// CommandWords is how many operands a subcommand takes at most.
func CommandWords(name string) int {
	c := findCommand(name)
	if c == nil {
		return 0
	}
	return len(strings.Fields(c.args))
}

// CommandUsage is the line that names what a subcommand takes.
func CommandUsage(name string) string {
	c := findCommand(name)
	if c == nil {
		return ""
	}
	words := []string{"usage: hotinit", c.name}
	for _, f := range c.flags {
		words = append(words, "["+f.written()+"]")
	}
	if c.args != "" {
		words = append(words, c.args)
	}
	return strings.Join(words, " ")
}

func (f *commandFlag) written() string {
	if f.arg == "" {
		return f.name
	}
	return f.name + " " + f.arg
}

// CommandHelp is what `hotinit help` prints: all of it without args, one command's help
// with its name.
func CommandHelp(argv0 string, args []string) (text string, err error) {
	switch len(args) {
	case 0:
		return HelpText(argv0), nil
	case 1:
		if c := findCommand(args[0]); c != nil {
			return c.helpText(), nil
		}
		hint := ""
		if like := SuggestCommand([]string{argv0, args[0]}); like != "" {
			hint = fmt.Sprintf(" (did you mean %q?)", like)
		}
		return "", fmt.Errorf("there is no command %q%s", args[0], hint)
	}
	return "", fmt.Errorf("help takes one command, not %d (%s)", len(args), CommandUsage("help"))
}

func (c *command) helpText() string {
	var b strings.Builder
	usage := CommandUsage(c.name)
	writeWrapped(&b, strings.ToUpper(usage[:1])+usage[1:])
	b.WriteString("\n")
	writeWrapped(&b, strings.ToUpper(c.help[:1])+c.help[1:]+".")
	if len(c.flags) > 0 {
		b.WriteString("\n")
		for i := range c.flags {
			writeColumns(&b, "  "+c.flags[i].written(), c.flags[i].help)
		}
	}
	if c.more != "" {
		b.WriteString("\n")
		writeWrapped(&b, c.more)
	}
	return b.String()
}

// writeWrapped writes text in lines that fit a terminal.
func writeWrapped(b *strings.Builder, text string) {
	column := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case column == 0:
		case column+1+len(word) > helpWidth:
			b.WriteString("\n")
			column = 0
		default:
			b.WriteString(" ")
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	b.WriteString("\n")
}
