package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestALimitOfProcessesThatIsTooLowIsNamed(t *testing.T) {
	dir := t.TempDir()
	for max, want := range map[string]string{
		"4\n":   "the limit of processes and threads is 4 (pids.max",
		"23\n":  "the limit of processes and threads is 23 (pids.max",
		"24\n":  "",
		"max\n": "",
		"":      "",
	} {
		if err := os.WriteFile(dir+"/pids.max", []byte(max), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := fewThreads(dir); !strings.HasPrefix(got, want) || (got == "") != (want == "") {
			t.Errorf("for %q it is %q, want %q", max, got, want)
		}
	}
	for file, want := range map[string]string{
		"../../README.md": "leave %d for", "../../docs/troubleshooting.md": "leave %d |", "../../internal/entry/limits.go": "hotinit needs %d, and the app its own",
	} {
		text, err := os.ReadFile(file)
		if want = fmt.Sprintf(want, fewestThreads); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s does not say %q: %v", file, want, err)
		}
	}
	if got := fewThreads(dir + "/none"); got != "" {
		t.Errorf("without a limit it is %q", got)
	}
}
