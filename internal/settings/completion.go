package settings

import (
	"fmt"
	"strings"
)

// Completion is the script by which a shell completes hotinit's flags and
// subcommands; after the flags it completes as for any command.
func Completion(shell string) (string, error) {
	switch shell {
	case "bash":
		return bashCompletion(), nil
	case "zsh":
		return zshCompletion(), nil
	case "fish":
		return fishCompletion(), nil
	}
	return "", fmt.Errorf("no completion for %q: must be bash, zsh or fish", shell)
}

// complete reports how the value of a flag is completed: "file", "directory",
// or a list of words.
func (o *option) complete() string {
	switch o.name {
	case "adopt", "cgroup":
		return "auto on off"
	case "on-exit":
		return "exit restart-on-failure restart"
	case "ready":
		return "auto notify accept"
	case "dir", "envdir", "snapshot-dir", "state-dir":
		return "directory"
	}
	if o.arg == "PATH" || o.arg == "FILE" || strings.HasPrefix(o.arg, "PATH[") {
		return "file"
	}
	return ""
}

func commandNames() []string {
	var names []string
	for i := range commands {
		names = append(names, commands[i].name)
	}
	return names
}

func flagNames() (all, withValue []string) {
	for i := range options {
		o := &options[i]
		if !dialects[0].has(o) {
			continue
		}
		all = append(all, o.flag())
		if o.arg != "" {
			withValue = append(withValue, o.flag())
		}
	}
	return all, withValue
}

func bashCompletion() string {
	all, valued := flagNames()
	var b strings.Builder
	b.WriteString("# bash completion for hotinit; made by hotinit completion bash\n_hotinit() {\n" +
		"    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} i\n" +
		"    case ${COMP_WORDS[1]-} in\n")
	for i := range commands {
		c := &commands[i]
		var words []string
		for _, f := range c.flags {
			words = append(words, f.name)
		}
		switch c.name {
		case "help":
			words = commandNames()
		case "completion":
			words = []string{"bash", "zsh", "fish"}
		}
		fmt.Fprintf(&b, "    %s) if [ \"$COMP_CWORD\" -gt 1 ]; then COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return; fi ;;\n", c.name, strings.Join(words, " "))
	}
	b.WriteString("    esac\n    case $prev in\n")
	for i := range options {
		o := &options[i]
		switch how := o.complete(); {
		case !dialects[0].has(o) || o.arg == "" || how == "":
		case how == "file":
			fmt.Fprintf(&b, "    %s) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n", o.flag())
		case how == "directory":
			fmt.Fprintf(&b, "    %s) COMPREPLY=($(compgen -d -- \"$cur\")); return ;;\n", o.flag())
		default:
			fmt.Fprintf(&b, "    %s) COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;\n", o.flag(), how)
		}
	}
	b.WriteString("    esac\n" +
		"    # The first word that is no flag and no flag's value is the program.\n" +
		"    for ((i = 1; i < COMP_CWORD; i++)); do\n" +
		"        case ${COMP_WORDS[i]} in\n" +
		"        --) _command_offset $((i + 1)) 2>/dev/null; return ;;\n" +
		"        " + strings.Join(valued, "|") + ") ((i++)) ;;\n" +
		"        -*) ;;\n" +
		"        *) _command_offset $i 2>/dev/null; return ;;\n" +
		"        esac\n    done\n" +
		"    case $cur in\n" +
		"    -*) COMPREPLY=($(compgen -W '" + strings.Join(all, " ") + "' -- \"$cur\")) ;;\n" +
		"    *) COMPREPLY=($(compgen -c -- \"$cur\"))\n" +
		"       [ \"$COMP_CWORD\" -ne 1 ] || COMPREPLY+=($(compgen -W '" + strings.Join(commandNames(), " ") + "' -- \"$cur\")) ;;\n" +
		"    esac\n}\ncomplete -F _hotinit hotinit\n")
	return b.String()
}

// zshQuote makes text safe in a specification of _arguments within quotes.
func zshQuote(text string) string {
	return strings.NewReplacer("'", "'\\''", "[", "\\[", "]", "\\]", ":", "\\:").Replace(text)
}

func zshCompletion() string {
	var b strings.Builder
	b.WriteString("#compdef hotinit\n# zsh completion for hotinit; made by hotinit completion zsh\n_hotinit() {\n" +
		"    local -a commands\n    commands=(\n")
	for i := range commands {
		fmt.Fprintf(&b, "        '%s:%s'\n", commands[i].name, zshQuote(commands[i].help))
	}
	b.WriteString("    )\n    if (( CURRENT > 2 )); then\n        case $words[2] in\n")
	for i := range commands {
		c := &commands[i]
		fmt.Fprintf(&b, "        %s)\n            _arguments", c.name)
		for _, f := range c.flags {
			spec := f.name + "[" + zshQuote(f.help) + "]"
			if f.arg != "" {
				spec += ":" + f.arg + ":"
			}
			fmt.Fprintf(&b, " '%s'", spec)
		}
		switch c.name {
		case "help":
			b.WriteString(" '*:command:(" + strings.Join(commandNames(), " ") + ")'")
		case "completion":
			b.WriteString(" '*:shell:(bash zsh fish)'")
		}
		b.WriteString("\n            return ;;\n")
	}
	b.WriteString("        esac\n    fi\n    _arguments -S")
	for i := range options {
		o := &options[i]
		if !dialects[0].has(o) {
			continue
		}
		spec := "*" + o.flag() + "[" + zshQuote(o.help) + "]"
		if o.arg != "" {
			action := ""
			switch how := o.complete(); how {
			case "":
			case "file":
				action = "_files"
			case "directory":
				action = "_files -/"
			default:
				action = "(" + how + ")"
			}
			spec += ":" + zshQuote(o.arg) + ":" + action
		}
		fmt.Fprintf(&b, " \\\n        '%s'", spec)
	}
	b.WriteString(" \\\n        '1: :{ _describe command commands; _command_names -e }' \\\n        '*::arguments:_normal'\n}\n" +
		"if [ \"$funcstack[1]\" = _hotinit ]; then _hotinit \"$@\"; else compdef _hotinit hotinit; fi\n")
	return b.String()
}

func fishCompletion() string {
	quote := func(text string) string { return strings.NewReplacer("\\", "\\\\", "'", "\\'").Replace(text) }
	var b strings.Builder
	b.WriteString("# fish completion for hotinit; made by hotinit completion fish\n")
	names := strings.Join(commandNames(), " ")
	for i := range commands {
		c := &commands[i]
		fmt.Fprintf(&b, "complete -c hotinit -n '__fish_is_first_arg' -a %s -d '%s'\n", c.name, quote(c.help))
		for _, f := range c.flags {
			exclusive := ""
			if f.arg != "" {
				exclusive = " -x"
			}
			fmt.Fprintf(&b, "complete -c hotinit -n '__fish_seen_subcommand_from %s' -l %s%s -d '%s'\n", c.name, strings.TrimPrefix(f.name, "--"), exclusive, quote(f.help))
		}
	}
	fmt.Fprintf(&b, "complete -c hotinit -n '__fish_seen_subcommand_from help' -x -a '%s'\n", names)
	b.WriteString("complete -c hotinit -n '__fish_seen_subcommand_from completion' -x -a 'bash zsh fish'\n")
	for i := range options {
		o := &options[i]
		if !dialects[0].has(o) {
			continue
		}
		value := ""
		if o.arg != "" {
			switch how := o.complete(); how {
			case "":
				value = " -x"
			case "file":
				value = " -r"
			case "directory":
				value = " -x -a '(__fish_complete_directories)'"
			default:
				value = " -x -a '" + how + "'"
			}
		}
		fmt.Fprintf(&b, "complete -c hotinit -n 'not __fish_seen_subcommand_from %s' -l %s%s -d '%s'\n", names, o.name, value, quote(o.help))
	}
	b.WriteString("complete -c hotinit -n '__fish_is_first_arg' -a '(__fish_complete_command)'\n")
	return b.String()
}
