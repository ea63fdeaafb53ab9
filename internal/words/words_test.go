package words

import (
	"slices"
	"strings"
	"testing"
)

func TestACommandIsSplitAsAShellDoes(t *testing.T) {
	for text, want := range map[string][]string{
		"app":                    {"app"},
		"  app\t-t \n x ":        {"app", "-t", "x"},
		`app 'a b' "c d"`:        {"app", "a b", "c d"},
		`app a' 'b"c"d`:          {"app", "a bcd"},
		`app '' ""`:              {"app", "", ""},
		`app a\ b \"c\' \\`:      {"app", "a b", `"c'`, `\`},
		`app "a\"b" 'a\b'`:       {"app", `a"b`, `a\b`},
		`app "it's" 'say "hi"'`:  {"app", "it's", `say "hi"`},
		`app {} $HOME * ; # | >`: {"app", "{}", "$HOME", "*", ";", "#", "|", ">"}, // there is no shell in it
		"app größe":              {"app", "größe"},
		"app \xff":               {"app", "\xff"}, // a file name may be any bytes
	} {
		if got, err := Split(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("Split(%s) = %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestSplitRefusesWhatIsNoCommand(t *testing.T) {
	for text, want := range map[string]string{
		"":         "has no command",
		" \n":      "has no command",
		`app 'a b`: "ends within a quote",
		`app "a`:   "ends within a quote",
		`app \`:    "ends within a quote",
	} {
		if got, err := Split(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Split(%s) = %q, %v, want an error with %q", text, got, err, want)
		}
	}
}

// FuzzSplit holds that words come back as they were once they are quoted.
func FuzzSplit(f *testing.F) {
	f.Add(`a 'b c' "d\"e" \  f`)
	f.Add(`{} -t '`)
	f.Fuzz(func(t *testing.T, text string) {
		words, err := Split(text)
		if err != nil {
			return
		}
		var quoted []string
		for _, w := range words {
			quoted = append(quoted, "'"+strings.ReplaceAll(w, "'", `'\''`)+"'")
		}
		again, err := Split(strings.Join(quoted, " "))
		if err != nil || !slices.Equal(again, words) {
			t.Errorf("%q is split into %q, and quoted again into %q, %v", text, words, again, err)
		}
	})
}
