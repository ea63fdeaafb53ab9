package settings

import (
	"strings"
)

// ManPage is hotinit(1) in the language of mdoc(7).
func ManPage() string {
	var b strings.Builder
	line := func(parts ...string) {
		b.WriteString(strings.Join(parts, " ") + "\n")
	}
	line(".\\\" Made from the tables in internal/settings by go test ./internal/settings -update.")
	line(".Dd $Mdocdate$")
	line(".Dt HOTINIT 1")
	line(".Os")
	line(".Sh NAME")
	line(".Nm hotinit")
	line(".Nd container init that swaps its app without losing a connection")
	line(".Sh SYNOPSIS")
	line(".Nm")
	line(".Op Ar flags")
	line(".Op Fl -")
	line(".Ar command")
	line(".Op Ar argument ...")
	for i := range commands {
		c := &commands[i]
		line(".Nm")
		line(".Cm", c.name)
		for _, f := range c.flags {
			if f.arg == "" {
				line(".Op Fl", f.name[1:])
			} else {
				line(".Op Fl", f.name[1:], "Ar", f.arg)
			}
		}
		for _, word := range strings.Fields(c.args) {
			inner, optional := strings.CutPrefix(word, "[")
			inner = strings.TrimSuffix(inner, "]")
			flag, isFlag := strings.CutPrefix(inner, "-")
			switch {
			case isFlag:
				line(".Op Fl", flag)
			case optional:
				line(".Op Ar", inner)
			default:
				line(".Ar", inner)
			}
		}
	}
	line(".Sh DESCRIPTION")
	line(".Nm")
	line("runs")
	line(".Ar command")
	line("as the init of a container.")
	line("When the executable of the command changes, or on")
	line(".Dv SIGHUP ,")
	line("it starts a new generation of the command, waits until that one serves, and")
	line("only then tells the old one to exit.")
	line("A release that fails is rejected: the old generation stays, or the last good")
	line("release comes back.")
	line(".Pp")
	line("Each flag has a variable, named beside it; the flag overrides the variable.")
	line("Times are seconds, or have a unit as in 500ms or 2m.")
	open := false
	for i := range options {
		o := &options[i]
		if !dialects[0].has(o) {
			continue
		}
		if o.group != "" {
			if open {
				line(".El")
			}
			line(".Ss", roff(o.group))
			line(".Bl -tag -width Ds")
			open = true
		}
		item := ".It Fl -" + o.name
		if o.arg != "" {
			item += " Ar " + roff(o.arg)
		}
		line(item)
		line(roffLine(o.help + "."))
		if o.def != "" {
			line("Default:", roff(o.def)+".")
		}
		if o.env != "" {
			line("Variable:")
			line(".Ev", o.variable()+" .")
		}
	}
	line(".El")
	line(".Sh COMMANDS")
	line("These ask a running")
	line(".Nm .")
	line(".Bl -tag -width Ds")
	for i := range commands {
		c := &commands[i]
		line(".It Cm", c.name)
		line(roffLine(strings.ToUpper(c.help[:1]) + c.help[1:] + "."))
		if c.more != "" {
			line(roffLine(c.more))
		}
		if len(c.flags) == 0 {
			continue
		}
		line(".Bl -tag -width Ds")
		for _, f := range c.flags {
			item := ".It Fl " + f.name[1:]
			if f.arg != "" {
				item += " Ar " + f.arg
			}
			line(item)
			line(roffLine(f.help + "."))
		}
		line(".El")
	}
	line(".El")
	line(".Sh EXIT STATUS")
	line(".Bl -tag -width Ds")
	line(".It the command's own")
	line("The status of the generation that was current at the end.")
	line(".It 128+N")
	line("Signal N ended it.")
	line(".It 125")
	line(".Nm")
	line("itself failed: a bad flag, a port that cannot be bound.")
	line(".It 126")
	line("The command cannot be executed.")
	line(".It 127")
	line("The command does not exist.")
	line(".El")
	return b.String()
}

// roff escapes text for a macro's arguments.
func roff(text string) string { return strings.NewReplacer("\\", "\\e", "\"", "\\(dq").Replace(text) }

// roffLine escapes text and breaks it into lines: one that begins with a dot or
// a quote would be a macro.
func roffLine(text string) string {
	var b strings.Builder
	for sentence := range strings.SplitAfterSeq(roff(text), ". ") {
		writeWrapped(&b, sentence) // roff wants each on a line of its own
	}
	var lines []string
	for line := range strings.Lines(b.String()) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			line = "\\&" + line
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}
