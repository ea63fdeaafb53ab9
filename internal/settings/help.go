package settings

import (
	"strings"
)

const (
	helpWidth  = 80
	helpColumn = 27 // where the sentences start
)

// HelpText is what --help prints for the name that hotinit was started under.
func HelpText(argv0 string) string {
	d := dialectOf(argv0)
	var b strings.Builder
	b.WriteString("Usage: " + d.command() + " [flags] [--] COMMAND [ARG...]\n")
	if d.name == "" {
		b.WriteString(commandLines() + "\n" +
			"Run COMMAND as the init of a container, and replace it with a new release when\n" +
			"its executable changes, or on HUP, without losing a connection.\n")
	} else {
		b.WriteString("\nhotinit with the command line of " + d.name + ".\n")
	}
	group := ""
	for i := range options {
		o := &options[i]
		if o.group != "" {
			group = o.group
		}
		left := d.helpFlag(o)
		if left == "" {
			continue
		}
		if d.name == "" && group != "" {
			b.WriteString("\n" + group + ":\n")
			group = ""
		} else if group != "" && d.name != "" {
			if !strings.Contains(b.String(), "\nFlags:\n") {
				b.WriteString("\nFlags:\n")
			}
			group = ""
		}
		text := o.help
		if def := d.helpDefault(o); def != "" {
			text += " [" + def + "]"
		}
		writeColumns(&b, "  "+left, text)
	}
	if d.name == "" {
		b.WriteString("\nDefaults are in brackets. Times are seconds or have a unit: 500ms.\n" +
			"Each flag has a variable, and overrides it: HOTINIT_INTERVAL for --interval,\n" +
			"HOTINIT_PORTS=8080,9000 for two --port, HOTINIT_PATHS for --path.\n" +
			"hotinit help COMMAND says more of status, reload and the like.\n" +
			"Exit codes: the app's own; 128+N if signal N ended it; 125 if hotinit itself\n" +
			"failed; 126 if the command cannot be executed, 127 if it does not exist.\n")
	}
	return b.String()
}

// commandLines are the usage lines of the subcommands.
func commandLines() string {
	var b strings.Builder
	line := "       hotinit"
	for i, name := range commandNames() {
		word := " " + name
		if i > 0 {
			word = " |" + word
		}
		if len(line)+len(word) > helpWidth {
			b.WriteString(line + "\n")
			line = "              "
		}
		line += word
	}
	return b.String() + line + "\n"
}

// helpFlag is how d writes o: "-g, --group" or "    --port SPEC"; "" if it has
// no such flag.
func (d *dialect) helpFlag(o *option) string {
	letter := d.letter(o)
	var text string
	switch {
	case letter != 0 && d.has(o):
		text = "-" + string(letter) + ", " + o.flag()
	case letter != 0:
		text = "-" + string(letter)
	case d.has(o):
		text = "    " + o.flag()
		if d.shorts == "" {
			text = o.flag()
		}
	case d.name == "tini" && o.name == "version":
		text = "--version"
	default:
		return ""
	}
	if o.arg != "" {
		text += " " + o.arg
	}
	return text
}

// helpDefault is the default of o as d has it.
func (d *dialect) helpDefault(o *option) string {
	switch {
	case d.name == "start_server" && o.name == "signal-on-term":
		return "TERM"
	case d.name != "" && o.def == "on":
		return "" // prepare turns it off
	}
	return o.def
}

// writeColumns writes left, and text in lines beside it.
func writeColumns(b *strings.Builder, left, text string) {
	b.WriteString(left)
	column := len(left)
	if column+2 > helpColumn {
		b.WriteString("\n")
		column = 0
	}
	first := true
	for word := range strings.FieldsSeq(text) {
		switch {
		case first:
			b.WriteString(strings.Repeat(" ", helpColumn-column))
			column = helpColumn
		case column+1+len(word) > helpWidth:
			b.WriteString("\n" + strings.Repeat(" ", helpColumn))
			column = helpColumn
		default:
			b.WriteString(" ")
			column++
		}
		first = false
		b.WriteString(word)
		column += len(word)
	}
	b.WriteString("\n")
}

// Markdown is the table of options for the documentation.
func Markdown() string {
	var b strings.Builder
	d := &dialects[0]
	for i := range options {
		o := &options[i]
		if !d.has(o) {
			continue
		}
		if o.group != "" {
			b.WriteString("\n## " + o.group + "\n\n| flag | variable | default | meaning |\n| --- | --- | --- | --- |\n")
		}
		variable := ""
		if o.env != "" {
			variable = "`" + o.variable() + "`"
		}
		b.WriteString("| `" + strings.TrimSpace(d.helpFlag(o)) + "` | " + variable + " | " + o.def + " | " + cell(o.help) + " |\n")
	}
	return b.String()
}

// cell is text as a table's cell can hold it.
func cell(text string) string { return strings.ReplaceAll(text, "|", "\\|") }
