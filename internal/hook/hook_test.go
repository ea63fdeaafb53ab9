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
		got := lastLine(read)
		read.Close()
		if len(text) > 4096 {
			got = got[max(0, len(got)-4096):] // how it was cut into reads decides where a long line begins
		}
		if got != want {
			t.Errorf("the last line of %.20q is %.20q, want %.20q", text, got, want)
		}
	}
}
