package machine

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "rewrite the traces in testdata, and the tables in docs/design.md")

// TestStories tells the machine the stories in testdata/traces. A line that is
// not indented is an event, a comment, or the policy of the story; the indented
// lines below an event are what the machine did, where that led, and which
// timers run from then on.
//
// To write another story, write its events and run
//
//	go test ./internal/machine -run Stories -update
//
// Then read the diff, line by line: -update writes down whatever the machine
// does, and nothing but your eyes tells whether it should.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/traces/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("testdata/traces has no story (%v)", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want := string(b)
			got := tellStory(t, want)
			if *update && got != want {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != want {
				t.Errorf("%s is not what happens. %s\nIf that is meant, run with -update and read the diff.", file, firstDifference(want, got))
			}
		})
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		if i >= len(w) || i >= len(g) || w[i] != g[i] {
			at := func(lines []string) string { return strings.Join(lines[min(i, len(lines)):min(i+6, len(lines))], "\n") }
			return fmt.Sprintf("From line %d on it has\n%s\nand what happens is\n%s", i+1, at(w), at(g))
		}
	}
	return ""
}

// tellStory returns a story with what the machine does after each event.
func tellStory(t *testing.T, text string) string {
	var out strings.Builder
	policy := storyPolicy()
	s := State{Next: 1}
	for i, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if strings.HasPrefix(line, "    ") {
			continue // what happened when it was told before
		}
		fmt.Fprintln(&out, line)
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		if f[0] == "policy" {
			for _, setting := range f[1:] {
				if err := setPolicy(&policy, setting); err != nil {
					t.Fatalf("line %d: %v", i+1, err)
				}
			}
			continue
		}
		if f[0] == "given" {
			if err := given(&s, f[1:]); err != nil {
				t.Fatalf("line %d: %v", i+1, err)
			}
			continue
		}
		ev, err := storyEvent(&s, &policy, f)
		if err != nil {
			t.Fatalf("line %d, %q: %v", i+1, line, err)
		}
		after, effects := Next(s, &policy, ev)
		if wrong := check(s, ev, after, effects, &policy); wrong != "" {
			t.Errorf("line %d, %q: %s", i+1, line, wrong)
		}
		for _, e := range effects {
			fmt.Fprintf(&out, "    %s\n", showEffect(e))
		}
		fmt.Fprintf(&out, "    = %s\n", showState(after))
		if timers := showTimers(after, &policy); timers != "" {
			fmt.Fprintf(&out, "    ~ %s\n", timers)
		}
		s = after
	}
	if !s.Over {
		t.Error("the story has no end: its last event gives no verdict")
	}
	return out.String()
}

// given sets what is known of a release before the first event, from --state-dir:
//
//	given RELEASE good | given RELEASE rejected REASON... | given RELEASE rolled-back
func given(s *State, f []string) error {
	if len(f) < 2 {
		return fmt.Errorf("given RELEASE WHAT")
	}
	switch f[1] {
	case "good":
		s.GoodReleases = append(s.GoodReleases, Good{Release: f[0]})
	case "rejected":
		s.Rejected = append(s.Rejected, Rejection{Release: f[0], Reason: strings.Join(f[2:], " ")})
	case "rolled-back":
		s.Rejected = append(s.Rejected, Rejection{Release: f[0], ByHand: true})
	default:
		return fmt.Errorf("a release cannot be %s", f[1])
	}
	return nil
}

// storyPolicy is what hotinit does without options.
func storyPolicy() Policy {
	return Policy{
		Interval: time.Second, ReadyTimeout: time.Minute,
		DrainTimeout: time.Minute, StopTimeout: 9 * time.Second, Probation: 10 * time.Second,
		ReloadSignal: 1, RetireSignal: 15, StopSignals: map[int]int{15: 15, 2: 2, 3: 3}, Verbosity: 1,
	}
}

// setPolicy sets one thing of a policy, written as the option it is from.
func setPolicy(p *Policy, setting string) error {
	name, value, _ := strings.Cut(setting, "=")
	durations := map[string]*time.Duration{
		"interval": &p.Interval, "ready-timeout": &p.ReadyTimeout, "kill-old-delay": &p.KillOldDelay,
		"drain-timeout": &p.DrainTimeout, "stop-timeout": &p.StopTimeout, "probation": &p.Probation,
		"auto-restart": &p.AutoRestart, "watchdog": &p.Watchdog, "max-runtime": &p.MaxRuntime,
	}
	var err error
	switch d := durations[name]; {
	case d != nil:
		*d, err = time.ParseDuration(value)
	case name == "ready":
		mode, known := map[string]ReadyMode{"interval": ReadyInterval, "auto": ReadyAuto, "accept": ReadyAccept, "notify": ReadyNotify, "other": ReadyOther}[value]
		if p.Ready = mode; !known {
			err = fmt.Errorf("there is no way to be ready called %s", value)
		}
	case setting == "on-stall=restart":
		p.OnStall = true
	case setting == "quiet":
		p.Quiet = true
	case name == "verbosity":
		p.Verbosity, err = strconv.Atoi(value)
	case setting == "on-exit=restart":
		p.OnExit = Restart
	case setting == "on-exit=restart-on-failure":
		p.OnExit = RestartOnFailure
	case setting == "retry-first":
		p.RetryFirst = true
	case setting == "retry-later":
		p.RetryFirst, p.RetryLater = true, true
	case setting == "once":
		p.Once = true
	case name == "retries":
		p.Retries, err = strconv.Atoi(value)
	case setting == "through":
		p.Through, p.LeaveTimeout = true, 10*time.Minute
	case setting == "in-turn":
		p.InTurn = true
	case setting == "rolling":
		p.Rolling = true
	case setting == "not-rolling":
		p.Rolling = false
	case name == "max-old":
		p.MaxOld, err = strconv.Atoi(value)
	case name == "signal-on-hup":
		p.RetireSignal = int(unix.SignalNum("SIG" + value))
	case name == "signal-on-term":
		p.StopSignals[15] = int(unix.SignalNum("SIG" + value))
	default:
		err = fmt.Errorf("there is no policy %s", setting)
	}
	return err
}

// storyEvent reads an event:
//
//	boot [RELEASE] | recalled RELEASE [REASON...] | resumed [N] | reload | hup | rollback [RELEASE] | traffic | renamed RELEASE NAME | dropped | noted | withdrawn RELEASE REASON... | withdrawn-swap RELEASE REASON...
//	changed [RELEASE [PATH]] | deploy RELEASE | hold | unhold | leave N | leave-ended N REASON... | leave-lost N | stop SIGNAL | signal SIGNAL | expired TIMER N
//	forked N RELEASE PID | retried N | started N RELEASE | not-started N RELEASE STATUS REASON... | main-replaced N PID
//	ready N | waits N | accepted N | notified N | blind N REASON... | blind-over N | stalled N REASON... | stall-over N
//	exited N STATUS | died N SIGNAL | empty N | beat N [DELAY] | trigger N
//
// RELEASE is - where it is not known. A timer can only expire where it runs;
// trigger is WATCHDOG=trigger, by which an app says at any time that it hangs.
func storyEvent(s *State, p *Policy, f []string) (Event, error) {
	arg := func(i int) string {
		if i < len(f) && f[i] != "-" {
			return f[i]
		}
		return ""
	}
	rest := func(i int) string { return strings.Join(f[min(i, len(f)):], " ") }
	signal := func(i int) int { return int(unix.SignalNum("SIG" + arg(i))) }
	program := map[string]Event{
		"boot": {Kind: Boot, Release: arg(1)}, "recalled": {Kind: Recalled, Release: arg(1), Reason: rest(2)}, "reload": {Kind: Reload}, "hup": {Kind: Reload, Signal: 1}, "traffic": {Kind: Traffic},
		"rollback": {Kind: Rollback, Release: arg(1)}, "changed": {Kind: Changed, Release: arg(1), Path: arg(2)},
		"renamed": {Kind: Renamed, Release: arg(1), Name: arg(2)}, "dropped": {Kind: Dropped}, "noted": {Kind: Noted}, "withdrawn": {Kind: Withdrawn, Release: arg(1), Reason: rest(2)}, "withdrawn-swap": {Kind: Withdrawn, Release: arg(1), Reason: rest(2), Swap: true}, "hold": {Kind: Hold}, "unhold": {Kind: Unhold}, "deploy": {Kind: Deployed, Release: arg(1)},
		"stop": {Kind: Halt, Signal: signal(1)}, "signal": {Kind: Relay, Signal: signal(1)},
	}
	if ev, ok := program[f[0]]; ok {
		if (ev.Kind == Halt || ev.Kind == Relay) && ev.Signal == 0 {
			return ev, fmt.Errorf("there is no signal %q", arg(1))
		}
		return ev, nil
	}
	if f[0] == "expired" {
		for _, t := range timersOf(*s, p) {
			if t.String() == rest(1) {
				return t.Event(), nil
			}
		}
		return Event{}, fmt.Errorf("this timer does not run; these do: %s", showTimers(*s, p))
	}
	n, errN := strconv.Atoi(arg(1))
	if f[0] == "resumed" && len(f) == 1 {
		return Event{Kind: Resumed}, nil
	}
	number := func(i int) (n int) {
		var err error
		if n, err = strconv.Atoi(arg(i)); err != nil {
			errN = err
		}
		return n
	}
	var ev Event
	var err error
	switch f[0] {
	case "leave", "leave-lost":
		ev.Kind = map[string]EventKind{"leave": LeaveCome, "leave-lost": LeaveLost}[f[0]]
	case "leave-ended":
		ev = Event{Kind: LeaveEnded, Reason: rest(2)}
	case "resumed":
		ev.Kind = Resumed
	case "forked":
		ev = Event{Kind: Forked, Release: arg(2), PID: number(3), Start: 1}
	case "retried":
		ev.Kind = Retried
	case "started":
		ev = Event{Kind: Started, Release: arg(2)}
	case "not-started":
		ev = Event{Kind: NotStarted, Release: arg(2), Status: number(3), Reason: strings.TrimPrefix(rest(4), "-")}
	case "main-replaced":
		ev = Event{Kind: MainReplaced, PID: number(2), Start: 2}
	case "ready", "waits", "accepted", "notified":
		ev.Kind = map[string]EventKind{"ready": Ready, "waits": Waits, "accepted": Accepted, "notified": Notified}[f[0]]
	case "blind":
		ev = Event{Kind: Blind, Reason: rest(2)}
	case "blind-over":
		ev.Kind = BlindOver
	case "stalled":
		ev = Event{Kind: Stalled, Reason: rest(2)}
	case "stall-over":
		ev.Kind = StallOver
	case "exited":
		ev = Event{Kind: Exited, Status: number(2), Reason: "exited with status " + arg(2)}
	case "died":
		ev = Event{Kind: Exited, Status: 128 + signal(2), Reason: "was killed by SIG" + arg(2)}
	case "empty":
		ev.Kind = Empty
	case "trigger":
		ev.Kind = Triggered
	case "beat":
		ev.Kind = Beat
		if arg(2) != "" {
			ev.Delay, err = time.ParseDuration(arg(2))
		}
	default:
		err = fmt.Errorf("there is no such event")
	}
	ev.N = n
	return ev, cmp.Or(errN, err)
}

func showEffect(e Effect) string {
	switch e.Kind {
	case Prepare:
		if e.Source == Held {
			return fmt.Sprintf("prepare %d: %s, which is held (%v)", e.N, e.Release, e.Cause)
		}
		return fmt.Sprintf("prepare %d: what is there (%v)", e.N, e.Cause)
	case Tell:
		return fmt.Sprintf("tell %d: %s", e.N, SignalName(e.Signal))
	case Say:
		return "say " + strconv.Quote(e.Text)
	case Outcome:
		switch {
		case e.OK && e.None:
			return "outcome, none needed: " + e.Text
		case e.OK:
			return fmt.Sprintf("outcome %d: current", e.N)
		case e.None:
			return fmt.Sprintf("outcome, none started: %s", e.Text)
		}
		return fmt.Sprintf("outcome %d: %s", e.N, e.Text)
	case Withdraw:
		return fmt.Sprintf("withdraw %s (while it was being started: %v): %s", e.Release, e.Swap, e.Text)
	case Exit:
		if e.Text != "" {
			return fmt.Sprintf("exit %d: %s", e.Status, e.Text)
		}
		return fmt.Sprintf("exit %d", e.Status)
	}
	return fmt.Sprintf("%v %d", e.Kind, e.N)
}

// showState is the situation, the generations, and what else is decided by.
func showState(s State) string {
	if s.Over {
		return "over"
	}
	parts := []string{s.Situation().String()}
	for _, g := range s.Gens {
		words := []string{strconv.Itoa(g.N), g.Phase.String(), g.Release}
		if g.PID != 0 {
			words = append(words, "PID "+strconv.Itoa(g.PID))
		}
		flags := map[string]bool{"terminated": g.Terminated, "killed": g.Killed, "proven": g.Proven, "hung": g.Hung, "stalled": g.Stalled, "overran": g.Overran}
		if g.Phase == Candidate {
			flags["waits"], flags["accepted"], flags["notified"], flags["blind"] = g.Waits, g.Accepted, g.Notified, g.Blind
		}
		sorted := len(words)
		for name, is := range flags {
			if is {
				words = append(words, name)
			}
		}
		slices.Sort(words[sorted:])
		parts = append(parts, strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " "))
	}
	note := func(is bool, text string) {
		if is {
			parts = append(parts, text)
		}
	}
	note(s.Again && s.Back, strings.TrimSpace("a rollback follows "+s.BackTo))
	note(s.Again && !s.Back, "another start follows")
	note(s.Delayed, "a change waits")
	note(s.Due, strings.TrimSpace("due ("+s.DueBy.String()+") "+s.DueTo))
	if s.Leave != NoLeave {
		note(true, fmt.Sprintf("leave %d is %s", s.LeaveN, []string{"", "asked for", "here", "given", "used"}[s.Leave]))
	}
	note(s.OnHold, strings.TrimSpace("on hold "+s.Note))
	for _, r := range s.Rejected {
		if r.ByHand {
			note(true, r.Release+" was rolled back")
		} else {
			note(true, r.Release+" is rejected")
		}
	}
	for _, g := range s.GoodReleases {
		note(true, g.Release+" is good")
	}
	for _, sig := range s.PendingSignals {
		note(true, SignalName(sig)+" is kept")
	}
	return strings.TrimRightFunc(strings.Join(parts, ", "), unicode.IsSpace)
}

func showTimers(s State, p *Policy) string {
	run := Timers(s, *p)
	var parts []string
	for _, t := range timersOf(s, p) {
		parts = append(parts, fmt.Sprintf("%v in %v", t, run[t]))
	}
	return strings.Join(parts, ", ")
}
