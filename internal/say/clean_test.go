package say

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

func TestCleanLeavesTextAlone(t *testing.T) {
	for _, s := range []string{"", "ready", "é 日本 — fine", strings.Repeat("x", 100)} {
		if got := Clean(s, 100); got != s {
			t.Errorf("%q becomes %q", s, got)
		}
	}
}

func TestCleanTakesOutWhatATerminalObeys(t *testing.T) {
	for s, want := range map[string]string{
		"\x1b[2J\x07":        "?[2J?",
		"a\nb\r\nc\td":       "a b  c d",
		"\x7f\x00\u009b31m":  "???31m",
		"\u202eevil\u2066":   "?evil?",
		"\xff\xfe":           "??",
		"line\u2028separate": "line?separate",
	} {
		if got := Clean(s, 100); got != want {
			t.Errorf("%q becomes %q, want %q", s, got, want)
		}
	}
}

func TestCleanCutsBetweenCharacters(t *testing.T) {
	for max := range 12 {
		got := Clean("aé日本x", max)
		if len(got) > max || !utf8.ValidString(got) || !strings.HasPrefix("aé日本x", got) {
			t.Errorf("at %d bytes it is %q", max, got)
		}
	}
}

func TestLinesKeepsLinesAndCleansThem(t *testing.T) {
	var b strings.Builder
	n, err := Lines{&b}.Write([]byte("a\x1b[2J\n\nb\xff"))
	if err != nil || n != 9 || b.String() != "a?[2J\n\nb?" {
		t.Errorf("wrote %q, %d, %v", b.String(), n, err)
	}
}

func TestNoLineCarriesControlCharacters(t *testing.T) {
	r, w := blockingPipe(t)
	withStderr(t, w, func() { Line("the app says %s", "\x1b]0;x\x07\u009b\xff\u202e") })
	w.Close()
	got, _ := io.ReadAll(r)
	if want := "hotinit: the app says ?]0;x????\n"; string(got) != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

func TestALineThatOthersCauseIsPrintedOnceAMinute(t *testing.T) {
	r, w := blockingPipe(t)
	withStderr(t, w, func() {
		synctest.Test(t, func(*testing.T) {
			var s Seldom
			for range 1000 {
				s.Line("flood of %s", "x")
			}
			time.Sleep(between)
			s.Line("flood of %s", "x")
		})
	})
	w.Close()
	got, _ := io.ReadAll(r)
	if want := "hotinit: flood of x\nhotinit: flood of x (and 999 more since the last such line)\n"; string(got) != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}
