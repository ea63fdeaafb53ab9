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
	for name, table := range map[string]string{"generation table": generationMarkdown(), "program table": programMarkdown()} {
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

func generationMarkdown() string {
	var b strings.Builder
	var head []string
	for p := Preparing; p <= Lingering; p++ {
		head = append(head, p.String())
	}
	header(&b, "a generation that is", head)
	for ev := Started; ev < Boot; ev++ {
		var cells []string
		for p := range generationTable {
			cells = append(cells, generationTable[p][ev].String())
		}
		row(&b, ev, cells)
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
	for ev := range programTable {
		var cells []string
		for _, c := range programTable[ev] {
			cells = append(cells, c.String())
		}
		row(&b, Boot+EventKind(ev), cells)
	}
	return b.String()
}

func header(b *strings.Builder, corner string, head []string) {
	fmt.Fprintf(b, "| %s | %s |\n|%s\n", corner, strings.Join(head, " | "), strings.Repeat(" --- |", len(head)+1))
}

func row(b *strings.Builder, ev EventKind, cells []string) {
	fmt.Fprintf(b, "| **%v** | %s |\n", ev, strings.Join(cells, " | "))
}

func TestEachCellOfTheTablesSaysWhatItDoes(t *testing.T) {
	for p := range generationTable {
		for ev, c := range generationTable[p] {
			if c.do == nil || c.name == "" {
				t.Errorf("a generation that is %v has nothing for the event %v", Phase(p), EventKind(ev))
			}
		}
	}
	for ev := range programTable {
		for s, c := range programTable[ev] {
			if c.do == nil || c.name == "" {
				t.Errorf("a program that is %v has nothing for the event %v", Situation(s), Boot+EventKind(ev))
			}
		}
	}
}
