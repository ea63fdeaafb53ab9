package message_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// explore has spin(1) walk every state that the model can reach. It returns how
// many violations it found, and the verifier's output.
func explore(t *testing.T, model string) (found bool, output string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "protocol.pml"), []byte(model), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, words := range [][]string{
		{"spin", "-a", "-DKILLS=3", "-DSIGNALS=2", "protocol.pml"},
		{"gcc", "-O1", "-DSAFETY", "-o", "pan", "pan.c"},
		{"./pan", "-m1000000"},
	} {
		c := exec.Command(words[0], words[1:]...)
		c.Dir = dir
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(words, " "), err, out)
		}
		output = string(out)
	}
	m := regexp.MustCompile(`errors: (\d+)`).FindStringSubmatch(output)
	if m == nil || strings.Contains(output, "max search depth too small") {
		t.Fatalf("the exploration did not end:\n%s", output)
	}
	return m[1] != "0", output
}

func readModel(t *testing.T) string {
	t.Helper()
	for _, tool := range []string{"spin", "gcc"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs spin and gcc:", err)
		}
	}
	b, err := os.ReadFile("protocol.pml")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestTheProtocolSurvivesKillsAtEveryStep explores protocol.pml whole.
func TestTheProtocolSurvivesKillsAtEveryStep(t *testing.T) {
	found, output := explore(t, readModel(t))
	if found {
		t.Errorf("the protocol can go wrong (run spin -t -p -g protocol.pml on the trail):\n%s", output)
	}
	t.Log(regexp.MustCompile(`\d+ states, stored`).FindString(output))
}

// TestTheModelSeesWhatWouldBeWrong takes a step out of the protocol: each must be
// missed, or the model would prove nothing.
func TestTheModelSeesWhatWouldBeWrong(t *testing.T) {
	model := readModel(t)
	for name, change := range map[string][2]string{
		"no record before the child goes on":       {"toInit ! Record, forked, seq", "skip"},
		"the pidfd is not kept":                    {":: toInit ! Keep, none, 0", ":: skip"},
		"the child does not end with its handoff":  {"pipeOpen = false;", "skip;"},
		"the next handoff does not get the record": {"startRecord = record;", "startRecord = none;"},
		"unacknowledged signals are not sent anew": {"sent = acknowledged;", "sent = received;"},
		"signals are not acknowledged":             {"seq = s;", "skip;"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broken := strings.Replace(model, change[0], change[1], 1)
			if broken == model {
				t.Fatalf("the model has no %q", change[0])
			}
			if found, output := explore(t, broken); !found {
				t.Errorf("nothing goes wrong:\n%s", output)
			}
		})
	}
}
