package handoff

import (
	"strings"
	"testing"
)

func TestTooFewOpenFilesForTheProgramsAreSaid(t *testing.T) {
	for _, c := range []struct {
		programs int
		limit    uint64
		want     string
	}{
		{0, 20, "enough for 0"},
		{248, 1024, ""},
		{249, 1024, "249 programs need about 1026 open files, and the limit is 1024, which is enough for 248"},
		{1000, 4096, ""},
		{1000, 1024, "--ulimit nofile=4030"},
	} {
		got := fewFiles(c.programs, c.limit)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%d programs, %d files: %q, want %q", c.programs, c.limit, got, c.want)
		}
	}
}
