package say

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// Clean makes text from the app, or from a stranger, fit to be kept and printed:
// valid UTF-8, in one line, of at most max bytes, without control characters (a
// terminal would obey them) and without characters that change the direction of
// what surrounds them.
func Clean(s string, max int) string {
	if len(s) <= max && printable(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			r = ' '
		case !fit(r):
			r = '?'
		}
		if b.Len()+utf8.RuneLen(r) > max {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Lines cleans what is written to W, line by line, without a limit of its length.
type Lines struct{ W io.Writer }

func (l Lines) Write(b []byte) (int, error) {
	var clean []byte
	for line := range bytes.Lines(b) {
		text, ended := bytes.CutSuffix(line, []byte("\n"))
		clean = append(clean, Clean(string(text), 4*len(text)+4)...)
		if ended {
			clean = append(clean, '\n')
		}
	}
	_, err := l.W.Write(clean)
	return len(b), err
}

// fit reports whether a character may be printed. unicode.IsPrint is false for
// control characters, for those of unicode.Bidi_Control, and for separators of
// lines; the replacement character is what a range loop gives for invalid UTF-8.
func fit(r rune) bool { return r == ' ' || unicode.IsPrint(r) && r != utf8.RuneError }

func printable(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// between is how long a Seldom is silent after a line.
const between = time.Minute

// Seldom prints a line that others can cause as often as they like: once, and
// then at most once in a minute, with how many there were in between. The zero
// value is ready to use.
type Seldom struct {
	mu      sync.Mutex
	printed time.Time
	silent  int
}

// Line formats one line, and prints it if it is time to.
func (s *Seldom) Line(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.printed.IsZero() && time.Since(s.printed) < between {
		s.silent++
		return
	}
	if s.silent > 0 {
		format += " (and %d more since the last such line)"
		args = append(args[:len(args):len(args)], s.silent)
	}
	s.printed, s.silent = time.Now(), 0
	Line(format, args...)
}
