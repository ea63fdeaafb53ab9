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

func TestAValueThatIsMissingOrUnknownIsAnErrorOfUsage(t *testing.T) {
	for want, args := range map[string][]string{
		"the value of --timeout is missing":                   {"wait", "--timeout"},
		"the value of --for is missing":                       {"wait", "web", "--for"},
		"the value of --pid is missing":                       {"status", "--pid"},
		"the value of --program is missing":                   {"wait", "--program"},
		`cannot wait for "foo" (known: ready, swap, stopped)`: {"wait", "--for", "foo", "--pid", "1"},
		"unknown argument --group (usage: hotinit signal":     {"signal", "--group", "web", "USR1"},
	} {
		var out, errs bytes.Buffer
		if status := Command(args[0], args[1:], &out, &errs); status != 125 || !strings.Contains(errs.String(), want) {
			t.Errorf("%q: status %d, %s%s", args, status, out.String(), errs.String())
		}
	}
}

// Only that nobody is there is an end; whoever cannot say which hotinit is meant has not
// waited for it.
func TestWaitForTheEndOfANamelessHotinitIsWrong(t *testing.T) {
	t.Setenv(Variable, "nonsense")
	var out, errs bytes.Buffer
	if status := Command("wait", []string{"--for", "stopped"}, &out, &errs); status != 125 || !strings.Contains(errs.String(), "not a process ID") {
		t.Errorf("status %d: %s%s", status, &out, &errs)
	}
}
