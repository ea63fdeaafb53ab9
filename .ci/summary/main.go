// Command summary reads what go test -json writes and prints what a person needs:
// a line for each package, all output of the tests that failed, and at the end
// those that took longest, and each test that was skipped, with its reason. Into the file that its argument
// names it writes a line for each test that failed, "PACKAGE TEST", and "PACKAGE -"
// for a package that failed without one: it was not built, or it crashed.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// event is one of test2json, see go doc test2json.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64 // seconds
}

// slow is what a test takes to be listed, in seconds.
const slow = 10

func main() {
	type test struct{ pkg, name string }
	output := make(map[test]*strings.Builder)
	var skipped, failed []string
	var slowest []event
	failures := make(map[string]int) // tests that failed, by package
	ran := 0
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 64<<20)
	for in.Scan() {
		var e event
		if json.Unmarshal(in.Bytes(), &e) != nil {
			fmt.Println(in.Text()) // a build that failed
			continue
		}
		key := test{e.Package, e.Test}
		switch e.Action {
		case "output", "build-output":
			if e.Test == "" {
				fmt.Print(e.Output)
				continue
			}
			if output[key] == nil {
				output[key] = new(strings.Builder)
			}
			output[key].WriteString(e.Output)
		case "pass", "fail", "skip":
			if e.Test == "" {
				if e.Action == "fail" && failures[e.Package] == 0 {
					failed = append(failed, e.Package+" -")
				}
				continue
			}
			ran++
			if e.Elapsed >= slow && !strings.Contains(e.Test, "/") {
				slowest = append(slowest, e)
			}
			if e.Action == "fail" && !strings.Contains(e.Test, "/") {
				failures[e.Package]++
				failed = append(failed, e.Package+" "+e.Test)
			}
			text := ""
			if b := output[key]; b != nil {
				text = b.String()
				delete(output, key)
			}
			switch e.Action {
			case "fail":
				fmt.Print(short(text))
			case "skip":
				skipped = append(skipped, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason(text)))
			}
		}
	}
	if err := in.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "summary:", err)
		os.Exit(1)
	}
	for key, b := range output { // it never ended: its package timed out or crashed
		fmt.Printf("--- did not end: %s %s\n%s", key.pkg, key.name, short(b.String()))
	}
	for key := range output {
		failed = append(failed, key.pkg+" -")
	}
	if len(os.Args) > 1 {
		if err := os.WriteFile(os.Args[1], []byte(strings.Join(append(failed, ""), "\n")), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "summary:", err)
			os.Exit(1)
		}
	}
	slices.SortFunc(slowest, func(a, b event) int { return cmp.Compare(b.Elapsed, a.Elapsed) })
	if len(slowest) > 0 {
		fmt.Printf("\n%d tests took %d s or more:\n", len(slowest), slow)
	}
	for _, e := range slowest[:min(len(slowest), 20)] {
		fmt.Printf("  %4.0f s  %s %s\n", e.Elapsed, e.Package, e.Test)
	}
	slices.Sort(skipped)
	fmt.Printf("\n%d tests and subtests ran, %d were skipped:\n", ran-len(skipped), len(skipped))
	for _, line := range skipped {
		fmt.Println(" ", line)
	}
	for _, line := range failed { // last: what is kept of a long output is its end
		fmt.Println("failed:", line)
	}
}

// short is the beginning and the end of what a test printed.
func short(text string) string {
	const first, last = 60, 60
	all := strings.SplitAfter(text, "\n")
	if n := len(all) - first - last; n > 0 {
		all = slices.Concat(all[:first], []string{fmt.Sprintf("… %d lines …\n", n)}, all[len(all)-last:])
	}
	return strings.Join(all, "")
}

// reason is what a test said when it skipped itself: its line without the place.
func reason(text string) string {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "===") || strings.HasPrefix(line, "---") {
			continue
		}
		if place, rest, ok := strings.Cut(line, ": "); ok && strings.Contains(place, ".go:") {
			line = rest
		}
		return line
	}
	return "no reason given"
}
