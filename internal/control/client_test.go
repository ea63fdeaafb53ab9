package control

import (
	"bytes"
	"strings"
	"testing"
)

func TestAPIDIsReadToItsEnd(t *testing.T) {
	for _, pid := range []string{"12x", "x", "", "0", "-1", "1 2", "1.5", "99999999999999999999"} {
		var out, errs bytes.Buffer
		if status := Command("health", []string{"--pid", pid}, &out, &errs); status != 125 || !strings.Contains(errs.String(), "not a process ID") {
			t.Errorf("--pid %q: status %d, %s%s", pid, status, out.String(), errs.String())
		}
	}
}
