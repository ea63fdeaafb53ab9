package programs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/hotinit/hotinit/internal/settings"
)

// Definition is what one file says.
type Definition struct {
	Name   string
	Hash   string           // names what it says, but for Place: a comment that changes does not change it
	Place  string           // names what it says of the program's place among the others
	Text   []byte           // the file
	Config *settings.Config // what the program is to run with
}

// longestFile bounds a file, so that the record of a program stays small.
const longestFile = 64 << 10

// Parse reads the text of a program's file. base is what hotinit itself was given;
// file is for errors.
func Parse(base *settings.Config, name, file string, text []byte) (*Definition, error) {
	variables, err := split(text)
	var config *settings.Config
	if err == nil {
		config, err = base.ForProgram(name, variables)
	}
	if err != nil {
		var e *settings.VariableError
		if errors.As(err, &e) && e.Line > 0 {
			return nil, fmt.Errorf("%s:%d: %w", file, e.Line, err)
		}
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return &Definition{Name: name, Hash: hash(variables, false), Place: hash(variables, true), Text: text, Config: config}, nil
}

// Same reports whether two files say the same.
func (d *Definition) Same(o *Definition) bool { return d.Hash == o.Hash && d.Place == o.Place }

// hash names what variables say, whatever their order: those of the program's place
// among the others, which make no difference to what runs, or all the others.
func hash(variables []settings.Variable, place bool) string {
	last := make(map[string]string, len(variables))
	for _, v := range variables {
		switch v.Name {
		case settings.InstancesVariable:
			// How many there are changes nothing for one of them; that it is one does.
			switch {
			case place || v.Value == "":
				last[v.Name] = v.Value
			default:
				last[v.Name] = "several"
			}
		case settings.AfterVariable, settings.EssentialVariable:
			if place {
				last[v.Name] = v.Value
			}
		default:
			if !place {
				last[v.Name] = v.Value
			}
		}
	}
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(last)) {
		fmt.Fprintf(h, "%d:%s=%d:%s\n", len(name), name, len(last[name]), last[name])
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// split reads the lines of an environment file. A line is NAME=VALUE, or empty, or
// begins with # or ;. The value is what is after the first =, without the blanks at
// its end, as it is: nothing is expanded. Where all of it is in quotes these are
// taken away, as systemd does; Docker would leave them. HOTINIT_COMMAND keeps its
// quotes, they belong to its words.
func split(text []byte) ([]settings.Variable, error) {
	if i := bytes.IndexByte(text, 0); i >= 0 {
		return nil, &settings.VariableError{Line: 1 + bytes.Count(text[:i], []byte("\n")), Text: "there is a NUL in it: this is no text"}
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	var variables []settings.Variable
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.Trim(line, " \t\r\n")
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		wrong := func(format string, args ...any) error {
			return &settings.VariableError{Line: number, Text: fmt.Sprintf(format, args...)}
		}
		switch {
		case !ok:
			return nil, wrong("%q: must be NAME=VALUE, or a comment that begins with # or ;", line)
		case name == "" || strings.ContainsAny(name, " \t\"'"):
			return nil, wrong("%q: the name before = must be one word (write NAME=VALUE, without export and without blanks)", line)
		case strings.HasSuffix(value, `\`):
			return nil, wrong("%s: its value ends with a backslash, and a value is on one line (in quotes, write it twice)", name)
		}
		if name != settings.CommandVariable {
			var err error
			if value, err = unquote(value); err != nil {
				return nil, wrong("%s=%s: %v", name, strconv.Quote(value), err)
			}
		}
		variables = append(variables, settings.Variable{Name: name, Value: value, Line: number})
	}
	return variables, nil
}

// unquote takes the quotes away that all of a value is in.
func unquote(value string) (string, error) {
	if value == "" || value[0] != '"' && value[0] != '\'' {
		return value, nil
	}
	quote := value[0]
	var b strings.Builder
	for i := 1; i < len(value); i++ {
		switch c := value[i]; {
		case c == quote && i == len(value)-1:
			return b.String(), nil
		case c == quote:
			return value, fmt.Errorf("something follows the closing quote: quotes are around all of a value, or within it")
		case c == '\\' && quote == '"' && i+1 < len(value) && strings.IndexByte("\"\\$`", value[i+1]) >= 0:
			i++
			b.WriteByte(value[i])
		default:
			b.WriteByte(c)
		}
	}
	return value, fmt.Errorf("the quote at its beginning is not closed on this line")
}
