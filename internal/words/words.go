// Package words splits a command line into words.
//
// Invariant: nothing is expanded. Quotes and backslashes mean what they mean to a
// shell, and all else stands for itself: an image may have no shell.
package words

import (
	"fmt"
	"strings"
)

// Split splits a command line at its spaces.
func Split(text string) ([]string, error) {
	var out []string
	var word strings.Builder
	in := false
	quote := byte(0)
	escaped := false
	for i := range len(text) {
		switch b := text[i]; {
		case escaped:
			word.WriteByte(b)
			escaped = false
		case b == '\\' && quote != '\'':
			escaped, in = true, true
		case quote != 0:
			if b == quote {
				quote = 0
			} else {
				word.WriteByte(b)
			}
		case b == '\'' || b == '"':
			quote, in = b, true
		case b == ' ' || b == '\t' || b == '\n':
			if in {
				out = append(out, word.String())
				word.Reset()
				in = false
			}
		default:
			word.WriteByte(b)
			in = true
		}
	}
	if quote != 0 || escaped {
		return nil, fmt.Errorf("%q ends within a quote", text)
	}
	if in {
		out = append(out, word.String())
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%q has no command", text)
	}
	return out, nil
}
