package say

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestALineIsAnObject(t *testing.T) {
	at := time.Date(2027, 1, 2, 3, 4, 5, 6_700_000, time.UTC)
	now = func() time.Time { return at }
	defer func() { now = time.Now }()
	about := About{Program: "web", Called: "web: ", Generation: 2, Event: "ready"}
	for _, c := range []struct {
		about   About
		level   Level
		dropped int
		text    string
		want    string
	}{
		{about, Info, 0, "generation 2 is ready", `{"time":"2027-01-02T03:04:05.006Z","level":"info","program":"web","generation":2,"event":"ready","message":"generation 2 is ready"}`},
		{About{}, Error, 3, `a "quote" and a \`, `{"time":"2027-01-02T03:04:05.006Z","level":"error","dropped":3,"message":"a \"quote\" and a \\"}`},
		{About{}, Debug, 0, "two\nlines\x1b[31m \xff Straße", `{"time":"2027-01-02T03:04:05.006Z","level":"debug","message":"two lines?[31m ? Straße"}`},
	} {
		got := object(c.about, c.level, c.dropped, c.text)
		if string(got) != c.want+"\n" {
			t.Errorf("%s, and not %s", got, c.want)
		}
	}
}

// Whatever is said, it is one valid object of at most PIPE_BUF bytes.
func TestALineIsAnObjectWhateverIsSaid(t *testing.T) {
	for _, text := range []string{
		"", strings.Repeat(`"`, 10000), strings.Repeat(`\`, 5000), strings.Repeat("ß", 5000), strings.Repeat("€", 3000),
		"\x00\x01\u2028\u202e", `","level":"x`, strings.Repeat("\xff", 9000),
	} {
		b := object(About{Program: text, Event: text, Generation: 1 << 30}, Error, 1<<30, text)
		var fields map[string]any
		if err := json.Unmarshal(b, &fields); err != nil || len(b) > longest || bytes.Count(b, []byte("\n")) != 1 || !utf8.Valid(b) {
			t.Errorf("%.60q comes to %d bytes, %v: %.200s", text, len(b), err, b)
		}
		if fields["level"] != "error" {
			t.Errorf("%.60q: %v", text, fields)
		}
	}
}
