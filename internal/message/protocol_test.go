package message_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// explore has spin(1) walk every state that the model can reach, with so many kills.
// It returns how many violations it found, and the verifier's output.
func explore(t *testing.T, model string, kills int) (found bool, output string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "protocol.pml"), []byte(model), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, words := range [][]string{
		{"spin", "-a", fmt.Sprintf("-DKILLS=%d", kills), "-DSIGNALS=2", "protocol.pml"},
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

func readModel(t *testing.T, file string) string {
	t.Helper()
	for _, tool := range []string{"spin", "gcc"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs spin and gcc:", err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestTheProtocolSurvivesKillsAtEveryStep explores protocol.pml whole.
func TestTheProtocolSurvivesKillsAtEveryStep(t *testing.T) {
	found, output := explore(t, readModel(t, "protocol.pml"), 3)
	if found {
		t.Errorf("the protocol can go wrong (run spin -t -p -g protocol.pml on the trail):\n%s", output)
	}
	t.Log(regexp.MustCompile(`\d+ states, stored`).FindString(output))
}

// TestTheModelSeesWhatWouldBeWrong takes a step out of the protocol: each must be
// missed, or the model would prove nothing.
func TestTheModelSeesWhatWouldBeWrong(t *testing.T) {
	missed(t, readModel(t, "protocol.pml"), 3, map[string][2]string{
		"no record before the child goes on":       {"toInit ! Record, forked, seq", "skip"},
		"the pidfd is not kept":                    {":: toInit ! Keep, none, 0", ":: skip"},
		"the child does not end with its handoff":  {"pipeOpen = false;", "skip;"},
		"the next handoff does not get the record": {"startRecord = record;", "startRecord = none;"},
		"unacknowledged signals are not sent anew": {"sent = acknowledged;", "sent = received;"},
		"signals are not acknowledged":             {"seq = s;", "skip;"},
	})
}

// TestAnUpgradeSurvivesFailuresAtEveryStep explores upgrade.pml whole.
func TestAnUpgradeSurvivesFailuresAtEveryStep(t *testing.T) {
	found, output := explore(t, readModel(t, "upgrade.pml"), 4)
	if found {
		t.Errorf("an upgrade can go wrong (run spin -t -p -g upgrade.pml on the trail):\n%s", output)
	}
	t.Log(regexp.MustCompile(`\d+ states, stored`).FindString(output))
}

func TestTheModelOfAnUpgradeSeesWhatWouldBeWrong(t *testing.T) {
	missed(t, readModel(t, "upgrade.pml"), 2, map[string][2]string{
		"the newer handoff acts before init is replaced": {":: trial ->\n", ":: false ->\n"},
		"the newer handoff is told too soon":             {"stage = proving; run trial()", "stage = proving; toHandoff ! Upgraded, 0, current; run trial()"},
		"the newer handoff is not told":                  {"toHandoff ! Upgraded, 0, current\n", "skip\n"},
		"the handoff that asked acts on":                 {"(condemned && current == number);\n\t\tgoto gone", "skip"},
		"the next one starts before that one has ended":  {"-> stage = handing; condemned = true; asking = false", "-> stage = trying; asking = false; start(newer, true)"},
		"after a failure the newer handoff goes on":      {":: lives -> condemned = true\n", ":: lives -> stage = settled\n"},
		"after a failure the newer one is started":       {":: stage == returning -> stage = settled; start(version, false)", ":: stage == returning -> stage = settled; start(newer, false)"},
		"after a failure nothing is started":             {":: else -> stage = settled; start(version, false)", ":: else -> stage = settled"},
		"signals do not go along":                        {"version = newer; stage = settled;", "version = newer; stage = settled; acknowledged = received;"},
	})
}

// missed takes a step out of a model, or changes one: each must be noticed.
func missed(t *testing.T, model string, kills int, changes map[string][2]string) {
	t.Helper()
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broken := strings.Replace(model, change[0], change[1], 1)
			if broken == model {
				t.Fatalf("the model has no %q", change[0])
			}
			if found, output := explore(t, broken, kills); !found {
				t.Errorf("nothing goes wrong:\n%s", output)
			}
		})
	}
}
