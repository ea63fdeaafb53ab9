package handoff

import (
	"testing"

	"github.com/hotinit/hotinit/internal/control"
)

func TestARequestGoesToTheProgramThatItNames(t *testing.T) {
	one, two := &program{common: &common{name: "one"}}, &program{common: &common{name: "two"}}
	s := &supervisor{programs: []*program{one, two}}
	for name, want := range map[string]*program{"one": one, "two": two, "": nil, "three": nil} {
		if got := s.find(name); got != want {
			t.Errorf("the request for %q goes to %v", name, got)
		}
	}
	s.programs = s.programs[:1]
	if s.find("") != one {
		t.Error("an only program has to be named")
	}
	var got control.Response
	s.answer(control.Request{Op: "status", Program: "two"}, func(r control.Response) bool { got = r; return true }, nil)
	if want := `there is no program "two"`; got.OK || got.Text != want {
		t.Errorf("the answer is %+v, want %s", got, want)
	}
}

func TestWhatInitKeepsIsNamedByProgram(t *testing.T) {
	l := &link{kept: map[string]int{"app/" + processName(3): 30, "app/" + releaseName("x"): 31, "web/" + processName(3): 32}}
	app := &kept{l, "app/"}
	if fd := app.take(processName(3)); fd != 30 {
		t.Errorf("app/pidfd/3 is descriptor %d", fd)
	}
	if fd := app.take(processName(3)); fd != -1 {
		t.Errorf("what was taken is there again: %d", fd)
	}
	if fd := (&kept{l, "web/"}).take("pidfd/3"); fd != 32 {
		t.Errorf("web/pidfd/3 is descriptor %d", fd)
	}
}
