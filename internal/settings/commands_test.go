package settings

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestHelpOfEachCommandNamesItsFlags(t *testing.T) {
	for i := range commands {
		c := &commands[i]
		text, err := CommandHelp("hotinit", []string{c.name})
		if err != nil {
			t.Errorf("help %s: %v", c.name, err)
		}
		for _, f := range c.flags {
			if !strings.Contains(text, f.name) {
				t.Errorf("help %s does not name %s:\n%s", c.name, f.name, text)
			}
		}
		for line := range strings.Lines(text) {
			if len(strings.TrimSuffix(line, "\n")) > helpWidth {
				t.Errorf("help %s: %d columns: %s", c.name, len(line)-1, line)
			}
		}
		if !strings.Contains(HelpText("hotinit"), c.name) {
			t.Errorf("--help does not name %s", c.name)
		}
	}
}

func TestAMisspelledCommandIsProposed(t *testing.T) {
	for line, want := range map[string]string{
		"hotinit stauts":      "status",
		"hotinit relaod":      "reload",
		"hotinit rolback":     "rollback",
		"hotinit helth":       "health",
		"hotinit server":      "",
		"hotinit ./stauts":    "",
		"hotinit --stauts":    "",
		"hotinit -- stauts":   "",
		"tini stauts":         "",
		"hotinit":             "",
		"hotinit nginx -g on": "",
	} {
		if got := SuggestCommand(strings.Fields(line)); got != want {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
	if _, err := CommandHelp("hotinit", []string{"stauts"}); err == nil || !strings.Contains(err.Error(), "status") {
		t.Errorf("help stauts: %v", err)
	}
}

// TestTheManPageIsThatOfTheTables also has mandoc(1) look at it where that is
// installed.
func TestTheManPageIsThatOfTheTables(t *testing.T) {
	page := filepath.Join("..", "..", "docs", "hotinit.1")
	golden(t, page, ManPage())
	mandoc, err := exec.LookPath("mandoc")
	if err != nil {
		t.Skip("needs mandoc:", err)
	}
	if out, err := exec.Command(mandoc, "-Tlint", "-Wstyle", page).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("mandoc -Tlint: %v\n%s", err, out)
	}
}

func TestCompletionsAreGoodShell(t *testing.T) {
	for shell, check := range map[string][]string{"bash": {"-n"}, "zsh": {"-n"}, "fish": {"--no-execute"}} {
		t.Run(shell, func(t *testing.T) {
			script, err := Completion(shell)
			if err != nil {
				t.Fatal(err)
			}
			for i := range options {
				if o := &options[i]; dialects[0].has(o) && !strings.Contains(script, o.name) {
					t.Errorf("it does not complete --%s", o.name)
				}
			}
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skip("needs", shell, "to try it:", err)
			}
			file := filepath.Join(t.TempDir(), "script")
			if err := os.WriteFile(file, []byte(script), 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(path, append(check, file)...).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", shell, err, out)
			}
		})
	}
	if _, err := Completion("csh"); err == nil {
		t.Error("there is a completion for csh")
	}
}

// TestBashCompletes runs the completion as bash does.
func TestBashCompletes(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("needs bash:", err)
	}
	script, _ := Completion("bash")
	for line, want := range map[string]string{
		"hotinit stat":          "status",
		"hotinit status --j":    "--json",
		"hotinit --probat":      "--probation",
		"hotinit --on-exit ex":  "exit",
		"hotinit completion fi": "fish",
	} {
		words := strings.Fields(line)
		run := script + "COMP_WORDS=(" + line + "); COMP_CWORD=" + string(rune('0'+len(words)-1)) + "; _hotinit; printf '%s\\n' \"${COMPREPLY[@]}\""
		out, err := exec.Command(bash, "--norc", "-c", run).CombinedOutput()
		if found := strings.Fields(string(out)); err != nil || !slices.Contains(found, want) {
			t.Errorf("%s: got %q, %v, want %q among it", line, out, err, want)
		}
	}
}

// A bracket in a macro's argument is printed as it stands.
func TestTheManualHasNoBracketsOfItsOwn(t *testing.T) {
	for line := range strings.Lines(ManPage()) {
		if strings.HasPrefix(line, ".Op ") && strings.ContainsAny(line, "[]") || strings.HasPrefix(line, ".Ar [") {
			t.Errorf("mdoc(7) sets the brackets of %q itself", strings.TrimSpace(line))
		}
	}
}
