package say

import (
	"strconv"
	"sync/atomic"
	"time"
)

// Level is how much a line matters.
type Level int

// The levels. Error is said at any verbosity.
const (
	Error Level = iota
	Info
	Debug
)

var levelNames = [...]string{"error", "info", "debug"}

// About says what a line is about. What is not known stays out.
type About struct {
	Program    string
	Called     string // begins the line of text, not the object
	Generation int
	Event      string
}

// asJSON says that each line is a JSON object.
var asJSON atomic.Bool

// SetJSON makes each line a JSON object from now on, or a line of text.
func SetJSON(on bool) { asJSON.Store(on) }

// IsJSON reports whether each line is an object.
func IsJSON() bool { return asJSON.Load() }

// Print prints a line, whatever the verbosity: level is what it says of itself.
func (a About) Print(level Level, format string, args ...any) { print(a, level, format, args...) }

// Line, Note and Detail are those of the package, about a.
func (a About) Line(format string, args ...any)   { print(a, Error, format, args...) }
func (a About) Note(format string, args ...any)   { a.from(Info, format, args...) }
func (a About) Detail(format string, args ...any) { a.from(Debug, format, args...) }

func (a About) from(n Level, format string, args ...any) {
	if Level(level.Load()) >= n {
		print(a, n, format, args...)
	}
}

// now is replaced by tests.
var now = time.Now

// object returns a line as a JSON object. The fields and their order are documented
// (docs/operating.md): whoever reads them relies on that.
func object(a About, level Level, dropped int, message string) []byte {
	head := append([]byte(`{"time":"`), now().UTC().Format("2006-01-02T15:04:05.000Z")...)
	head = append(append(head, `","level":"`...), levelNames[level]...)
	head = append(head, '"')
	text := func(b []byte, name, value string, most int) []byte {
		if value == "" {
			return b
		}
		b = append(append(append(b, `,"`...), name...), `":"`...)
		return append(quote(b, Clean(value, most), most), '"')
	}
	number := func(name string, n int) {
		if n != 0 {
			head = strconv.AppendInt(append(append(append(head, `,"`...), name...), `":`...), int64(n), 10)
		}
	}
	head = text(head, "program", a.Program, 256)
	number("generation", a.Generation)
	head = text(head, "event", a.Event, 64)
	number("dropped", dropped)
	const tail = len(`,"message":""}` + "\n")
	return append(text(head, "message", message, longest-len(head)-tail), '}', '\n')
}

// quote adds a clean text as JSON has it, of which only two characters are others. It
// adds most bytes at most.
func quote(b []byte, s string, most int) []byte {
	end := len(b) + most
	for _, r := range s {
		n := len(b)
		if r == '"' || r == '\\' {
			b = append(b, '\\')
		}
		if b = append(b, string(r)...); len(b) > end {
			return b[:n]
		}
	}
	return b
}
