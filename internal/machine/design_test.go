package machine

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// designFile has the machine's tables, between markers.
const designFile = "../../docs/design.md"

func TestTheDesignShowsTheTables(t *testing.T) {
	b, err := os.ReadFile(designFile)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for name, table := range map[string]string{
		"generation table": generationMarkdown(&generationTable), "stopping table": generationMarkdown(&stoppingTable), "program table": programMarkdown(),
	} {
		begin, end := "<!-- "+name+": made by go test ./internal/machine -run Design -update -->\n", "<!-- end of the "+name+" -->"
		before, rest, ok := strings.Cut(text, begin)
		_, after, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			t.Fatalf("%s has no place for the %s: the lines %q and %q", designFile, name, begin, end)
		}
		text = before + begin + table + end + after
	}
	switch {
	case text == string(b):
	case *update:
		if err := os.WriteFile(designFile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s does not show the tables as they are. %s\nRun with -update and read the diff.", designFile, firstDifference(string(b), text))
	}
}

func generationMarkdown(table *[Boot][Lingering + 1]generationCell) string {
	var b strings.Builder
	var head []string
	for p := Preparing; p <= Lingering; p++ {
		head = append(head, p.String())
	}
	header(&b, "a generation that is", head)
	for ev, cells := range table {
		var texts []string
		for _, c := range cells {
			texts = append(texts, c.text)
		}
		row(&b, EventKind(ev), texts, table == &stoppingTable)
	}
	return b.String()
}

func programMarkdown() string {
	var b strings.Builder
	var head []string
	for s := Booting; s <= Stopping; s++ {
		head = append(head, s.String())
	}
	header(&b, "while it is", head)
	for ev := Boot; ev < eventKinds; ev++ {
		var texts []string
		for _, c := range programTable[ev] {
			texts = append(texts, c.text)
		}
		row(&b, ev, texts, false)
	}
	return b.String()
}

func header(b *strings.Builder, corner string, head []string) {
	fmt.Fprintf(b, "| %s | %s |\n|%s\n", corner, strings.Join(head, " | "), strings.Repeat(" --- |", len(head)+1))
}

// row prints the cells of one event, with a dash where nothing happens; a row of
// dashes alone is left out where short asks for that.
func row(b *strings.Builder, ev EventKind, texts []string, short bool) {
	nothing := true
	for i := range texts {
		if texts[i] == "" {
			texts[i] = "–"
		} else {
			nothing = false
		}
	}
	if !short || !nothing {
		fmt.Fprintf(b, "| **%v** | %s |\n", ev, strings.Join(texts, " | "))
	}
}

func TestEachCellOfTheTablesSaysWhatItDoes(t *testing.T) {
	for _, table := range []*[Boot][Lingering + 1]generationCell{&generationTable, &stoppingTable} {
		for ev, cells := range table {
			for p, c := range cells {
				if (c.do == nil) != (c.text == "") {
					t.Errorf("what happens to a generation that is %v by the event %v is done or said, but not both", Phase(p), EventKind(ev))
				}
			}
		}
	}
	for ev, cells := range programTable {
		for s, c := range cells {
			if (c.do == nil) != (c.text == "") || c.do != nil && EventKind(ev) < Boot {
				t.Errorf("what happens to a program that is %v by the event %v is done or said, but not both", Situation(s), EventKind(ev))
			}
		}
	}
}

func TestEachEventAndEffectHasAName(t *testing.T) {
	for k := EventKind(0); k < eventKinds; k++ {
		if k.String() == "" {
			t.Errorf("event %d has no name", k)
		}
	}
	if len(effectNames) != int(Exit)+1 || len(causeNames) != int(ByDeploy)+1 {
		t.Error("an effect or a cause has no name")
	}
}
