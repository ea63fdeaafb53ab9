package order

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestStories tells the stories in testdata/traces. A line that is not indented is
// an event, a comment, or the policy; the indented lines below an event are what was
// done, and where each program is then. To write another story, write its events and
// run
//
//	go test ./internal/order -run Stories -update
//
// and read the diff, line by line.
func TestStories(t *testing.T) {
	paths, err := filepath.Glob("testdata/traces/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("testdata/traces has no story (%v)", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := tell(t, string(b))
			if *update && got != string(b) {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(b) {
				t.Errorf("%s is not what happens, which is\n%s\nIf that is meant, run with -update and read the diff.", path, got)
			}
		})
	}
}

// tell returns a story with what is done after each event.
func tell(t *testing.T, text string) string {
	var out strings.Builder
	s := New(Policy{})
	for i, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if strings.HasPrefix(line, "    ") {
			continue
		}
		fmt.Fprintln(&out, line)
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		if f[0] == "policy" {
			for _, word := range f[1:] {
				switch name, value, _ := strings.Cut(word, "="); name {
				case "max-starts":
					s.MaxStarts, _ = strconv.Atoi(value)
				case "spacing":
					s.Spacing = true
				default:
					t.Fatalf("line %d: unknown policy %q", i+1, word)
				}
			}
			continue
		}
		ev, err := parseEvent(f)
		if err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		before := s.clone()
		effects := s.Next(ev)
		if wrong := check(before, ev, s, effects); wrong != "" {
			t.Errorf("line %d, %q: %s", i+1, line, wrong)
		}
		for _, e := range effects {
			fmt.Fprintf(&out, "    %s\n", strings.TrimSpace(show(e)))
		}
		var where []string
		for _, name := range s.Names() {
			p := s.Find(name)
			text := name + " " + p.Phase.String()
			switch why := s.Why(name); {
			case p.Held:
				text += " (held)"
			case why != "":
				text += " (" + why + ")"
			case p.Phase == Down && p.Result != NotRun:
				text += " (" + p.Result.String() + ")"
			}
			where = append(where, text)
		}
		fmt.Fprintf(&out, "    = %s\n", strings.Join(where, ", "))
	}
	return out.String()
}

func show(e Effect) string {
	switch e.Kind {
	case Say:
		return "say: " + e.Text
	case Finish:
		if e.Decided {
			return fmt.Sprintf("finish with %d (%s)", e.Status, e.Text)
		}
		return fmt.Sprintf("finish (%s)", e.Text)
	}
	return effectNames[e.Kind] + " " + e.Name
}

// parseEvent reads one event:
//
//	files web:after=db,cache:once -old    (programs, and with a dash those that are gone)
//	ended web 3 | began web | ready web | ... | halt | hurry | spaced
func parseEvent(f []string) (Event, error) {
	for kind, name := range eventNames {
		if name != f[0] {
			continue
		}
		ev := Event{Kind: EventKind(kind)}
		switch ev.Kind {
		case Files:
			for _, word := range f[1:] {
				if gone, ok := strings.CutPrefix(word, "-"); ok {
					ev.Gone = append(ev.Gone, gone)
					continue
				}
				parts := strings.Split(word, ":")
				spec := Spec{Name: parts[0]}
				for _, part := range parts[1:] {
					switch key, value, _ := strings.Cut(part, "="); key {
					case "after":
						spec.After = strings.Split(value, ",")
					case "once":
						spec.Once = true
					case "scheduled":
						spec.Once, spec.Scheduled = true, true
					case "essential":
						spec.Essential = true
					case "timed":
						spec.Timed = true
					case "same":
						spec.Same = true
					case "held":
						spec.Was = &Facts{Held: true}
					case "new":
						spec.Was = &Facts{}
					case "up":
						spec.Was = &Facts{Phase: Up}
					case "stopped":
						spec.Was = &Facts{Result: Stopped}
					case "stopping":
						spec.Was = &Facts{Phase: Stopping}
					case "done":
						spec.Was = &Facts{Done: true, Result: Success}
					default:
						return ev, fmt.Errorf("unknown setting %q", part)
					}
				}
				ev.Set = append(ev.Set, spec)
			}
		case Halt:
			ev.Reason = "SIGTERM"
		case Hurry, Spaced:
		default:
			if len(f) < 2 {
				return ev, fmt.Errorf("%s of whom?", f[0])
			}
			ev.Name = f[1]
			if ev.Kind == Ended {
				if len(f) < 3 {
					return ev, fmt.Errorf("ended with what?")
				}
				ev.Status, _ = strconv.Atoi(f[2])
				ev.Reason = "exited with " + f[2]
			}
		}
		return ev, nil
	}
	return Event{}, fmt.Errorf("unknown event %q", f[0])
}
