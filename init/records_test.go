package pid1

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hotinit/hotinit/internal/message"
)

// started returns an init with a handoff, and the handoff's end of their link.
func started(t *testing.T) (*pid1, *message.Link) {
	t.Helper()
	p := &pid1{answers: newAnswers(), retry: stopped()}
	return p, connected(t, p)
}

// connected gives init a new handoff, that has not received the records yet.
func connected(t *testing.T, p *pid1) *message.Link {
	t.Helper()
	ours, theirs, err := message.Pair()
	if err != nil {
		t.Fatal(err)
	}
	p.hand = &handoff{link: message.NewLink(ours)}
	other := message.NewLink(theirs)
	t.Cleanup(func() { p.hand.link.Close(); other.Close() })
	return other
}

// nextHandoff returns the records that the next handoff is given, by program, as
// it receives them.
func nextHandoff(t *testing.T, p *pid1) map[string]string {
	t.Helper()
	other := connected(t, p)
	if later, err := p.open(p.hand, message.Start{}); len(later) > 0 || err != nil {
		t.Fatalf("%d messages do not fit, %v", len(later), err)
	}
	got := make(map[string]string)
	var join message.Join
	for len(got) < len(p.records) {
		if err := other.Next(func(m message.Message) {
			r, ok := m.(*message.Record)
			if !ok {
				return // Start
			}
			if state, complete := join.Add(r); complete {
				got[r.Program] = string(state)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

func equal(t *testing.T, got, want map[string]string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d records, want %d", len(got), len(want))
	}
	for program, state := range want {
		if got[program] != state {
			t.Errorf("the record of %s is %q, want %q", program, got[program], state)
		}
	}
}

func TestEachProgramHasItsOwnRecord(t *testing.T) {
	p, _ := started(t)
	p.handle(&message.Record{Program: "app", State: []byte("first")})
	p.handle(&message.Record{Program: "worker", State: []byte("other")})
	p.handle(&message.Record{Program: "app", State: []byte("second, which is longer")})
	equal(t, nextHandoff(t, p), map[string]string{"app": "second, which is longer", "worker": "other"})
	p.handle(&message.Record{Program: "app", State: []byte("3")})
	equal(t, nextHandoff(t, p), map[string]string{"app": "3", "worker": "other"})
}

// A record lies in a buffer that the next message overwrites.
func TestARecordIsCopied(t *testing.T) {
	p, _ := started(t)
	buf := []byte("app")
	p.handle(&message.Record{Program: "app", State: buf})
	copy(buf, "xxx")
	equal(t, nextHandoff(t, p), map[string]string{"app": "app"})
}

func TestARecordThatIsForgottenIsNotPassedOn(t *testing.T) {
	p, _ := started(t)
	for _, program := range []string{"app", "worker", "cron"} {
		p.handle(&message.Record{Program: program, State: []byte(program)})
	}
	p.handle(&message.Forget{Program: "worker"})
	p.handle(&message.Forget{Program: "none"})
	equal(t, nextHandoff(t, p), map[string]string{"app": "app", "cron": "cron"})
	p.handle(&message.Record{Program: "worker", State: []byte("again")})
	equal(t, nextHandoff(t, p), map[string]string{"app": "app", "cron": "cron", "worker": "again"})
}

// The record of one program may need several messages, with those of others in
// between. What a lost handoff left unfinished is dropped with it.
func TestAnUnfinishedRecordIsNone(t *testing.T) {
	p, _ := started(t)
	p.handle(&message.Record{Program: "app", State: []byte("whole")})
	p.handle(&message.Record{Program: "app", State: []byte("the first part"), More: true})
	p.handle(&message.Record{Program: "worker", State: []byte("other")})
	want := map[string]string{"app": "whole", "worker": "other"}
	equal(t, nextHandoff(t, p), want)
	p.handle(&message.Record{Program: "app", State: []byte("anew")}) // of the next handoff
	want["app"] = "anew"
	equal(t, nextHandoff(t, p), want)
}

// The signals up to a record's number are acted upon, and no other.
func TestARecordAcknowledgesTheSignalsThatItNames(t *testing.T) {
	p, other := started(t)
	for _, sig := range []unix.Signal{unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM} {
		p.queue(signal{sig: sig})
	}
	var sent []int
	for range 3 {
		if err := other.Next(func(m message.Message) { sent = append(sent, m.(*message.Signal).Signal) }); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(sent, []int{int(unix.SIGUSR1), int(unix.SIGUSR2), int(unix.SIGALRM)}) {
		t.Errorf("sent: %v", sent)
	}
	p.handle(&message.Record{Program: "app", Seq: 2, State: []byte("x"), More: true})
	if len(p.pending) != 3 {
		t.Errorf("half a record has acknowledged signals: %v", p.pending)
	}
	p.handle(&message.Record{Program: "app", Seq: 2, State: []byte("y")})
	if len(p.pending) != 1 || p.pending[0].sig != unix.SIGALRM {
		t.Errorf("pending: %v", p.pending)
	}
}

// With a thousand programs on a busy machine, to tell all of them may take longer than a
// handoff has to act upon a signal.
func TestAHandoffThatSendsSomethingDoesNotHang(t *testing.T) {
	p, _ := started(t)
	p.queue(signal{sig: unix.SIGTERM})
	p.unanswered()
	p.handle(&message.Record{Program: "app", State: []byte("told")})
	if p.unanswered(); p.answers.strikes != 0 {
		t.Error("it is killed while it tells one program after the other")
	}
	if p.unanswered(); p.answers.strikes != 1 {
		t.Error("it may hang for ever")
	}
	p.handle(&message.Record{Program: "app", State: []byte("resumed")})
	p.unanswered()
	if sig := p.unanswered(); sig != unix.SIGTERM {
		t.Errorf("each handoff hangs after a message, and hotinit does not end: %v", sig)
	}
}
