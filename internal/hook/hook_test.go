package hook

import (
	"os"
	"strings"
	"testing"
)

func TestLastLineIsTheLastThatSaysSomething(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "",
		"one":                            "one",
		"one\ntwo\n":                     "two",
		"one\n \n\n":                     "one",
		strings.Repeat("x", 9000) + "\n": strings.Repeat("x", 4096),
	} {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = write.WriteString(text)
			write.Close()
		}()
		got := lastLines(read, 1)
		read.Close()
		if len(text) > 4096 {
			got = got[max(0, len(got)-4096):] // how it was cut into reads decides where a long line begins
		}
		if got != want {
			t.Errorf("the last line of %.20q is %.20q, want %.20q", text, got, want)
		}
	}
}

func TestSeveralLinesAreOneAndBounded(t *testing.T) {
	long := strings.Repeat("x", mostReason-10)
	for text, want := range map[string]string{
		"":                              "",
		"a\n":                           "a",
		"a\nb\n\nc":                     "a; b; c",
		"a\nb\nc\nd\n":                  "b; c; d",
		"first\n" + long + "\nlast\n":   long + "; last",
		"[emerg] line 3\nfailed\n \r\n": "[emerg] line 3; failed",
	} {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = write.WriteString(text)
		write.Close()
		if got := lastLines(read, 3); got != want {
			t.Errorf("of %.30q there is %.60q, want %.60q", text, got, want)
		}
		read.Close()
	}
}
