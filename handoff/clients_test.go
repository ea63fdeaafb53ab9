package handoff

import (
	"testing"

	"github.com/hotinit/hotinit/internal/control"
	"github.com/hotinit/hotinit/internal/machine"
)

// A client that is answered too early leaves before the steps that led to the outcome are
// said to it.
func TestAnOutcomeIsAnsweredOnceItsEventIsActedUpon(t *testing.T) {
	result := make(chan control.Response, 1)
	s := &clients{common: &common{member: true}, waiters: []waiter{{min: 2, result: result}}}
	s.outcome(machine.Effect{Kind: machine.Outcome, N: 2, Text: "it ended"})
	if len(result) != 0 || len(s.waiters) != 0 {
		t.Errorf("%d answers while the event is acted upon; %d wait", len(result), len(s.waiters))
	}
	s.deliver()
	if r := <-result; r.Text != "generation 2 was rejected: it ended" {
		t.Errorf("the answer is %q", r.Text)
	}
	s.deliver()
	if len(result) != 0 {
		t.Error("it is answered twice")
	}
}
